#!/usr/bin/env python3
"""Encode and decode speed and peak memory of FlexTok against a plain evaluation of its formulas, in one run.

    python eval/benchmarks/images.py                             # 25 steps: ten minutes on one core
    python eval/benchmarks/images.py --steps 2 --turns 0         # a minute or two: `make bench`
    python eval/benchmarks/images.py --device cuda --batch 32 --fast bfloat16

* plain: `tests/helpers/flextok_plain.py`, which evaluates the released layout module by module, and each branch of
  guidance in a call of its own, as FlexTok's formulas are usually written down. It knows whole batches only.
* ours: `tokenizer.encode` and `tokenizer.decode`, the same weights, from images to ids that depend on nothing else, and
  back with both branches of guidance in one call. With --fast also in fast mode, of that dtype.

`products` is the share of ours that goes into matrix products, convolutions and attention, by PyTorch's profiler: what
is left is all that better code could save, short of computing less.

A model of the size of flextok.d12_d12_in1k with random weights (--sizes tiny: one that fits in a test). Best of several
calls, taking turns. Memory is what the first call adds to the peak of the process. Ids must be the same, and images to
1e-4; how far fast mode is off is only told.
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

import zoo

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/helpers"))

import flextok_plain
import flextok_released

SIZES = {"d12_d12": flextok_released.D12_D12, "tiny": flextok_released.TINY}


def load(name: str, device: torch.device) -> tuple[zoo.Tokenizer, flextok_plain.Plain]:
    """Return a tokenizer, and the plain evaluation of the same random weights."""
    sizes = SIZES[name]
    values, tensors = flextok_released.config(sizes), flextok_released.tensors(sizes)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = zoo.load(flextok_released.write(Path(folder), values, tensors), device=device)
    return tokenizer, flextok_plain.Plain(values, {key: tensor.to(device) for key, tensor in tensors.items()})


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=SIZES, default="d12_d12", help="of the model (%(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="of the flow (%(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="images (%(default)s)")
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
    print(f"{'':24} {'':6} {'seconds':>9} {'/ plain':>8} {'images/s':>9} {'MiB':>8} {'products':>9} {'result':>13}")
    tokenizer, plain = load(arguments.sizes, device)
    modes = {"ours": tokenizer}
    if arguments.fast:
        modes["fast"] = copy.deepcopy(tokenizer)
        modes["fast"].is_exact = False
        modes["fast"] = modes["fast"].to_dtype(getattr(torch, arguments.fast))
    sizes = SIZES[arguments.sizes]
    images = flextok_released.images(arguments.batch, sizes).to(device)
    noise = flextok_released.noise(arguments.batch, sizes).to(device)
    keep = torch.full((arguments.batch,), sizes.registers, device=device)
    with torch.inference_mode():
        ids = plain.encode(images)
        compared: Calls = {"plain": lambda: plain.encode(images)}
        compared |= {name: lambda one=one: one.encode(images).ids for name, one in modes.items()}
        # The same kernels; `encode` leaves them to threads of its own, which the profiler does not see.
        kernels = {name: lambda one=one: one.quantizer.ids(one.vectors(images)) for name, one in modes.items()}
        print(row("encode", compared, kernels, arguments.batch, arguments.turns, device), flush=True)
        for title, scale in (("decode", 1.0), ("decode, guided", 7.5)):
            options = {"steps": arguments.steps, "guidance": scale, "adaptive_guidance": True}
            compared = {"plain": lambda scale=scale: plain.decode(ids, keep, noise, arguments.steps, scale, scale != 1)}
            ours = {
                name: lambda one=one, options=options: one.decode(ids, keep, noise=noise, clamp=False, **options)
                for name, one in modes.items()
            }
            title = f"{title}, {arguments.steps} steps"
            print(row(title, compared | ours, ours, arguments.batch, arguments.turns, device), flush=True)


if __name__ == "__main__":
    main()
