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
import ctypes
import gc
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says when it starts

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import zoo

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/helpers"))

import flextok_plain
import flextok_released

SIZES = {"d12_d12": flextok_released.D12_D12, "tiny": flextok_released.TINY}
PRODUCTS = re.compile(r"aten::.*(mm|convolution|attention)(_for_cpu|_forward|_backward|_overrideable)?$")
CLOSE = 1e-4

Calls = dict[str, Callable[[], Tensor]]


def load(name: str, device: torch.device) -> tuple[zoo.Tokenizer, flextok_plain.Plain]:
    """Return a tokenizer, and the plain evaluation of the same random weights."""
    sizes = SIZES[name]
    values, tensors = flextok_released.config(sizes), flextok_released.tensors(sizes)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = zoo.load(flextok_released.write(Path(folder), values, tensors), device=device)
    return tokenizer, flextok_plain.Plain(values, {key: tensor.to(device) for key, tensor in tensors.items()})


def best(compared: Calls, times: dict[str, float], turns: int, device: torch.device) -> dict[str, float]:
    """Return each call's best time in seconds, `times` of the first ones included."""
    for _ in range(turns):
        for name, call in compared.items():
            start = time.perf_counter()
            call()
            wait(device)
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def first(call: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float, float]:
    """Return what a call returns, its seconds, and the MiB that it adds to the peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
    else:
        ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    start = time.perf_counter()
    made = call()
    wait(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else _status("VmHWM")
    return made, seconds, peak - before


def products(call: Callable[[], Tensor], device: torch.device) -> float:
    """Return the share of a call's time that goes into matrix products, convolutions and attention."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities, acc_events=True) as record:
        call()
        wait(device)
    on_device = device.type == "cuda"
    taken = {
        event.key: event.self_device_time_total if on_device else event.self_cpu_time_total
        for event in record.key_averages()
        if event.key.startswith("aten::")
    }
    return sum(value for key, value in taken.items() if PRODUCTS.fullmatch(key)) / sum(taken.values())


def wait(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _status(key: str) -> float:
    """Return a figure of the process in MiB; Linux only."""
    return float(re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def row(title: str, compared: Calls, profiled: Calls, batch: int, turns: int, device: torch.device) -> str:
    """Return lines of the table: equality, times, memory and the share of products.

    Args:
        title: What is done.
        compared: What is measured, by name.
        profiled: The same by the names of what is profiled, in the thread that calls it.
        batch: Images.
        turns: Calls of each, after the first.
        device: Where.

    Raises:
        SystemExit: What ours returns in exact mode is not what the plain evaluation returns.
    """
    made, times, memory = {}, {}, {}
    for name, call in compared.items():
        made[name], times[name], memory[name] = first(call, device)
    wanted = made["plain"]
    if wanted.is_floating_point():
        off = {name: float((value - wanted).abs().max()) for name, value in made.items()}
        is_same, said = off["ours"] <= CLOSE, {name: f"{value:.0e} off" for name, value in off.items()}
    else:
        off = {name: float((value != wanted).float().mean()) for name, value in made.items()}
        is_same, said = off["ours"] == 0, {name: f"{value:.2%} others" for name, value in off.items()}
    if not is_same:
        raise SystemExit(f"{title}: ours is not what the plain evaluation gives, {said['ours']}.")
    took = best(compared, times, turns, device)
    lines = []
    for name in compared:
        seconds, share = took[name], ""
        if name in profiled:
            share = f"{products(profiled[name], device):9.0%} {said[name]:>13}"
        lines.append(
            f"{title:24} {name:6} {seconds:9.3f} {seconds / took['plain']:8.2f} {batch / seconds:9.2f} "
            f"{memory[name]:8.0f} {share}"
        )
    return "\n".join(lines)


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
