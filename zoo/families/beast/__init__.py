"""BEAST: action chunks as quantised control points of B-splines. Start reading at `tokenizer.py`."""

from zoo.families.beast.config import BeastConfig
from zoo.families.beast.tokenizer import BeastTokenizer

__all__ = ["BeastConfig", "BeastTokenizer"]
