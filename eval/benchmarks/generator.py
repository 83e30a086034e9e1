#!/usr/bin/env python3
"""Tokens a second of a generator with its cache, against computing everything again for each token, in one run.

    python eval/benchmarks/generator.py
    python eval/benchmarks/generator.py --device cuda --dtype bfloat16 --size LP --tokens 256,1024 --batches 1,16

Both draw the same ids, greedily, which is checked: a row whose ids differ says so, and does not count. `network` is the
share of the cached time that the network alone takes: the same steps with the ids known, nothing drawn. Loading is
timed apart: weights are random, and made once. Best of several runs that take turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable

import torch

import zoo
from zoo.components.prior import Cache
from zoo.generator import PRESETS, GeneratorConfig, Sampling, TokenGenerator, generate

_GREEDY = Sampling(top_k=1)


def made(size: str, tokens: int, device: str, dtype: torch.dtype) -> TokenGenerator:
    """Return a generator with random weights."""
    sizes = {"nano": (4, 4, 128), **PRESETS}
    layers, heads, width = sizes[size]
    config = GeneratorConfig(
        modality="video", codebook_size=8192, max_tokens=tokens, num_layers=layers, num_heads=heads, width=width
    )
    torch.manual_seed(0)
    generator = TokenGenerator(config)
    for head in generator.heads:
        torch.nn.init.normal_(head.weight, std=0.1)
    return generator.eval().to(device, dtype)


@torch.no_grad()
def network(generator: TokenGenerator, ids: torch.Tensor) -> None:
    """Run the network as decoding does, with the ids known."""
    cache, x = Cache(ids.shape[1] + 8), generator.start(len(ids), None, None)
    for position in range(ids.shape[1]):
        columns = ids[:, position : position + 1, None]
        generator.heads[0](generator.contexts(generator.hidden(x, cache)[:, -1:], columns)[:, 0, 0])
        x = generator.embedded(columns)


def seconds(call: Callable[[], object], device: str) -> float:
    """Return how long a call takes."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="nano", choices=["nano", *PRESETS], help="%(default)s")
    parser.add_argument("--tokens", default="64,256", help="tokens of an item (%(default)s)")
    parser.add_argument("--batches", default="1,8", help="items at a time (%(default)s)")
    parser.add_argument("--device", default="cpu", help="%(default)s")
    parser.add_argument("--dtype", default="float32", help="%(default)s")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="%(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"tokenizer-zoo {zoo.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {arguments.threads} thread(s), {arguments.device}, {arguments.dtype}, "
        f"size {arguments.size}, 8192 ids"
    )
    print(f"{'tokens':>7} {'batch':>6} {'cached /s':>11} {'uncached /s':>12} {'ratio':>7} {'network':>8} {'ids':>9}")
    for tokens in map(int, arguments.tokens.split(",")):
        generator = made(arguments.size, tokens, arguments.device, getattr(torch, arguments.dtype))
        for batch in map(int, arguments.batches.split(",")):
            found = {
                is_cached: generate(generator, batch, sampling=_GREEDY, is_cached=is_cached)[0]
                for is_cached in (True, False)
            }
            calls = {
                "cached": lambda batch=batch, g=generator: generate(g, batch, sampling=_GREEDY),
                "uncached": lambda batch=batch, g=generator: generate(g, batch, sampling=_GREEDY, is_cached=False),
                "network": lambda ids=found[True], g=generator: network(g, ids),
            }
            best = dict.fromkeys(calls, float("inf"))
            for _ in range(arguments.repeats):
                for name, call in calls.items():
                    best[name] = min(best[name], seconds(call, arguments.device))
            rate = {name: batch * tokens / took for name, took in best.items()}
            same = "equal" if torch.equal(found[True], found[False]) else "DIFFERENT"
            print(
                f"{tokens:>7} {batch:>6} {rate['cached']:11.1f} {rate['uncached']:12.1f} "
                f"{rate['cached'] / rate['uncached']:7.1f} {best['network'] / best['cached']:8.0%} {same:>9}",
                flush=True,
            )
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
