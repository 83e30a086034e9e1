#!/usr/bin/env python3
"""Encode time of the quantizers against vector-quantize-pytorch and the bare torch operations, in one run.

    python eval/benchmarks/quantizers.py

* bare: what has to be computed at the least, without any promise: one product and one argmax for a codebook, tanh and
  rounding or a sign and a sum of digits without one. Its ids near ties change with the batch size and the threads.
* ours: `quantizer.ids(z)`, whose ids do not.
* library: `vector_quantize_pytorch`'s module in eval mode, under `inference_mode`. It also returns codes and losses.

Random normal vectors; codebooks likewise. Best of many calls, interleaved, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor

import zoo
from zoo.components.quantizers import Quantizer, build

Calls = dict[str, Callable[[], object]]


def bare_vq(z: Tensor, codebook: Tensor, bias: Tensor) -> Tensor:
    """Return argmin_k |z - e_k|², from z·e - |e|²/2."""
    return torch.addmm(bias, z, codebook.T).argmax(1)


def bare_rvq(z: Tensor, codebooks: list[Tensor], biases: list[Tensor]) -> Tensor:
    """Return the ids of all stages."""
    ids = []
    for codebook, bias in zip(codebooks, biases, strict=True):
        ids.append(bare_vq(z, codebook, bias))
        z = z - codebook[ids[-1]]
    return torch.stack(ids, 1)


def bare_fsq(z: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
    """Return the mixed-radix number of the rounded values."""
    shift, width, offset, middle, powers = tables
    return (((z + shift).tanh() * width - offset).round().to(torch.int64).add(middle) * powers).sum(-1)


def bare_lfq(z: Tensor, powers: Tensor) -> Tensor:
    """Return the number of the signs."""
    return ((z > 0) * powers).sum(-1)


def vq_case(size: int, dim: int, num: int) -> tuple[str, Tensor, Calls]:
    """Return title, vectors and calls of one codebook."""
    from vector_quantize_pytorch import VectorQuantize

    ours = build({"kind": "vq", "codebook_size": size, "dim": dim}).eval()
    library = VectorQuantize(dim=dim, codebook_size=size).eval()
    codebook = torch.randn(size, dim)
    with torch.no_grad():
        ours.codebook.copy_(codebook)
        library.codebook = codebook
    z, bias = torch.randn(num, dim), -codebook.square().sum(1) / 2
    return (
        f"VQ {size} × {dim}",
        z,
        {
            "bare": lambda: bare_vq(z, codebook, bias),
            "ours": lambda: ours.ids(z),
            "library": lambda: library(z[None])[1],
        },
    )


def rvq_case(stages: int, size: int, dim: int, num: int) -> tuple[str, Tensor, Calls]:
    """Return title, vectors and calls of a residual quantizer, its later codebooks ever smaller."""
    from vector_quantize_pytorch import ResidualVQ

    stage = {"kind": "vq", "codebook_size": size, "dim": dim}
    ours = build({"kind": "residual", "num_stages": stages, "stage": stage}).eval()
    library = ResidualVQ(dim=dim, num_quantizers=stages, codebook_size=size).eval()
    codebooks = [torch.randn(size, dim) * 0.9**k for k in range(stages)]
    with torch.no_grad():
        for codebook, mine, theirs in zip(codebooks, ours.stages, library.layers, strict=True):
            mine.codebook.copy_(codebook)
            theirs.codebook = codebook
    z, biases = torch.randn(num, dim), [-codebook.square().sum(1) / 2 for codebook in codebooks]
    return (
        f"RVQ {stages} × {size} × {dim}",
        z,
        {
            "bare": lambda: bare_rvq(z, codebooks, biases),
            "ours": lambda: ours.ids(z),
            "library": lambda: library(z[None])[1],
        },
    )


def fsq_case(levels: list[int], num: int) -> tuple[str, Tensor, Calls]:
    """Return title, vectors and calls of finite scalar quantization; ours takes tanh from σ, which is faster."""
    from vector_quantize_pytorch import FSQ

    ours, library = build({"kind": "fsq", "levels": levels}), FSQ(levels).eval()
    size = torch.tensor(levels)
    width, offset, powers = (
        (size - 1) * 1.001 / 2,
        (1 - size % 2) / 2,
        [math.prod(levels[:i]) for i in range(len(levels))],
    )
    tables = (torch.atanh(offset / width), width, offset, size // 2, torch.tensor(powers))
    z = torch.randn(num, len(levels))
    return (
        f"FSQ {','.join(map(str, levels))}",
        z,
        {
            "bare": lambda: bare_fsq(z, tables),
            "ours": lambda: ours.ids(z),
            "library": lambda: library(z[None])[1],
        },
    )


def lfq_case(bits: int, num: int) -> tuple[str, Tensor, Calls]:
    """Return title, vectors and calls of lookup-free quantization."""
    from vector_quantize_pytorch import LFQ

    ours, library = build({"kind": "lfq", "num_bits": bits}), LFQ(dim=bits, codebook_size=2**bits).eval()
    z, powers = torch.randn(num, bits), 2 ** torch.arange(bits)
    return (
        f"LFQ {bits} bits",
        z,
        {
            "bare": lambda: bare_lfq(z, powers),
            "ours": lambda: ours.ids(z),
            "library": lambda: library(z[None])[1],
        },
    )


def uniform_case(levels: int, dim: int, num: int) -> tuple[str, Tensor, Calls]:
    """Return title, vectors and calls of a uniform grid, which the library does not have."""
    ours = build({"kind": "uniform", "dim": dim, "levels": levels}).eval()
    z = torch.randn(num, dim).clamp(-1, 1)

    def bare() -> Tensor:
        return ((z + 1) * ((levels - 1) / 2)).round().to(torch.int64)

    return f"uniform {levels} × {dim}", z, {"bare": bare, "ours": lambda: ours.ids(z)}


def voting_case(dim: int, bits: int, voters: int, num: int) -> tuple[str, Tensor, Calls]:
    """Return title, vectors and calls of voting lookup-free quantization, which the library does not have."""
    ours: Quantizer = build({"kind": "voting_lfq", "dim": dim, "num_bits": bits, "num_voters": voters}).eval()
    z, powers = torch.randn(num, dim), 2 ** torch.arange(bits)

    def bare() -> Tensor:
        return bare_lfq(ours.branches(z).view(num, voters, bits).sign().mean(1), powers)

    return f"Voting LFQ {voters} × {bits} × {dim}", z, {"bare": bare, "ours": lambda: ours.ids(z)}


def best(calls: Calls, seconds: float) -> dict[str, float]:
    """Return each call's best time in seconds, taking turns for `seconds` in all, three turns at least."""
    times = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    end, turns = time.perf_counter() + seconds, 0
    while turns < 3 or time.perf_counter() < end:
        turns += 1
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="per row (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(
        f"tokenizer-zoo {zoo.__version__}, torch {torch.__version__}, vector-quantize-pytorch "
        f"{version('vector-quantize-pytorch')}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{arguments.threads} thread(s), float32; µs a vector"
    )
    print(f"{'':26} {'vectors':>8} {'bare':>8} {'ours':>8} {'library':>8} {'ours/bare':>10} {'ours/library':>13}")
    cases = [
        *(vq_case(1024, 128, num) for num in (256, 4096)),
        *(vq_case(8192, 256, num) for num in (256, 1024)),
        rvq_case(8, 1024, 128, 1024),
        *(fsq_case([8, 8, 8, 5, 5, 5], num) for num in (1024, 16384)),
        *(lfq_case(13, num) for num in (1024, 16384)),
        uniform_case(256, 14, 16384),
        voting_case(1280, 13, 5, 1500),
    ]
    for title, z, calls in cases:
        with torch.inference_mode():
            took = {name: 1e6 * value / len(z) for name, value in best(calls, arguments.seconds).items()}
        library = took.get("library", float("nan"))
        print(
            f"{title:26} {len(z):8} {took['bare']:8.3f} {took['ours']:8.3f} {library:8.3f} "
            f"{took['ours'] / took['bare']:10.2f} {took['ours'] / library:13.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
