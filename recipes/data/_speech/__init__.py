"""Parts of `recipes/data/speech.py`: fetching, the sources, synthesis, and audio."""
