"""Quantizers: from vectors to ids and back.

    quantizer = build({"kind": "fsq", "levels": [8, 8, 8, 5, 5, 5]})
    codes, ids, losses, stats, _ = quantizer(z, mask)   # training and evaluation, see `Quantized`
    ids = quantizer.ids(z)                              # the same ids for a vector whatever is around it
    codes = quantizer.codes(ids)

`UniformGrid` stands apart: its bounds are fitted, and its ids belong to slots, not to vectors. The kind "uniform" is
the same grid with bounds from a config, one a dimension.
"""

from __future__ import annotations

from zoo.components.quantizers.base import Quantized, Quantizer
from zoo.components.quantizers.fsq import FSQ, FSQConfig
from zoo.components.quantizers.identity import Gaussian, GaussianConfig, Identity, IdentityConfig
from zoo.components.quantizers.kinds import KINDS, QuantizerConfig, StageConfig, build, kinds, parse, quantizer_class
from zoo.components.quantizers.lfq import LFQ, LFQConfig
from zoo.components.quantizers.residual import Residual, ResidualConfig
from zoo.components.quantizers.stochastic_vq import StochasticVQ, StochasticVQConfig
from zoo.components.quantizers.uniform import Uniform, UniformConfig, UniformGrid
from zoo.components.quantizers.voting_lfq import VotingLFQ, VotingLFQConfig
from zoo.components.quantizers.vq import VQ, VQConfig

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
    "StageConfig",
    "StochasticVQ",
    "StochasticVQConfig",
    "Uniform",
    "UniformConfig",
    "UniformGrid",
    "VQConfig",
    "VotingLFQ",
    "VotingLFQConfig",
    "build",
    "kinds",
    "parse",
    "quantizer_class",
]
