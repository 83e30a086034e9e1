"""What a run's precision costs on a processor without arithmetic for it."""

from __future__ import annotations

import time

import torch

__all__ = ["advice", "bfloat16_cost"]

_SIZE = 256  # of a matrix product that takes milliseconds
_MOST = 2.0


def advice(precision: str, device: torch.device, cost: float | None = None) -> str | None:
    """Return what to say to those who train in bfloat16 where that is slower than float32; None if nothing.

    Args:
        precision: Of Lightning's trainer.
        device: That it trains on.
        cost: Of bfloat16; measured if None.
    """
    if device.type != "cpu" or not precision.startswith("bf16"):
        return None
    cost = bfloat16_cost() if cost is None else cost
    if cost <= _MOST:
        return None
    return (
        f"this processor computes a matrix product in bfloat16 {cost:.0f} times as slowly as in float32: "
        "--trainer.precision 32-true saves most of the time."
    )


def bfloat16_cost() -> float:
    """Return how many times as long as in float32 a matrix product takes in bfloat16, the best of a few."""
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(_SIZE, _SIZE, dtype=dtype, device="cpu")
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            _ = x @ x
            times.append(time.perf_counter() - begin)
        best[dtype] = min(times)
    return best[torch.bfloat16] / best[torch.float32]
