"""BEAST: action chunks as quantised control points of B-splines. Start reading at `tokenizer.py`."""

from zoo.families.beast.config import BeastConfig
from zoo.families.beast.fitting import BasisCandidate, BasisChoice, choose_num_basis
from zoo.families.beast.tokenizer import BeastTokenizer

__all__ = ["BasisCandidate", "BasisChoice", "BeastConfig", "BeastTokenizer", "choose_num_basis"]
