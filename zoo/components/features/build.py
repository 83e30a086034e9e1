"""A frozen network from plain values, as a recipe or a suite names it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from zoo.components.features.base import FeatureNetwork
from zoo.components.features.st_lpips import STLPIPS
from zoo.components.features.timm_network import TimmNetwork
from zoo.components.features.whisper_states import WhisperStates
from zoo.errors import ConfigError, near_matches, shown

__all__ = ["KINDS", "build"]

KINDS: dict[str, type[FeatureNetwork]] = {"st_lpips": STLPIPS, "timm": TimmNetwork, "whisper": WhisperStates}
"""By `kind`: the network, whose constructor's arguments are the other values."""


def build(values: Mapping[str, Any], where: str = "features") -> FeatureNetwork:
    """Return the network of plain values, such as `{"kind": "timm", "model": "resnet18", "layers": ["layer2"]}`.

    Args:
        values: `kind`, a key of `KINDS`, and arguments of its class.
        where: What the values were read from, for error messages.

    Raises:
        ConfigError: The kind is missing or unknown, or an argument is missing, unknown, or unusable.
        CheckpointError: As of the class.
        MissingExtraError: As of the class.
        HubError: As of the class.
    """
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        hint = near_matches(kind[:80], KINDS) if isinstance(kind, str) else f"known: {', '.join(KINDS)}."
        raise ConfigError(f"{where} must be a mapping with the kind of a network, got {shown(values)}; {hint}")
    arguments = {str(name): value for name, value in values.items() if name != "kind"}
    parameters = inspect.signature(KINDS[kind]).parameters
    for name in arguments:
        if name not in parameters:
            raise ConfigError(f"{where}: {kind} takes no {shown(name)}; {near_matches(name[:80], parameters)}")
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            raise ConfigError(f"{where}: {kind} needs {name}.")
    try:
        return KINDS[kind](**arguments)
    except (TypeError, AttributeError) as error:  # a value of another type than its annotation
        raise ConfigError(f"{where}: {kind} cannot be made of {shown(arguments)} ({error}).") from error
