"""Parts of `recipes/data/images.py`: which files of the packages are photographs, and bringing them to one form."""
