"""Parts of Whisper (arXiv 2212.04356) that models start from: its sizes, its text, its text decoder."""
