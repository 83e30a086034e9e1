"""Any image tokenizer's tokens or latents, decoded by SSDD's flow in pixels."""

from zoo.families.ssdd_decoder.config import LayoutConfig, SourceConfig, SSDDDecoderConfig
from zoo.families.ssdd_decoder.tokenizer import SSDDDecoderTokenizer

__all__ = ["LayoutConfig", "SSDDDecoderConfig", "SSDDDecoderTokenizer", "SourceConfig"]
