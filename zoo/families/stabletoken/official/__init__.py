"""The official layout of StableToken: files, names and settings as the authors released them."""
