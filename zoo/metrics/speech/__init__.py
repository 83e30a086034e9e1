"""How speech sounds, and what of it is understood."""
