"""Quantizers: from vectors to ids and back.

    quantizer = build({"kind": "fsq", "levels": [8, 8, 8, 5, 5, 5]})
    codes, ids, losses, stats = quantizer(z, mask)      # training and evaluation
    ids = quantizer.ids(z)                              # the same ids for a vector whatever is around it
    codes = quantizer.codes(ids)

`UniformGrid` stands apart: its bounds are fitted, and its ids belong to slots, not to vectors. The kind "uniform" is
the same grid with bounds from a config, one a dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.components.quantizers.base import Quantized, Quantizer
from zoo.components.quantizers.fsq import FSQ, FSQConfig
from zoo.components.quantizers.identity import Gaussian, GaussianConfig, Identity, IdentityConfig
from zoo.components.quantizers.lfq import LFQ, LFQConfig
from zoo.components.quantizers.residual import STAGES, Residual, ResidualConfig
from zoo.components.quantizers.stochastic_vq import StochasticVQ, StochasticVQConfig
from zoo.components.quantizers.uniform import Uniform, UniformConfig, UniformGrid
from zoo.components.quantizers.voting_lfq import VotingLFQ, VotingLFQConfig
from zoo.components.quantizers.vq import VQ, VQConfig
from zoo.config import from_dict
from zoo.errors import ConfigError, near_matches, shown

__all__ = [
    "FSQ",
    "KINDS",
    "LFQ",
    "VQ",
    "FSQConfig",
    "Gaussian",
    "GaussianConfig",
    "Identity",
    "IdentityConfig",
    "LFQConfig",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "Residual",
    "ResidualConfig",
    "StochasticVQ",
    "StochasticVQConfig",
    "Uniform",
    "UniformConfig",
    "UniformGrid",
    "VQConfig",
    "VotingLFQ",
    "VotingLFQConfig",
    "build",
    "parse",
]

QuantizerConfig = (
    FSQConfig
    | LFQConfig
    | VotingLFQConfig
    | VQConfig
    | StochasticVQConfig
    | ResidualConfig
    | IdentityConfig
    | GaussianConfig
    | UniformConfig
)

KINDS: dict[str, tuple[type, type[Quantizer]]] = {
    "fsq": (FSQConfig, FSQ),
    "gaussian": (GaussianConfig, Gaussian),
    "lfq": (LFQConfig, LFQ),
    "none": (IdentityConfig, Identity),
    "residual": (ResidualConfig, Residual),
    "stochastic_vq": (StochasticVQConfig, StochasticVQ),
    "uniform": (UniformConfig, Uniform),
    "voting_lfq": (VotingLFQConfig, VotingLFQ),
    "vq": (VQConfig, VQ),
}
"""By `kind`: the dataclass of its settings, and the quantizer."""


def parse(values: Mapping[str, Any], where: str = "quantizer") -> QuantizerConfig:
    """Read the settings of a quantizer from plain values, as JSON or YAML gives them.

    Args:
        values: `kind`, a key of `KINDS`, and the fields of its dataclass.
        where: What the values were read from, for error messages.

    Raises:
        ConfigError: The kind is missing or unknown, a key is unknown or missing, or a value is unusable.
    """
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str):
        raise ConfigError(f"{where} must be a mapping with a kind, one of {', '.join(KINDS)}; got {shown(values)}.")
    if kind not in KINDS:
        raise ConfigError(f"{where} has the unknown kind {shown(kind)}; {near_matches(kind[:80], KINDS)}")
    if kind == "residual" and "stage" in values:
        # First by its own kind, for an error message about that kind alone.
        stage = parse(values["stage"], f"{where}: stage")
        if stage.kind not in STAGES:
            raise ConfigError(f"{where}: stage must be of kind {', '.join(STAGES)}, got {stage.kind!r}.")
    config: QuantizerConfig = from_dict(KINDS[kind][0], values, where)
    return config


def build(config: QuantizerConfig | Mapping[str, Any]) -> Quantizer:
    """Return the quantizer of a config, or of the plain values of one.

    Raises:
        ConfigError: As `parse`.
    """
    ready = parse(config) if isinstance(config, Mapping) else config
    return KINDS[ready.kind][1](ready)  # type: ignore[call-arg, arg-type]
