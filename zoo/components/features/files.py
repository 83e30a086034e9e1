"""Weights of frozen networks on the disk: safetensors, read strictly."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import CheckpointError
from zoo.resources import expanded
from zoo.strict import is_file

__all__ = ["fill", "read_safetensors"]

_MOST_COMPLAINTS = 8


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        CheckpointError: It is not there, or another kind of file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = expanded(path, CheckpointError)
    if not is_file(path):
        raise CheckpointError(f"{path} is not a file: give the path of a *.safetensors file with the weights.")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({error}). Pickled weights are not read, unpickling can execute "
            "code: convert them, or download the file again if it was safetensors."
        ) from error
    return tensors


def fill(network: nn.Module, tensors: Mapping[str, Tensor], where: str, unused: Collection[str] = ()) -> None:
    """Copy tensors into a network of which each must be given, by name and in its shape.

    Args:
        network: What to fill.
        tensors: By the network's own names.
        where: What they were read from, for error messages.
        unused: Names, or starts of names that end in a dot, of tensors that may be there though the network has none.

    Raises:
        CheckpointError: A tensor is missing, unexpected, of another shape, or has NaN or infinite values.
    """
    own = network.state_dict()
    starts = tuple(name for name in unused if name.endswith("."))
    complaints = [f"{name} is missing" for name in own if name not in tensors]
    for name, tensor in tensors.items():
        if name not in own:
            if name not in unused and not name.startswith(starts):
                complaints.append(f"{name} is unexpected")
        elif tensor.shape != own[name].shape:
            complaints.append(f"{name} has the shape {tuple(tensor.shape)} instead of {tuple(own[name].shape)}")
        elif not bool(tensor.isfinite().all()):
            complaints.append(f"{name} has NaN or infinite values")
    if complaints:
        more = len(complaints) - _MOST_COMPLAINTS
        listed = "; ".join(complaints[:_MOST_COMPLAINTS]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(f"the tensors of {where} do not fit the network: {listed}. Give the file made for it.")
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(tensors[name])
