"""FlexTok: an image as 1 to 256 ordered tokens (Bachmann et al., arXiv 2502.13967, ICML 2025)."""

from zoo.families.flextok.config import FlexTokConfig, TrunkConfig
from zoo.families.flextok.tokenizer import FlexTokTokenizer

__all__ = ["FlexTokConfig", "FlexTokTokenizer", "TrunkConfig"]
