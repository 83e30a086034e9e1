"""The sizes of a Whisper model, as `config.json` in Hugging Face's layout has them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import CheckpointError, ConfigError, shown

__all__ = ["WhisperConfig", "read_values"]

# Our field, their key.
_FIELDS = {
    "d_model": "d_model",
    "num_heads": "encoder_attention_heads",
    "ffn_size": "encoder_ffn_dim",
    "num_layers": "encoder_layers",
    "num_mel": "num_mel_bins",
    "max_positions": "max_source_positions",
    "num_text_heads": "decoder_attention_heads",
    "text_ffn_size": "decoder_ffn_dim",
    "num_text_layers": "decoder_layers",
    "max_text": "max_target_positions",
    "vocabulary": "vocab_size",
    "start_id": "decoder_start_token_id",
    "end_id": "eos_token_id",
}


@dataclass(frozen=True)
class WhisperConfig:
    """The sizes of a Whisper model.

    Attributes:
        d_model: Width of encoder and decoder, D.
        num_heads: Attention heads of the encoder.
        ffn_size: Width inside the encoder's MLPs.
        num_layers: Layers of the encoder.
        num_mel: Mel bands.
        max_positions: Frames of the encoder at 50 Hz.
        num_text_heads: Attention heads of the decoder.
        text_ffn_size: Width inside the decoder's MLPs.
        num_text_layers: Layers of the decoder.
        max_text: Most text tokens, prompt included.
        vocabulary: Text tokens there are, V.
        start_id: Text token that every transcript starts with.
        end_id: Text token that ends it.
    """

    d_model: int
    num_heads: int
    ffn_size: int
    num_layers: int
    num_mel: int
    max_positions: int
    num_text_heads: int
    text_ffn_size: int
    num_text_layers: int
    max_text: int
    vocabulary: int
    start_id: int
    end_id: int

    @classmethod
    def read(cls, path: Path) -> WhisperConfig:
        """Return the sizes that a `config.json` has.

        Raises:
            CheckpointError: It cannot be read.
            ConfigError: It is not Whisper's, or asks for what is not known to work.
        """
        values = read_values(path)
        for key in _FIELDS.values():
            if type(values.get(key)) is not int or values[key] < 1:
                raise ConfigError(f"{path}: {key} must be an integer above 0, got {shown(values.get(key))}.")
        if values.get("activation_function") != "gelu" or values.get("scale_embedding"):
            raise ConfigError(f"{path}: only gelu and unscaled embeddings are known to work here.")
        return cls(**{field: values[key] for field, key in _FIELDS.items()})


def read_values(path: Path) -> dict[str, Any]:
    """Return what a Whisper model's `config.json` says.

    Raises:
        CheckpointError: It cannot be read.
        ConfigError: It is another model's.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): `python recipes/data/whisper.py` makes the folder for tiny.en, and "
            "openai/whisper-* of the Hub are such folders."
        ) from error
    if not isinstance(values, dict) or values.get("model_type") != "whisper":
        raise ConfigError(f"{path} is not the config of a Whisper model.")
    return values
