"""torchvision's transforms, named in YAML: `{name: RandomResizedCrop, size: 64, scale: [0.2, 1.0]}`.

A name is looked up among the public classes of `torchvision.transforms.v2` that turn one picture into one picture, and
nowhere else; arguments are plain values. Source: https://docs.pytorch.org/vision/stable/transforms.html
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConfigError, InputError, near_matches, shown
from zoo.process.random import preserved, seed_all

__all__ = ["Transforms", "known_transforms"]

# Public classes that a list of transforms of pictures cannot use.
_NO_PLAIN_VALUES = {"Transform", "Compose", "Lambda", "LinearTransformation"}
_OTHER_TYPES = {"PILToTensor", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor"}
_OTHER_DTYPES = {"ConvertImageDtype", "ToDtype", "JPEG"}
_OTHER_RANGE = {"Normalize"}
_NOT_ONE_PICTURE = {"CutMix", "MixUp", "FiveCrop", "TenCrop", "UniformTemporalSubsample"}
_BOXES = {
    "ClampBoundingBoxes",
    "ClampKeyPoints",
    "ConvertBoundingBoxFormat",
    "RandomIoUCrop",
    "SanitizeBoundingBoxes",
    "SanitizeKeyPoints",
    "SetClampingMode",
}
_NOT_FOR_PICTURES = _NO_PLAIN_VALUES | _OTHER_TYPES | _OTHER_DTYPES | _OTHER_RANGE | _NOT_ONE_PICTURE | _BOXES
_OF_OTHERS = ("RandomApply", "RandomChoice", "RandomOrder")  # their `transforms` is a list like this one
_OVERSHOOT = 0.25  # what bicubic and Lanczos' filters exceed 0…1 by, and a normalised picture does not keep to
_PROBES = ((256, 320), (320, 256))


class Transforms:
    """A list of transforms, applied in order.

    Args:
        specs: One mapping a transform: `name`, and the arguments of the class.
        where: What the list is called in messages.

    Raises:
        ConfigError: A name or an argument is unknown, a value is not plain or not possible, or the result is not a
            picture (3, H, W) of one size.
    """

    def __init__(self, specs: Sequence[Mapping[str, Any]], where: str = "transforms") -> None:
        self.where = where
        self._transforms = _build_all(specs, where)
        self.size: tuple[int, int] | None = None
        if self._transforms:
            self.size = self._probe()

    def __call__(self, picture: Tensor) -> Tensor:
        """Transform a picture (3, H, W) in 0…1; overshoot of interpolation is clamped.

        Raises:
            InputError: It cannot be, or what comes out is no such picture.
        """
        try:
            for transform in self._transforms:
                picture = transform(picture)
        except Exception as error:  # torchvision's are ValueError, RuntimeError, TypeError, …
            raise InputError(f"{self.where} failed on a picture {tuple(picture.shape)}: {error}.") from error
        if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
            raise InputError(f"{self.where} must give a picture (3, H, W), got {picture.dtype} {tuple(picture.shape)}.")
        low, high = (float(bound) for bound in torch.aminmax(picture))
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
            raise InputError(f"{self.where} must keep pictures in 0…1, and one goes from {low:g} to {high:g}.")
        return picture.float().clamp(0, 1) if low < 0 or high > 1 else picture.float()

    def _probe(self) -> tuple[int, int]:
        """Try a tall and a wide picture, larger ones if these are too small, and return the size of what comes out."""
        with preserved():
            seed_all(0, devices=False)
            try:
                sizes = {self._size_of(*probe) for probe in _PROBES}
            except InputError:
                try:
                    sizes = {self._size_of(8 * height, 8 * width) for height, width in _PROBES}
                except InputError as error:
                    raise ConfigError(f"data: {error}") from error
        if len(sizes) > 1:
            made = " and ".join(f"{height}×{width}" for height, width in sorted(sizes))
            raise ConfigError(
                f"data: {self.where} must give pictures of one size, and of a tall and a wide one it makes {made}: add "
                "{name: CenterCrop, size: …}, for instance."
            )
        return sizes.pop()

    def _size_of(self, height: int, width: int) -> tuple[int, int]:
        height, width = self(torch.rand(3, height, width)).shape[-2:]
        return height, width


@functools.cache
def known_transforms() -> dict[str, Any]:
    """Return the classes of `torchvision.transforms.v2` that can be named."""
    from torchvision.transforms import v2

    return {
        name: value
        for name, value in vars(v2).items()
        if not name.startswith("_")
        and isinstance(value, type)
        and issubclass(value, v2.Transform)
        and name not in _NOT_FOR_PICTURES
    }


def _build_all(specs: Any, where: str) -> list[Any]:
    if not isinstance(specs, Sequence) or isinstance(specs, str):
        raise ConfigError(f"data: {where} must be a list of transforms, got {shown(specs)}.")
    return [_build(spec, f"{where}[{place}]") for place, spec in enumerate(specs)]


def _build(spec: Any, where: str) -> Any:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise ConfigError(
            f"data: {where} must be a mapping with a name, as {{name: CenterCrop, size: 64}}, got {shown(spec)}."
        )
    known = known_transforms()
    if (name := spec["name"]) not in known:
        raise ConfigError(
            f"data: {where} names the transform {shown(name)}, which is none; {near_matches(name, known)}"
        )
    parameters = inspect.signature(known[name]).parameters
    arguments = {}
    for key, value in spec.items():
        if key == "name":
            continue
        if key not in parameters:
            raise ConfigError(
                f"data: {where}: {name} has no argument {shown(key)}; {near_matches(str(key), parameters)}"
            )
        arguments[key] = _value(name, key, value, f"{where}: {key} of {name}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ConfigError(f"data: {where}: {name} needs the argument {key!r}.")
    try:
        return known[name](**arguments)
    except Exception as error:
        raise ConfigError(f"data: {where}: {name} cannot be made: {error}.") from error


def _value(name: str, key: str, value: Any, where: str) -> Any:
    """Return an argument: plain values as they are, names of interpolations and policies as torchvision's."""
    from torchvision.transforms import v2

    if name in _OF_OTHERS and key == "transforms":
        return _build_all(value, where)
    enum = {"interpolation": v2.InterpolationMode, "policy": v2.AutoAugmentPolicy}.get(key)
    if enum is not None:
        return _member(enum, value, where)
    if not _is_plain(value):
        raise ConfigError(
            f"data: {where} must be a number, text, true, false, null, or a list of them, got {shown(value)}."
        )
    return value


def _member(enum: type[Enum], value: Any, where: str) -> Enum:
    values = {str(member.value): member for member in enum}
    if not isinstance(value, str) or value not in values:
        raise ConfigError(f"data: {where} cannot be {shown(value)}; {near_matches(str(value), values)}")
    return values[value]


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (bool, int, float, str))
