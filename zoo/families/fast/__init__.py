"""FAST: action chunks as byte-pair encoded cosine coefficients. Start reading at `tokenizer.py`."""

from zoo.families.fast.config import FastConfig
from zoo.families.fast.tokenizer import FastTokenizer

__all__ = ["FastConfig", "FastTokenizer"]
