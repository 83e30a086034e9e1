"""LARP: a clip as holistic tokens that a small prior finds predictable (Wang et al., arXiv 2410.21264, ICLR 2025)."""

from zoo.families.larp.config import LARPConfig, TrunkConfig
from zoo.families.larp.tokenizer import LARPTokenizer

__all__ = ["LARPConfig", "LARPTokenizer", "TrunkConfig"]
