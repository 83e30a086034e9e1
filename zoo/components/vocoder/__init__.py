"""From a spectrum and a pitch to a wave."""
