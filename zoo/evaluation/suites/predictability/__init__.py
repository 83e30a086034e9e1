"""How predictable tokens are: bits that small models of equal budget need for them, and how well actions go on.

A tokenizer with less error and less predictable ids may be the worse one to generate with; so this is measured apart
from reconstruction.
"""
