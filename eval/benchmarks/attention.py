#!/usr/bin/env python3
"""Attention in a training step, forward and backward, against PyTorch's function as it is, in one run.

    python eval/benchmarks/attention.py

* few keys: `scaled_dot_product` under bfloat16 autocast, of the sizes that the small models train with. On a CPU it
  computes up to 512 keys in float32; beyond them both are the same.
* within a reach: a layer of StableToken's encoder that has no positions, in blocks of as many rows as it reaches,
  against the same layer with the scores of all pairs.

Best of several rounds in turn; the ratio is what counts. One thread, unless OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor

import zoo
from zoo.components.layers.attention import scaled_dot_product
from zoo.families.stabletoken.encoder import SpeechEncoder

# Batch, heads, rows and width of a head: StableToken's recogniser, its decoder's two levels, and LARP's nano.
SIZES = ((8, 6, 200, 64), (12, 4, 172, 24), (12, 4, 86, 24), (4, 4, 320, 32), (4, 6, 1024, 64))


def few_keys(size: tuple[int, int, int, int]) -> measuring.Calls:
    """Return PyTorch's and our attention of one size."""
    queries, keys, values = (torch.randn(size, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))

    def call(attend: object) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            made: Tensor = attend(queries, keys, values)  # type: ignore[operator]
        made.float().square().sum().backward()
        return made

    return {"torch": lambda: call(F.scaled_dot_product_attention), "ours": lambda: call(scaled_dot_product)}


def within_reach(rows: int) -> measuring.Calls:
    """Return a layer of the nano, of 16 items of so many rows, with the scores of all pairs and in blocks."""
    config = zoo.load("stabletoken", decoder=False).config
    encoder = SpeechEncoder(config)
    x, mask = torch.randn(16, rows, 384, requires_grad=True), torch.ones(16, rows, dtype=torch.bool)

    def all_pairs() -> Tensor:
        bias = encoder.biases[0](range(rows), range(rows))
        return encoder.layers[0](x, bias.to(x.dtype))

    def call(layer: object) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            made: Tensor = layer()  # type: ignore[operator]
        made.float().square().sum().backward()
        return made

    return {"torch": lambda: call(all_pairs), "ours": lambda: call(lambda: encoder.layer(0, x, mask))}


def main() -> None:
    """Parse the command line and print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="rounds beside the first (%(default)s)")
    turns = parser.parse_args().turns
    torch.manual_seed(0)
    device = torch.device("cpu")
    cases = [(f"few keys {' × '.join(map(str, size))}", few_keys(size)) for size in SIZES]
    cases += [(f"within a reach of 32, {rows} rows", within_reach(rows)) for rows in (100, 200, 400, 1500)]
    print(f"{'':40} {'torch ms':>9} {'ours ms':>9} {'ratio':>6} {'MiB':>6} {'MiB':>6}")
    for title, calls in cases:
        times, memory = {}, {}
        for name, call in calls.items():
            call()  # what is set up once
            _, times[name], memory[name] = measuring.first(call, device)
        measuring.best(calls, times, turns, device)
        ratio = times["ours"] / times["torch"]
        print(
            f"{title:40} {1e3 * times['torch']:9.1f} {1e3 * times['ours']:9.1f} {ratio:6.2f} "
            f"{memory['torch']:6.0f} {memory['ours']:6.0f}"
        )


if __name__ == "__main__":
    main()
