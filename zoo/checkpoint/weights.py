"""The tensors of a checkpoint: what a file holds, whether it fits a model, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zoo.errors import CheckpointError, ConfigError
from zoo.strict import is_file

__all__ = [
    "Kinds",
    "collect",
    "header",
    "kinds",
    "kinds_of",
    "opened",
    "owned",
    "read",
    "require_finite",
    "require_fit",
]

Kinds = dict[str, tuple[tuple[int, ...], torch.dtype | str]]
"""Shape and dtype of each tensor by name; a dtype that this library does not read has its name in the file."""

# Tables that a constructor computes are not in the file, so nothing else bounds what a config can make them take.
_MAX_DERIVED_BYTES = 2**30

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_MOST_COMPLAINTS = 8


def collect(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module, on the CPU, each with memory of its own.

    Raises:
        CheckpointError: They have no values yet, or NaN or infinite ones.
    """
    return owned(module.state_dict(), f"this {type(module).__name__}")


def owned(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return tensors on the CPU, each with memory of its own.

    Raises:
        CheckpointError: They have no values yet, or NaN or infinite ones.
    """
    tensors: dict[str, Tensor] = {}
    seen = set()
    for key, value in state.items():
        if value.is_meta:
            raise CheckpointError(f"{key} is on the meta device and has no values: there is nothing to save.")
        tensor = value.detach().cpu().contiguous()
        # Tied weights are written once for every name, which the file format wants, and loading ties them again.
        tensors[key] = tensor.clone() if tensor.untyped_storage().data_ptr() in seen else tensor
        seen.add(tensor.untyped_storage().data_ptr())
    require_finite(tensors, where)
    return tensors


def kinds(tensors: Mapping[str, Tensor]) -> Kinds:
    """Return shape and dtype of each tensor."""
    return {key: (tuple(value.shape), value.dtype) for key, value in tensors.items()}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file.

    Raises:
        CheckpointError: It is another kind of file, whatever its name, or none, such as a pipe, which would wait.
    """
    if not is_file(path):
        raise CheckpointError(f"{path} is missing or is not a file.")
    try:
        handle = safe_open(path, framework="pt")
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}). Pickled weights are not read, whatever their name: "
            "unpickling can execute code."
        ) from error
    except RuntimeError as error:  # torch maps the file once more, by its name
        raise CheckpointError(
            f"{path} cannot be opened ({error}): if another process replaced it just now, load it again."
        ) from error
    with handle as file:
        yield file


def header(file: Any) -> Kinds:
    """Return shape and dtype of each tensor of an open file, reading no values."""
    parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
    return {
        key: (tuple(part.get_shape()), _DTYPES.get(part.get_dtype(), part.get_dtype())) for key, part in parts.items()
    }


def read(file: Any, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the tensors of an open file, or some of them."""
    return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}


def require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `CheckpointError` if a tensor has NaN or infinite values."""
    broken = [key for key, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise CheckpointError(f"{where} has NaN or infinite values in {_listed(broken, ', ')}: it is unusable.")


def require_fit(expected: Kinds, found: Kinds, where: str) -> None:
    """Raise `CheckpointError`, naming tensors, if what was found is not what the model has."""
    complaints = [f"{key} is missing" for key in expected if key not in found]
    complaints += [f"{key} is unexpected" for key in found if key not in expected]
    for key, (shape, dtype) in expected.items():
        actual_shape, actual = found.get(key, (shape, dtype))
        if actual_shape != shape:
            complaints.append(f"{key} has the shape {actual_shape} instead of {shape}")
        elif not _holds(dtype, actual):
            complaints.append(f"{key} holds {actual} values, {dtype} was expected")
    if complaints:
        raise CheckpointError(f"the tensors of {where} do not fit its config: {_listed(complaints, '; ')}.")


def _holds(expected: torch.dtype | str, found: torch.dtype | str) -> bool:
    """Whether every value of the dtype `found` is also one of `expected`, and of the same nature."""
    if expected == found or isinstance(expected, str) or isinstance(found, str):
        return expected == found
    floats = expected.is_floating_point and found.is_floating_point
    return floats and torch.promote_types(expected, found) == expected


def _listed(parts: list[str], separator: str) -> str:
    more = len(parts) - _MOST_COMPLAINTS
    return separator.join(parts[:_MOST_COMPLAINTS]) + (f"{separator}and {more} more" if more > 0 else "")


def kinds_of(skeleton: nn.Module, where: str) -> Kinds:
    """Return shape and dtype of every tensor that the weights of a module have, which may be on the meta device.

    Raises:
        ConfigError: What it computes beside them would take more memory than is plausible.
    """
    tensors: dict[str, Tensor] = skeleton.state_dict()
    derived = sum(buffer.nbytes for name, buffer in skeleton.named_buffers() if name not in tensors)
    if derived > _MAX_DERIVED_BYTES:
        raise ConfigError(
            f"{where}: its config asks for tables of {derived:.1e} bytes beside the weights; at most "
            f"{_MAX_DERIVED_BYTES} are plausible."
        )
    return kinds(tensors)
