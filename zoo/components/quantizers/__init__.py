"""Quantizers: from vectors to ids and back."""
