"""Tokens to speech: ids → mel spectrum (flow matching) → wave (harmonics and noise). Start reading at `speech.py`.

Only settings are imported here, so that a tokenizer without decoder does not load the networks.
"""

from zoo.families.stabletoken.decoder.config import ConformerConfig, DecoderConfig, UNetConfig, VocoderConfig

__all__ = ["ConformerConfig", "DecoderConfig", "UNetConfig", "VocoderConfig"]
