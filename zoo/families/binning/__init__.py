"""Binning: every action value becomes one of 256 bins on its own. Start reading at `tokenizer.py`."""

from zoo.families.binning.tokenizer import BinningConfig, BinningTokenizer

__all__ = ["BinningConfig", "BinningTokenizer"]
