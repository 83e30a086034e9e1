"""TexTok: image tokens that leave to a caption what a caption says."""

from zoo.families.textok.config import PRESETS, TexTokConfig, TrunkConfig
from zoo.families.textok.tokenizer import TexTokTokenizer

__all__ = ["PRESETS", "TexTokConfig", "TexTokTokenizer", "TrunkConfig"]
