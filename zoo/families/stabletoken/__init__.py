"""StableToken: speech as tokens that noise hardly moves. Start reading at `tokenizer.py`."""

from zoo.families.stabletoken.config import PRESETS, StableTokenConfig
from zoo.families.stabletoken.tokenizer import StableTokenTokenizer

__all__ = ["PRESETS", "StableTokenConfig", "StableTokenTokenizer"]
