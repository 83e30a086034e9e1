"""Networks that tell made signals from recorded ones."""
