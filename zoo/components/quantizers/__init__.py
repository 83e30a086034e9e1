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
from zoo.components.quantizers.residual import Residual, ResidualConfig
from zoo.components.quantizers.stochastic_vq import StochasticVQ, StochasticVQConfig
from zoo.components.quantizers.uniform import Uniform, UniformConfig, UniformGrid
from zoo.components.quantizers.voting_lfq import VotingLFQ, VotingLFQConfig
from zoo.components.quantizers.vq import VQ, VQConfig
from zoo.config import of_kind

__all__ = [
    "FSQ",
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
"""The settings of any quantizer: what a family's config takes and a recipe names by its `kind`."""


def parse(values: Mapping[str, Any], where: str = "quantizer") -> QuantizerConfig:
    """Read the settings of a quantizer from plain values, as JSON or YAML gives them.

    Args:
        values: `kind`, and the fields of its dataclass.
        where: What the values were read from, for error messages.

    Raises:
        ConfigError: The kind is missing or unknown, a key is unknown or missing, or a value is unusable.
    """
    config: QuantizerConfig = of_kind(QuantizerConfig, values, where)
    return config


def build(config: QuantizerConfig | Mapping[str, Any]) -> Quantizer:
    """Return the quantizer of a config, or of the plain values of one.

    Raises:
        ConfigError: As `parse`.
    """
    return (parse(config) if isinstance(config, Mapping) else config).build()
