"""Where the same numbers give the same result, bit for bit: one thread a kernel, full precision.

A float kernel rounds as its loops run, and these depend on the shape it is given, on how many threads share it, and on
process-wide switches that trade precision for speed. A sign that is decided close to zero then depends on them too.
Here a kernel sees the shapes that one item has alone, and one thread; the work is shared between threads by giving
each thread kernels of its own. So a result is a function of the item, whatever is in the batch and however many
threads there are, and no core idles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import torch

__all__ = ["Run", "canonical", "same_kernels"]

A = TypeVar("A")
R = TypeVar("R")


class Run(Protocol):
    """Applies a function to each item, perhaps at the same time, and returns the results in order."""

    def __call__(self, function: Callable[[A], R], items: Iterable[A], /) -> list[R]:
        """Return [function(item) for item in items]."""


@contextmanager
def canonical(device: torch.device, most_workers: int) -> Iterator[Run]:
    """Give a `Run` whose kernels depend on their inputs alone; it records no gradients.

    Args:
        device: Where the inputs are. On the CPU there are as many workers as the caller has threads
            (`torch.get_num_threads()`); elsewhere the caller issues all kernels.
        most_workers: How many could be busy at the same time.
    """
    threads = torch.get_num_threads()
    workers = min(threads, most_workers) if device.type == "cpu" else 1
    with same_kernels:
        try:
            if workers == 1:
                _single_thread()
                yield _inline
            else:
                with ThreadPoolExecutor(workers, initializer=_single_thread) as pool:
                    yield lambda function, items: list(pool.map(lambda item: _plainly(function, item), items))
        finally:
            # The number that one thread sets is also what threads that are started later begin with.
            torch.set_num_threads(threads)


def _inline(function: Callable[[A], R], items: Iterable[A]) -> list[R]:
    return [_plainly(function, item) for item in items]


def _plainly(function: Callable[[A], R], item: A) -> R:
    # Both settings belong to a thread.
    with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        return function(item)


def _single_thread() -> None:
    torch.get_num_threads()  # a thread takes over the process's number when it first asks; later it keeps its own
    torch.set_num_threads(1)


class _SameKernels:
    """Has float32 computed in all its bits, and by the kernel that is always taken, while anyone is inside.

    Switched off is what would take fewer bits, or whichever kernel was faster; switched on are all kernels of
    attention, of which each rounds in its own way, and not every one can do everything. The switches belong to the
    process, so the first to enter saves them and the last to leave restores them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.saved: list[tuple[Callable[[Any], Any], Any]] = []

    def __enter__(self) -> None:
        backends: Any = torch.backends
        cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
        kinds = (mkldnn.matmul, mkldnn.conv, cuda.matmul, cudnn.conv)
        attributes = [(kind, "fp32_precision", "ieee") for kind in kinds]
        attributes += [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
        wanted = [(partial(getattr, *each[:2]), partial(setattr, *each[:2]), each[2]) for each in attributes]
        wanted += [
            (getattr(cuda, f"{kind}_sdp_enabled"), getattr(cuda, f"enable_{kind}_sdp"), True)
            for kind in ("flash", "mem_efficient", "math", "cudnn")
        ]
        with self.lock:
            if not self.users:
                self.saved = [(switch, read()) for read, switch, _ in wanted]
                for _, switch, value in wanted:
                    switch(value)
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                for switch, value in self.saved:
                    switch(value)


same_kernels = _SameKernels()
"""A context: inside it a kernel depends on its inputs, and on how many threads share it, but on no switch."""
