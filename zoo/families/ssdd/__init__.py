"""SSDD: pictures decoded by a diffusion model in a single step (Vallaeys et al., arXiv 2510.04961)."""

from zoo.families.ssdd.config import SIZES, DecoderConfig, SSDDConfig
from zoo.families.ssdd.tokenizer import SSDDTokenizer

__all__ = ["SIZES", "DecoderConfig", "SSDDConfig", "SSDDTokenizer"]
