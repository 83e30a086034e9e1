"""What benchmarks of whole tokenizers share: a plain evaluation and ours side by side, seconds, memory, products."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says when it starts

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

PRODUCTS = re.compile(r"aten::.*(mm|convolution|attention)(_for_cpu|_forward|_backward|_overrideable)?$")
CLOSE = 1e-4

Calls = dict[str, Callable[[], Tensor]]


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


def row(
    title: str,
    compared: Calls,
    profiled: Calls,
    batch: int,
    turns: int,
    device: torch.device,
    clear: Callable[[], Tensor] | None = None,
) -> str:
    """Return lines of the table: equality, times, memory and the share of products.

    Args:
        title: What is done.
        compared: What is measured, by name.
        profiled: The same by the names of what is profiled, in the thread that calls it.
        batch: Images or clips.
        turns: Calls of each, after the first.
        device: Where.
        clear: Asked behind the first calls: of which ids rounding does not decide, all if None.

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
        counted = torch.ones_like(wanted, dtype=torch.bool) if clear is None else clear()
        off = {name: float((value != wanted)[counted].float().mean()) for name, value in made.items()}
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
