"""How motion differs from the motion that was wanted."""
