"""Parts of `recipes/data/video.py`: which files of the packages are used, and cutting them into shots."""
