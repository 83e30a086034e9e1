"""ST-LPIPS: the perceptual distance of Ghildyal and Liu (arXiv 2207.13686) that a small shift hardly changes.

A VGG16 in whose pooling a blur stands between maximum and stride, and learned weights of its channels. The weights come
in the package stlpips-pytorch (`pip install --no-deps stlpips-pytorch==0.0.2`, 64 MB), of which one file is read as
tensors and no code is run. It is not LPIPS (arXiv 1801.03924), and results must not call it so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.features.base import FeatureNetwork, ImageInput
from zoo.components.features.files import fill
from zoo.errors import CheckpointError, InputError, MissingExtraError
from zoo.resources import expanded
from zoo.strict import is_file

__all__ = ["STLPIPS", "packaged_weights"]

_PACKAGE, _INSIDE = "stlpips_pytorch", Path("weights", "vST0.0", "vgg_shift_tolerant.pth")
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_REFLECTED = 2
# What is left of it before the last pooling can be mirrored.
_SMALLEST = 18
# Of the convolutions of each block in the file, where the layers of one Sequential are counted through.
_PLACES = ((0, 2), (6, 8), (12, 14, 16), (20, 22, 24), (28, 30, 32))


class STLPIPS(FeatureNetwork):
    """The five layers of ST-LPIPS' VGG16, and the weights of their channels.

    Pictures are (B, 3, H, W) in 0…1, of at least 18 pixels a side; layers are `conv1` to `conv5`, the last of each
    block after its ReLU, 1 to 1/16 of the size. The distance is `PerceptualDistance(network, network.channel_weights)`.

    Package and weights are labelled BSD-2-Clause, but the package has files under CC-BY-NC-SA-4.0: take the weights as
    unclear, for tests and runs of one's own, and do not pass them on.

    Args:
        file: Weights as the package has them; None takes them from the package.

    Attributes:
        channel_weights: The learned weight of each channel, (C,) by layer.

    Raises:
        MissingExtraError: The package is not installed.
        CheckpointError: The file is missing, damaged, or another.
    """

    LAYERS: ClassVar[tuple[str, ...]] = tuple(f"conv{i}" for i in range(1, 6))

    def __init__(self, file: str | Path | None = None) -> None:
        path = expanded(file, CheckpointError) if file is not None else packaged_weights()
        tensors = _read(path)
        network = _ShiftTolerantVGG()
        try:
            shift, scale = (tensors.pop(f"scaling_layer.{name}").flatten().double() for name in ("shift", "scale"))
            heads = {layer: tensors.pop(f"lin{i}.model.1.weight").flatten() for i, layer in enumerate(self.LAYERS)}
        except KeyError as error:
            raise CheckpointError(
                f"{path} lacks {error.args[0]}: give vgg_shift_tolerant.pth of the package."
            ) from error
        fill(network, {_renamed(name): tensor for name, tensor in tensors.items()}, str(path))
        super().__init__(network, f"ST-LPIPS VGG16 ({path.name})", "BSD-2-Clause as labelled, unclear", self.LAYERS)
        self.channel_weights: Mapping[str, Tensor] = heads
        # The network takes -1…1, shifted and scaled: the same as another mean and deviation of 0…1.
        mean = ((1 + shift) / 2).tolist()
        std = (scale / 2).tolist()
        self.input = ImageInput((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def _prepared(self, x: Tensor) -> Tensor:
        prepared = self.input(x)
        if min(x.shape[2:]) < _SMALLEST:
            raise InputError(f"{self.name} needs pictures of at least 18 × 18, got {x.shape[2]} × {x.shape[3]}.")
        return prepared

    def _features(self, x: Tensor) -> Mapping[str, Tensor]:
        return dict(zip(self.LAYERS, self.network(x), strict=True))


class _ShiftTolerantVGG(nn.Module):
    """VGG16 (arXiv 1409.1556, configuration D) with blurred pooling (Zhang, arXiv 1904.11486)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *(channels[-1] for channels in _BLOCKS))
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise((before, *channels)))
            for before, channels in zip(widths, _BLOCKS, strict=False)
        )
        for index, channels in enumerate(widths[1:-1], start=1):
            self.register_buffer(f"blur{index}", torch.zeros(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for index, block in enumerate(self.blocks):
            if index:
                blur = self.get_buffer(f"blur{index}")
                x = F.pad(F.max_pool2d(x, 2, stride=1), [_REFLECTED] * 4, mode="reflect")
                x = F.conv2d(x, blur, stride=2, groups=len(blur))
            for convolution in block.children():
                x = F.relu(convolution(x))
            found.append(x)
        return found


def packaged_weights() -> Path:
    """Return where the package stlpips-pytorch has the weights, without importing it.

    Raises:
        MissingExtraError: It is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(
            "ST-LPIPS needs the weights in the package stlpips-pytorch: pip install --no-deps stlpips-pytorch==0.0.2, "
            "or give the path of vgg_shift_tolerant.pth as file=."
        )
    return Path(found.submodule_search_locations[0]) / _INSIDE


def _read(path: Path) -> dict[str, Tensor]:
    if not is_file(path):
        raise CheckpointError(f"{path} is not a file: give the path of vgg_shift_tolerant.pth.")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of its own and of pickle's
        raise CheckpointError(f"{path} cannot be read as tensors ({error}): install the package again.") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path} holds something else than tensors by name: give vgg_shift_tolerant.pth.")
    return dict(tensors)


def _renamed(name: str) -> str:
    """Return our name of a tensor in the file; strange ones stay, to be refused."""
    places = {place: (block, i) for block, row in enumerate(_PLACES) for i, place in enumerate(row)}
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "net" and parts[2].isdecimal():
        if parts[3] == "filt":
            return f"blur{int(parts[1].removeprefix('slice')) - 1}"
        if int(parts[2]) in places:
            block, i = places[int(parts[2])]
            return f"blocks.{block}.{i}.{parts[3]}"
    return name
