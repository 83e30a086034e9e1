#!/usr/bin/env python3
"""Encode and decode speed and peak memory of TexTok against a plain evaluation of its formulas, in one run.

    python eval/benchmarks/captioned.py                             # 176 million parameters: minutes on one core
    python eval/benchmarks/captioned.py --sizes nano --batch 16
    python eval/benchmarks/captioned.py --device cuda --batch 32 --fast bfloat16

* plain: `tests/helpers/textok_plain.py`, which evaluates whole batches, captions padded to the longest and masked.
* ours: `tokenizer.encode` and `tokenizer.decode`, the same weights and states of captions, from images to ids that
  depend on image and caption alone, and back. With --fast also in fast mode, of that dtype.

Captions are states of 8 to `text_len` tokens. Random weights but for nano. Best of several calls, taking turns. Memory
is what the first call adds to the peak of the process; `products` is the share of ours that goes into matrix products
and attention. Ids of plain may differ where a number is within rounding of a boundary; images must be the same to 1e-4.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path

import torch
from measuring import Calls, row

import zoo
from zoo.components.quantizers import FSQConfig
from zoo.components.text import PrecomputedConfig
from zoo.families.textok import TexTokConfig, TexTokTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/helpers"))

from textok_plain import Plain

FSQ = FSQConfig((8, 8, 8, 5, 5, 5))


def load(name: str) -> TexTokTokenizer:
    """Return a tokenizer, in which nothing is zero."""
    if name == "nano":
        return zoo.load("textok.nano")
    torch.manual_seed(0)
    config = TexTokConfig(quantizer=FSQ)
    return TexTokTokenizer(replace(config, text=PrecomputedConfig(config.text_dim), null_rate=0.1)).eval()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=("paper", "nano"), default="paper", help="of the model (%(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="images (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="calls of each, after one more (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where (%(default)s)")
    parser.add_argument("--fast", choices=("float32", "bfloat16", "float16"), help="fast mode as well, in this dtype")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} thread(s)"
    tokenizer = load(arguments.sizes).to(device)
    config = tokenizer.config
    print(
        f"tokenizer-zoo {zoo.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {where}, float32, batch {arguments.batch}, {arguments.sizes}, "
        f"{tokenizer.num_parameters:,} parameters"
    )
    print(f"{'':24} {'':6} {'seconds':>9} {'/ plain':>8} {'images/s':>9} {'MiB':>8} {'products':>9} {'result':>13}")
    plain = Plain(config, tokenizer.state_dict())
    modes = {"ours": tokenizer}
    if arguments.fast:
        modes["fast"] = copy.deepcopy(tokenizer)
        modes["fast"].is_exact = False
        modes["fast"] = modes["fast"].to_dtype(getattr(torch, arguments.fast))
    generator = torch.Generator().manual_seed(0)
    side = config.image_size
    images = torch.rand(arguments.batch, 3, side, side, generator=generator).to(device)
    lengths = torch.randint(8, config.text_len + 1, (arguments.batch,), generator=generator)
    rows = [torch.randn(int(length), config.text_dim, generator=generator) for length in lengths]
    states = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    mask = (torch.arange(states.shape[1]) < lengths[:, None]).to(device)
    given = {"states": states, "mask": mask}
    with torch.inference_mode():
        tokens = tokenizer.encode(images, **given)
        codes = tokenizer.quantizer.codes(tokens.ids)
        compared: Calls = {"plain": lambda: tokenizer.quantizer.ids(plain.encode(images, states, mask))}
        ours: Calls = {name: lambda one=one: one.encode(images, **given).ids for name, one in modes.items()}
        # The same kernels; `encode` leaves them to threads of its own, which the profiler does not see.
        kernels: Calls = {
            name: lambda one=one: one.quantizer.ids(one.moments(images, one.text_of(rows)))
            for name, one in modes.items()
        }
        print(row("encode", compared | ours, kernels, arguments.batch, arguments.turns, device), flush=True)
        compared = {"plain": lambda: plain.decode(codes, states, mask)}
        ours = {
            name: lambda one=one: one.decode(tokens.ids, **given, clamp=False).float() for name, one in modes.items()
        }
        print(row("decode", compared | ours, ours, arguments.batch, arguments.turns, device), flush=True)


if __name__ == "__main__":
    main()
