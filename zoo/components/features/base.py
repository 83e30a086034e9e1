"""What a frozen network is to those who look through it: features by layer, a name, a licence, a digest of weights."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import CheckpointError, ConfigError, InputError, near_matches

__all__ = ["FeatureNetwork", "ImageInput", "captured", "require_modules", "weights_digest"]


class FeatureNetwork(nn.Module, ABC):
    """A network that is looked through and never trained.

    Its weights are no part of what it stands in: `parameters()`, `state_dict()`, `train()` and `requires_grad_()` of a
    module that holds one do not see them, so that no optimiser, average of weights, checkpoint or count of parameters
    has them, and a checkpoint loads strictly with or without it. They can be had again by name and compared by digest.
    `to()` moves them like any other weights. Gradients flow to the input and stop there.

    Precision is the caller's: autocast is honoured, and features come back in float32 whatever it was.

    Attributes:
        name: What results call it; it tells the architecture and where the weights are from.
        licence: Of the weights, as an SPDX identifier or a sentence.
        layers: What `features` returns, in its order.
    """

    name: str
    licence: str
    layers: tuple[str, ...]

    def __init__(self, network: nn.Module, name: str, licence: str, layers: Sequence[str]) -> None:
        super().__init__()
        if not layers or len(set(layers)) != len(layers):
            raise ConfigError(f"{name} needs the layers to return, each once, got {list(layers)}.")
        self.name = name
        self.licence = licence
        self.layers = tuple(layers)
        self._digest: str | None = None
        # In a tuple, where nn.Module does not look for weights.
        self._frozen = (network.eval().requires_grad_(False),)

    @property
    def network(self) -> nn.Module:
        """The network itself, in evaluation mode."""
        return self._frozen[0]

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: name, dtype, shape and values of each tensor, wherever they lie."""
        if self._digest is None:
            self._digest = weights_digest(self.network.state_dict())
        return self._digest

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the layers make of a batch.

        Args:
            x: As the class says; normalised here, not by the caller.

        Returns:
            Float32 tensors (B, C, ...) by name of layer: positions, if there are any, follow the channels.

        Raises:
            InputError: The batch has another shape or dtype than the class takes.
        """
        found = self._features(self._prepared(x))
        return {layer: found[layer].float() for layer in self.layers}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return `features(x)`."""
        return self.features(x)

    @abstractmethod
    def _prepared(self, x: Tensor) -> Tensor:
        """Check a batch and normalise it as the network was trained."""

    @abstractmethod
    def _features(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return the layers of a batch that is ready for the network."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._digest = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return f"{self.name}, layers={list(self.layers)}, frozen"


@dataclass(frozen=True)
class ImageInput:
    """How a network wants pictures, which callers have as (B, 3, H, W) in 0…1.

    Attributes:
        mean: Subtracted from each channel.
        std: What each channel is then divided by.
        size: Height and width they are resized to, bicubic and with antialiasing; None leaves them.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return pictures (B, 3, H, W) in 0…1 as the network wants them.

        Values outside 0…1, which a decoder makes, are taken as they are, so that gradients can bring them back.

        Raises:
            InputError: They are no floating-point (B, 3, H, W).
        """
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point() or 0 in x.shape:
            raise InputError(
                f"pictures must be floating-point (B, 3, H, W) in 0…1, got {x.dtype} of the shape {list(x.shape)}; "
                "repeat a grey channel three times, divide bytes by 255."
            )
        if self.size is not None and self.size != tuple(x.shape[2:]):
            x = F.interpolate(x.float(), self.size, mode="bicubic", align_corners=False, antialias=True)
        return (x - x.new_tensor(self.mean).view(3, 1, 1)) / x.new_tensor(self.std).view(3, 1, 1)


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: names in order, dtypes, shapes, little-endian values.

    Raises:
        CheckpointError: A tensor is on the meta device and has no values.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if tensor.is_meta:
            raise CheckpointError(f"{name} is on the meta device and has no values: there is nothing to compare.")
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        array = values.view(torch.uint8).numpy() if values.dtype == torch.bfloat16 else values.numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def require_modules(network: nn.Module, names: Sequence[str], where: str) -> None:
    """Refuse layers that a network does not have.

    Raises:
        ConfigError: One of the names is of no module in it.
    """
    known = {name for name, _ in network.named_modules() if name}
    for name in names:
        if name not in known:
            raise ConfigError(f"{where} has no layer {name!r}; {near_matches(name, known)}")


@contextmanager
def captured(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collect what the modules of these names return while the network runs.

    Tensors are copied at once: a layer that follows may write into them.
    """
    found: dict[str, Any] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        found[name] = output.clone() if isinstance(output, Tensor) else output

    handles = [network.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
