"""Losses that more than one family trains with."""
