"""Parts of `recipes/data/captions.py`: which pictures with texts the packages have, and composing them."""
