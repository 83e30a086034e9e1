"""What captions are worth to image tokenizers that read them.

`runner` measures, `page` writes what is looked at.
"""
