"""Random numbers: seeds made of seeds, and the state of every generator that training draws from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from zoo.errors import InputError, shown

__all__ = [
    "capture",
    "derive_seed",
    "from_primitive",
    "preserved",
    "require_generator",
    "restore",
    "seed_all",
    "seeded",
    "to_primitive",
]


def derive_seed(*numbers: int) -> int:
    """Return a seed below 2⁶³ made of non-negative integers: the same for the same ones, unrelated for others."""
    # A sum would not do: it gives (seed 0, epoch 1) and (seed 1, epoch 0) the same order of items.
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seeded(seed: int) -> torch.Generator:
    """Return a generator on the CPU that starts at a seed.

    Raises:
        InputError: It is no whole number from 0 that fits in 64 bits.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise InputError(f"seed must be a whole number from 0 to 2**64 - 1, got {shown(seed)}.")
    return torch.Generator().manual_seed(seed)


def require_generator(generator: object) -> None:
    """Raise `InputError` if what a caller passes for a generator is none."""
    if not isinstance(generator, torch.Generator):
        raise InputError(
            f"generator must be a torch.Generator, got {shown(generator)}: torch.Generator().manual_seed(0) makes one."
        )


def seed_all(seed: int, *, devices: bool = True) -> None:
    """Seed the default generators of Python, NumPy and torch, those of accelerators included if `devices`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the datasets that draw from it are not ours
    if devices:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def capture(*, devices: bool = True) -> dict[str, Any]:
    """Return the state of the default generators of this process, of the current CUDA device if there is one."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002  as above
        "torch": torch.default_generator.get_state(),
    }
    if devices and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(state: Mapping[str, Any]) -> None:
    """Set the default generators to what `capture` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002  as above
    torch.default_generator.set_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def preserved() -> Iterator[None]:
    """Give the CPU's default generators back as they were."""
    state = capture(devices=False)
    try:
        yield
    finally:
        restore(state)


def to_primitive(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as tensors and plain values, which `torch.load(weights_only=True)` reads."""
    version, words, gauss = state["python"]
    name, keys, *rest = state["numpy"]
    return {
        **state,
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "name": name,
            "keys": torch.tensor(keys.astype(np.int64)),
            "rest": [rest[0], rest[1], float(rest[2])],
        },
    }


def from_primitive(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `to_primitive` was given."""
    python, numpy = state["python"], state["numpy"]
    return {
        **state,
        "python": (python["version"], tuple(python["words"].tolist()), python["gauss"]),
        "numpy": (numpy["name"], numpy["keys"].numpy().astype(np.uint32), *numpy["rest"]),
    }
