"""Building modules as in a fresh process, while other threads go on with theirs.

Constructors of modules ask the process for a dtype, a device and random numbers. Setting these for a moment would
change what other threads compute, and two that set and restore them at once leave a wrong one behind. So nothing is set
here: the calls that ask are answered, in the calling thread alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["fresh"]

# What makes floating tensors unless it is told otherwise …
_FLOATING = {
    *(torch.empty, torch.empty_permuted, torch.empty_strided, torch.eye, torch.linspace, torch.logspace, torch.ones),
    *(torch.rand, torch.randn, torch.range, torch.scalar_tensor, torch.zeros),
    *(torch.bartlett_window, torch.blackman_window, torch.hamming_window, torch.hann_window, torch.kaiser_window),
    *(torch.fft.fftfreq, torch.fft.rfftfreq),
}
# … and what does if it is given floating Python numbers.
_INFERRING = {torch.arange, torch.as_tensor, torch.asarray, torch.full, torch.tensor}
_INTEGER = {torch.randint, torch.randperm, torch.tril_indices, torch.triu_indices}
_MAKING = _FLOATING | _INFERRING | _INTEGER
_DRAWING = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal),
    *(torch.rand_like, torch.randn_like, torch.randint_like, torch.bernoulli, torch.binomial, torch.multinomial),
    torch.poisson,
    *(Tensor.bernoulli, Tensor.bernoulli_, Tensor.cauchy_, Tensor.exponential_, Tensor.geometric_, Tensor.log_normal_),
    *(Tensor.multinomial, Tensor.normal_, Tensor.random_, Tensor.uniform_),
}


@contextmanager
def fresh(device: torch.device | str = "cpu", seed: int = 0) -> Iterator[None]:
    """Build modules as in a fresh process, seeded with `seed`; nobody else is concerned, in no thread.

    Tensors that a constructor makes are float32 and on `device` unless it says otherwise, whatever the default dtype
    and device. Their random numbers do not come from the process's generator, although they are those that it would
    give after `torch.manual_seed(seed)`. Nor are they inference tensors, which could never be trained.

    Promotions of integers, such as `torch.arange(3) / 2`, follow the process's default dtype, as does the untyped
    `torch.Tensor(3)`: write a dtype there.

    Args:
        device: `"cpu"`, or `"meta"` for shapes without values.
        seed: Of the random numbers.
    """
    with torch.inference_mode(False), _Fresh(device, seed):
        yield


class _Fresh(TorchFunctionMode):  # a stack of these belongs to a thread
    def __init__(self, device: torch.device | str, seed: int) -> None:
        super().__init__()
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = dict(kwargs or {})
        if func in _MAKING and arguments.get("device") is None:
            arguments["device"] = _own_device(func, args, arguments) or self.device
        # Functions of `torch.nn.init` state their generator; what they are called changes where others wrap them.
        draws = func in _DRAWING or "generator" in arguments
        if draws and (filled := _filled(func, args, arguments)) is not None and filled.is_meta:
            return filled  # without values; torch would first import its compiler, which takes seconds
        if draws and arguments.get("generator") is None and _is_drawn_on_cpu(args, arguments):
            arguments["generator"] = self.generator
        if torch.get_default_dtype() is not torch.float32 and _lacks_dtype(args, arguments):
            if func in _FLOATING:
                arguments["dtype"] = torch.float32
            elif func in _INFERRING and not _brings_dtype(args, arguments):
                try:
                    made = func(*args, **arguments)
                    if made.dtype is not torch.get_default_dtype():
                        return made
                except RuntimeError:  # a number that the default dtype cannot hold
                    pass
                arguments["dtype"] = torch.float32
        return func(*args, **arguments)


def _own_device(func: Any, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> torch.device | None:
    """Return where the tensor is that is passed on as it is, or copied."""
    data = _data(args, arguments) if func in (torch.as_tensor, torch.asarray, torch.tensor) else None
    return data.device if isinstance(data, Tensor) else None


def _filled(func: Any, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> Tensor | None:
    """Return the tensor that a function draws numbers into."""
    tensor = args[0] if args else arguments.get("tensor")
    return tensor if func.__name__.endswith("_") and isinstance(tensor, Tensor) else None


def _is_drawn_on_cpu(args: tuple[Any, ...], arguments: Mapping[str, Any]) -> bool:
    place = arguments.get("device")
    tensor = args[0] if args else arguments.get("tensor", arguments.get("input"))
    if place is None and isinstance(tensor, Tensor):
        place = tensor.device
    return place is None or torch.device(place).type == "cpu"


def _lacks_dtype(args: tuple[Any, ...], arguments: Mapping[str, Any]) -> bool:
    return arguments.get("dtype") is None and not any(isinstance(value, torch.dtype) for value in args)


def _brings_dtype(args: tuple[Any, ...], arguments: Mapping[str, Any]) -> bool:
    """Whether the data are no Python numbers, but an array, a tensor or one number of them."""
    return hasattr(_data(args, arguments), "dtype")


def _data(args: tuple[Any, ...], arguments: Mapping[str, Any]) -> Any:
    return args[0] if args else arguments.get("data", arguments.get("obj"))
