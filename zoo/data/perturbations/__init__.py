"""Disturbances of signals: noise, rooms, lossy codecs."""
