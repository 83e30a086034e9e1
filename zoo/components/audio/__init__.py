"""Spectra of sound."""
