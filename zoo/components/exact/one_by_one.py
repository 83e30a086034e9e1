"""Where the same numbers give the same result, bit for bit: one thread a kernel, full precision.

A float kernel rounds as its loops run, and these depend on the shape it is given, on how many threads share it, and on
process-wide switches that trade precision for speed. A sign that is decided close to zero then depends on them too.
Here a kernel sees the shapes that one item has alone, and one thread; the work is shared between threads by giving
each thread kernels of its own. So a result is a function of the item, whatever is in the batch and however many
threads there are, and no core idles.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Protocol, TypeVar

import torch

__all__ = ["Run", "any_attention", "canonical", "same_kernels"]

A = TypeVar("A")
R = TypeVar("R")


class Run(Protocol):
    """Applies a function to each item, perhaps at the same time, and returns the results in order."""

    def __call__(self, function: Callable[[A], R], items: Iterable[A], /) -> list[R]:
        """Return [function(item) for item in items]."""


def canonical(device: torch.device, most_workers: int, work: Callable[[Run], R]) -> R:
    """Do some work whose kernels depend on their inputs alone; it records no gradients.

    On the CPU it is done by threads that are kept for this and have one thread a kernel for good, so that no number of
    threads, neither the caller's nor the process's, changes for a moment. Elsewhere the caller issues all kernels.

    Args:
        device: Where the inputs are.
        most_workers: How many threads could be busy at the same time; there are no more than the caller has
            (`torch.get_num_threads()`).
        work: It is given a `Run`, for what can be computed at the same time.

    Returns:
        What `work` returns.
    """
    with same_kernels:
        if device.type != "cpu":
            return _plainly(work, _inline)
        return _Shared(min(torch.get_num_threads(), most_workers)).do(work)


def _inline(function: Callable[[A], R], items: Iterable[A]) -> list[R]:
    return [function(item) for item in items]


def _plainly(function: Callable[[A], R], argument: A) -> R:
    # Both settings belong to a thread.
    with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        return function(argument)


class _Shared:
    """Work that is shared between the thread that does it and `workers` - 1 more."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.is_given_up = False

    def do(self, work: Callable[[Run], R]) -> R:
        job = _threads.submit(_plainly, work, self.run)
        try:
            result: R = job.result()
        except BaseException:  # an interrupt of the caller as well
            self.is_given_up = True
            wait([job])
            raise
        return result

    def run(self, function: Callable[[A], R], items: Iterable[A]) -> list[R]:
        waiting = deque(enumerate(items))
        results: dict[int, R] = {}

        def take(_: None = None) -> None:
            while waiting and not self.is_given_up:
                try:
                    number, item = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    results[number] = function(item)
                except BaseException:
                    waiting.clear()  # nobody goes on
                    raise

        helpers = [_threads.submit(_plainly, take, None) for _ in range(min(self.workers, len(waiting)) - 1)]
        try:
            take()
            for helper in helpers:
                helper.result()
        finally:
            waiting.clear()
            wait(helpers)
        if self.is_given_up:
            raise InterruptedError("the caller was interrupted.")
        return [results[number] for number in range(len(results))]


class _Threads:
    """Threads with one thread a kernel: as many as were ever busy at once. They are kept, since starting costs time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(2**15, "zoo-exact", self._single)

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        return self.pool.submit(function, *arguments)

    def _single(self) -> None:
        """Have one thread from now on.

        What a thread sets is its own number, and the one that threads begin with that are started later. The latter is
        put back at once, and by another thread, as this one's would change with it.
        """
        with self.lock:
            number = torch.get_num_threads()  # the process's, since this thread has just begun
            torch.set_num_threads(1)
            other = threading.Thread(target=torch.set_num_threads, args=(number,))
            other.start()
            other.join()


_Switch = tuple[Callable[[], Any], Callable[[Any], Any], Any]  # reads it, sets it, and what is wanted


class _Switches:
    """Has switches of the process set while anyone is inside: the first to enter saves them, the last restores them.

    Args:
        list_them: Returns the switches.
        within: Others that are set as well.
    """

    def __init__(self, list_them: Callable[[], list[_Switch]], within: _Switches | None = None) -> None:
        self.list_them = list_them
        self.within = within
        self.lock = threading.Lock()
        self.users = 0
        self.saved: list[tuple[Callable[[Any], Any], Any]] = []

    def begin_anew(self) -> None:
        """Leave for all threads that are inside, of which there are none any more."""
        self.lock = threading.Lock()
        users, self.users = self.users, 0
        if users:
            self._restore()

    def __enter__(self) -> None:
        if self.within is not None:
            self.within.__enter__()
        with self.lock:
            if not self.users:
                switches = self.list_them()
                self.saved = [(switch, read()) for read, switch, _ in switches]
                for _, switch, value in switches:
                    switch(value)
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self._restore()
        if self.within is not None:
            self.within.__exit__()

    def _restore(self) -> None:
        for switch, value in self.saved:
            switch(value)


def _attention() -> list[_Switch]:
    cuda: Any = torch.backends.cuda
    kinds = ("flash", "mem_efficient", "math", "cudnn")
    return [(getattr(cuda, f"{kind}_sdp_enabled"), getattr(cuda, f"enable_{kind}_sdp"), True) for kind in kinds]


def _precision() -> list[_Switch]:
    backends: Any = torch.backends
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    kinds = (mkldnn.matmul, mkldnn.conv, cuda.matmul, cudnn.conv)
    attributes: list[tuple[Any, str, Any]] = [(kind, "fp32_precision", "ieee") for kind in kinds]
    attributes += [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    return [(partial(getattr, *each[:2]), partial(setattr, *each[:2]), each[2]) for each in attributes]


any_attention = _Switches(_attention)
"""A context: inside it all kernels of attention are allowed, of which not every one can do everything."""

same_kernels = _Switches(_precision, any_attention)
"""A context: inside it a kernel depends on its inputs, and on how many threads share it, but on no switch.

Float32 is computed in all its bits, and by the kernel that is always taken: switched off is what would take fewer bits,
or whichever kernel was faster, and switched on are all kernels of attention, of which each rounds in its own way.
"""

_threads = _Threads()


def _begin_anew() -> None:
    """Forget, in a process that was forked, the threads of the one it comes from: they are not here."""
    global _threads
    _threads = _Threads()
    same_kernels.begin_anew()
    any_attention.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
