"""Layers and bases shared by encoders and decoders."""
