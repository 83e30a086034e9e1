#!/usr/bin/env python3
"""Encode and decode speed and peak memory of LARP against a plain evaluation of its formulas, in one run.

    python eval/benchmarks/videos.py --turns 0                   # some minutes on one core
    python eval/benchmarks/videos.py --sizes nano                # seconds: `make bench`
    python eval/benchmarks/videos.py --device cuda --batch 8 --fast bfloat16

* plain: `tests/helpers/larp_plain.py`, which evaluates the released layout clip by clip and writes attention out.
* ours: `tokenizer.encode` and `tokenizer.decode`, the same weights, from clips to ids that depend on nothing else, and
  back. With --fast also in fast mode, of that dtype, which has whole batches in one kernel.

`products` is the share of ours that goes into matrix products, convolutions and attention, by PyTorch's profiler: what
is left is all that better code could save, short of computing less.

A model of the size of larp.L_long with random weights, 16 frames of 128 × 128 as 1,024 tokens (--sizes nano: of the
shape of recipes/larp/nano.yaml). Best of several calls, taking turns. Memory is what the first call adds to the peak of
the process. Ids must be the same but where two codes are near within 1e-4 of a cosine, of which random weights have
some, and clips to 1e-4; how far fast mode is off is only told. The speed of drawing clips is that of `generator.py`.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys
import tempfile
from pathlib import Path

import torch
from measuring import Calls, row
from torch import Tensor

import zoo

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/helpers"))

import larp_plain
import larp_released

NANO = larp_released.Sizes(8, 64, 4, 8, (3, 128, 4), (4, 128, 4), 64, 2048, 12)
SIZES = {"L_long": larp_released.L_LONG, "nano": NANO, "tiny": larp_released.TINY}


def load(name: str, device: torch.device) -> tuple[zoo.Tokenizer, larp_plain.Plain]:
    """Return a tokenizer, and the plain evaluation of the same random weights."""
    sizes = SIZES[name]
    values, tensors = larp_released.config(sizes), larp_released.tensors(sizes)
    # Those of the tests attend sharply, which twelve blocks long makes roundings grow until they decide ids.
    tensors = {key: tensor / 3 if ".attn." in key else tensor for key, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = zoo.load(larp_released.write(Path(folder), values, tensors), device=device)
    return tokenizer, larp_plain.Plain(values, {key: tensor.to(device) for key, tensor in tensors.items()})


class PlainEncoder:
    """The plain evaluation, and which of its ids are beyond the reach of rounding."""

    def __init__(self, plain: larp_plain.Plain) -> None:
        self.plain, self.vectors = plain, torch.empty(0)

    def __call__(self, clips: Tensor) -> Tensor:
        """Return the ids (B, n) of clips."""
        self.vectors = torch.stack([self.plain.vectors(clip) for clip in clips])
        return torch.stack([self.plain.ids(rows) for rows in self.vectors])

    def clear(self) -> Tensor:
        """Return whether the two nearest codes differ by more than 1e-4, (B, n)."""
        cosines = torch.nn.functional.normalize(self.vectors, dim=-1) @ self.plain.codebook().T
        best, second = cosines.topk(2).values.unbind(-1)
        return best - second > 1e-4


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=SIZES, default="L_long", help="of the model (%(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="clips (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="calls of each, after one more (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where (%(default)s)")
    parser.add_argument("--fast", choices=("float32", "bfloat16", "float16"), help="fast mode as well, in this dtype")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} thread(s)"
    print(
        f"tokenizer-zoo {zoo.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {where}, float32, batch {arguments.batch}, {arguments.sizes}"
    )
    print(f"{'':24} {'':6} {'seconds':>9} {'/ plain':>8} {'clips/s':>9} {'MiB':>8} {'products':>9} {'result':>13}")
    tokenizer, plain = load(arguments.sizes, device)
    modes = {"ours": tokenizer}
    if arguments.fast:
        modes["fast"] = copy.deepcopy(tokenizer)
        modes["fast"].is_exact = False
        modes["fast"] = modes["fast"].to_dtype(getattr(torch, arguments.fast))
    clips = larp_released.clips(arguments.batch, SIZES[arguments.sizes]).to(device)
    with torch.inference_mode():
        encoder = PlainEncoder(plain)
        compared: Calls = {"plain": lambda: encoder(clips)}
        compared |= {name: lambda one=one: one.encode(clips).ids for name, one in modes.items()}
        # The same kernels; `encode` leaves them to threads of its own, which the profiler does not see.
        kernels = {
            name: lambda one=one: one.quantizer.ids(one.vectors(clips.to(one.input_dtype)))
            for name, one in modes.items()
        }
        print(row("encode", compared, kernels, arguments.batch, arguments.turns, device, encoder.clear), flush=True)
        print(f"{'':24} {1 - float(encoder.clear().float().mean()):.2%} of the ids are within reach of rounding")
        ids = tokenizer.encode(clips).ids
        ours: Calls = {name: lambda one=one: one.decode(ids, clamp=False) for name, one in modes.items()}
        compared = {"plain": lambda: plain.decode(ids).to(device), **ours}
        print(row("decode", compared, ours, arguments.batch, arguments.turns, device), flush=True)


if __name__ == "__main__":
    main()
