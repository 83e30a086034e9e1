#!/usr/bin/env python3
"""Speed of the action tokenizers against the bare operations and a per-call solve, in one run.

    python eval/benchmarks/actions.py

* bare encode: `(R @ x).round()` with a precomputed float32 matrix; bare decode: `Phi @ c`. BEAST does the same and also
  checks its input, sums exactly (float64, so that ids never depend on the batch), scales, clips and builds `Tokens`.
* solve: what the public BEAST code does on every call, written here as a batched ridge solve with the basis evaluated
  by recursion each time (without its block-diagonal matrix, which is slower still).
* bare bins: an affine map, rounding, and the conversion to integers, in float64 as NumPy would do it; / bins is how
  many times that binning takes, which checks its input, finds the bin by exact edges, and builds `Tokens`.
* FAST is this library's own.

Best of many calls that take turns, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor

import zoo
from zoo.components.layers.bspline import basis, ridge_projection
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.families.binning import BinningConfig, BinningTokenizer
from zoo.families.fast import FastConfig, FastTokenizer

NUM_BASIS, DEGREE, RIDGE = 10, 4, 1e-4

# Milliseconds a call of the two public BEAST implementations (the CALVIN code, the lab's LeRobot port): encode, decode.
# Measured on another 2-core machine with one thread; a different machine, so only their order of magnitude counts.
PUBLISHED = {
    (50, 7, 1): ((23, 16), (24, 15)),
    (50, 7, 64): ((43, 18), (51, 15)),
    (50, 7, 1024): ((432, 64), (393, 87)),
    (50, 14, 1): ((24, 11), (24, 11)),
    (50, 14, 64): ((88, 28), (125, 25)),
    (50, 14, 1024): ((1540, 80), (1850, 68)),
    (100, 7, 1): ((36, 12), (24, 11)),
    (100, 7, 64): ((75, 25), (50, 17)),
    (100, 7, 1024): ((958, 99), (700, 94)),
    (100, 14, 1): ((24, 11), (44, 11)),
    (100, 14, 64): ((245, 17), (167, 16)),
    (100, 14, 1024): ((2380, 96), (3590, 97)),
}


def smooth_chunks(batch: int, horizon: int, dofs: int, seed: int = 0) -> Tensor:
    """Return sums of five sines of random phase, falling amplitude, (B, T, D)."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.linspace(0, 1, horizon)[None, :, None, None]
    k = torch.arange(1, 6)
    amplitude = torch.randn(batch, 1, dofs, 5, generator=generator) / k**1.5
    phase = torch.rand(batch, 1, dofs, 5, generator=generator) * 2 * torch.pi
    return (amplitude * torch.sin(2.5 * k * u + phase)).sum(-1) / 2


def solve(x: Tensor) -> Tensor:
    """Fit as the public code does: basis and solve anew on every call."""
    phi = basis(torch.linspace(0, 1, x.shape[1]), NUM_BASIS, DEGREE).float()
    gram = phi.T @ phi + RIDGE * torch.eye(NUM_BASIS)
    batch = gram.expand(len(x), -1, -1)
    return torch.linalg.solve(batch, phi.T @ x)


def bins(x: Tensor, centre: Tensor, half_range: Tensor) -> Tensor:
    """Return the nearest of 256 levels of each value, and nothing else."""
    return ((x.double() - centre) / half_range * 127.5).add_(127.5).round_().long()


def best(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return each call's best time in µs, taking turns for `seconds` in all."""
    times = dict.fromkeys(calls, float("inf"))
    counts = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        counts[name] = max(1, int(2e-3 / (time.perf_counter() - start)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            times[name] = min(times[name], (time.perf_counter() - start) / counts[name])
    return {name: value * 1e6 for name, value in times.items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="per row and direction (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"tokenizer-zoo {zoo.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {arguments.threads} thread(s), float32 in, N = {NUM_BASIS}, p = {DEGREE}; µs a call"
    )
    print(
        f"{'T, D':>8} {'batch':>6} {'':7}{'bare':>8} {'beast':>8} {'/ bare':>7} {'solve':>9} {'solve/beast':>12} "
        f"{'fast':>9} {'binning':>9} {'/ bins':>7} {'published ms':>14} {'× faster':>9}"
    )
    for (horizon, dofs, batch), published in PUBLISHED.items():
        data = smooth_chunks(512, horizon, dofs)
        beast = BeastTokenizer(BeastConfig(dofs, horizon, NUM_BASIS, DEGREE, ridge=RIDGE)).fit(data)
        binning = BinningTokenizer(BinningConfig(num_dofs=dofs, horizon=horizon)).fit(data)
        fast = FastTokenizer(FastConfig(num_dofs=dofs, horizon=horizon)).fit(data)
        phi = basis(torch.linspace(0, 1, horizon), NUM_BASIS, DEGREE)
        project, curve = ridge_projection(phi, RIDGE).float(), phi.float()
        x = smooth_chunks(batch, horizon, dofs, seed=1)
        points = torch.randn(batch, NUM_BASIS, dofs)
        ids = {tok: tok.encode(x) for tok in (beast, binning, fast)}
        encode = {
            "bare": lambda project=project, x=x: (project @ x).round(),
            "beast": lambda tok=beast, x=x: tok.encode(x),
            "solve": lambda x=x: solve(x),
            "fast": lambda tok=fast, x=x: tok.encode(x),
            "binning": lambda tok=binning, x=x: tok.encode(x),
            "bins": lambda tok=binning, x=x: bins(x, tok.normalizer.centre, tok.normalizer.half_range),
        }
        decode = {
            "bare": lambda curve=curve, points=points: curve @ points,
            "beast": lambda tok=beast, ids=ids: tok.decode(ids[tok]),
            "fast": lambda tok=fast, ids=ids: tok.decode(ids[tok]),
            "binning": lambda tok=binning, ids=ids: tok.decode(ids[tok]),
        }
        for verb, calls in (("encode", encode), ("decode", decode)):
            # The peers, whose calls take a hundred times as long and fill the caches, take turns by themselves.
            peers = {name: calls.pop(name) for name in ("fast", "binning", "bins") if name in calls}
            with torch.no_grad():
                took = {**best(calls, arguments.seconds), **best(peers, arguments.seconds / 3)}
            reference = min(pair[verb == "decode"] for pair in published)
            solved = f"{took['solve']:9.0f} {took['solve'] / took['beast']:12.1f}" if "solve" in took else " " * 22
            print(
                f"{horizon:>4},{dofs:>3} {batch:>6} {verb:7}{took['bare']:8.1f} {took['beast']:8.1f} "
                f"{took['beast'] / took['bare']:7.2f} {solved} {took['fast']:9.0f} {took['binning']:9.0f} "
                f"{took['binning'] / took['bins'] if 'bins' in took else float('nan'):7.2f} "
                f"{reference:>14} {reference * 1e3 / took['beast']:9.0f}",
                flush=True,
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
