"""Whisper in Hugging Face's layout: what training starts from, and how it spells text.

A folder with `config.json`, `model.safetensors` and `tokenizer.json`, as `openai/whisper-*` on the Hub have them.
`recipes/data/whisper.py` writes one for tiny.en.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.checkpoint import foreign
from zoo.checkpoint import weights as _weights
from zoo.errors import CheckpointError, ConfigError, shown
from zoo.families.stabletoken.config import StableTokenConfig
from zoo.families.stabletoken.official.names import released_name
from zoo.strict import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer as TextTokenizer

__all__ = ["Spelling", "Whisper", "WhisperConfig", "read_whisper"]

_ENCODER, _DECODER = "model.encoder.", "model.decoder."
# The English models' text tokens end one earlier; their prompt names neither language nor task.
_MULTILINGUAL_END = 50257
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


class Spelling:
    """Transcripts as Whisper's text tokens, and back.

    Args:
        tokenizer: Of `tokenizer.json`.
        config: Of the model.
    """

    def __init__(self, tokenizer: TextTokenizer, config: WhisperConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config

    def prompt(self, language: str = "en") -> list[int]:
        """Return what a transcript starts with: start, language and task if the model has several, no timestamps.

        Raises:
            ConfigError: The model does not know the language.
        """
        ids = [self.config.start_id]
        if self.config.end_id >= _MULTILINGUAL_END:
            ids += [self._special(f"<|{language}|>"), self._special("<|transcribe|>")]
        return [*ids, self._special("<|notimestamps|>")]

    def encode(self, text: str) -> list[int]:
        """Return the text tokens of a transcript, without prompt and end."""
        ids: list[int] = self.tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the transcript of text tokens, special ones left out."""
        text: str = self.tokenizer.decode([i for i in ids if i < self.config.end_id], skip_special_tokens=True)
        return text.strip()

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise ConfigError(f"this Whisper model has no text token {token}.")
        return int(number)


@dataclass(frozen=True)
class Whisper:
    """A Whisper model's sizes, tensors (float32) and spelling."""

    config: WhisperConfig
    tensors: Mapping[str, Tensor]
    spelling: Spelling
    where: str

    def require_fits(self, config: StableTokenConfig) -> None:
        """Refuse a tokenizer that is not cut from this model.

        Raises:
            ConfigError: A size differs.
        """
        shared = {name: getattr(config, name) for name in ("d_model", "num_heads", "ffn_size", "num_mel")}
        wanted = {**shared, "max_positions": config.max_positions}
        wanted["num_layers"] = config.num_layers + config.num_layers_after
        differing = [
            f"{name} is {getattr(self.config, name)} there and {value} here"
            for name, value in wanted.items()
            if getattr(self.config, name) != value
        ]
        if differing:
            raise ConfigError(
                f"{self.where} does not fit the tokenizer: {', '.join(differing)} (num_layers counts those before and "
                "after the quantizer)."
            )

    def fill_encoder(self, encoder: nn.Module) -> None:
        """Copy the first layers, the convolutions, and positions that are stored, into a `SpeechEncoder`."""
        names = [name for name in encoder.state_dict() if not name.startswith("project.")]
        self._fill(encoder, {name: _ENCODER + released_name(f"encoder.{name}") for name in names})

    def fill_layers(self, layers: nn.ModuleList, first: int) -> None:
        """Copy the encoder's layers from `first` on."""
        for offset, layer in enumerate(layers):
            prefix = f"layers.{first + offset}"
            self._fill(layer, {name: f"{_ENCODER}{released_name(f'{prefix}.{name}')}" for name in layer.state_dict()})

    def fill_norm(self, norm: nn.Module) -> None:
        """Copy the encoder's last norm."""
        self._fill(norm, {name: f"{_ENCODER}layer_norm.{name}" for name in norm.state_dict()})

    def fill_text_decoder(self, decoder: nn.Module) -> None:
        """Copy everything into a `TextDecoder`."""
        fixed = {"tokens.weight": "embed_tokens.weight", "positions.weight": "embed_positions.weight"}
        fixed |= {f"norm.{end}": f"layer_norm.{end}" for end in ("weight", "bias")}
        names = {name: fixed.get(name) or released_name(name) for name in decoder.state_dict()}
        self._fill(decoder, {ours: _DECODER + theirs for ours, theirs in names.items()})

    def _fill(self, module: nn.Module, names: Mapping[str, str]) -> None:
        own = module.state_dict()
        missing = [theirs for theirs in names.values() if theirs not in self.tensors]
        if missing:
            raise CheckpointError(f"{self.where} lacks {missing[0]}: download it again.")
        with torch.no_grad():
            for ours, theirs in names.items():
                tensor = self.tensors[theirs]
                if tensor.shape != own[ours].shape:
                    raise CheckpointError(
                        f"{self.where}: {theirs} has the shape {tuple(tensor.shape)} instead of "
                        f"{tuple(own[ours].shape)}."
                    )
                own[ours].copy_(tensor)


def read_whisper(folder: str | Path) -> Whisper:
    """Read a Whisper model.

    Raises:
        CheckpointError: A file is missing or damaged.
        ConfigError: The config is not Whisper's, or the package that reads `tokenizer.json` is not there.
    """
    folder = Path(folder).expanduser()
    config = _read_config(folder / "config.json")
    tensors: dict[str, Tensor] = {}
    for path in foreign.weight_files(folder):
        with _weights.opened(path) as file:
            tensors |= {key: tensor.float() for key, tensor in _weights.read(file).items()}
    _weights.require_finite(tensors, str(folder))
    return Whisper(config, tensors, Spelling(_read_tokenizer(folder / "tokenizer.json"), config), str(folder))


def _read_config(path: Path) -> WhisperConfig:
    try:
        values = read_json(path, CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} `zoo data whisper` makes the folder for tiny.en, and "
            "openai/whisper-* of the Hub are such folders."
        ) from error
    if values.get("model_type") != "whisper":
        raise ConfigError(f"{path} is not the config of a Whisper model.")
    fields = {}
    for field, key in _FIELDS.items():
        value = values.get(key)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{path}: {key} must be an integer above 0, got {shown(value)}.")
        fields[field] = value
    if values.get("activation_function") != "gelu" or values.get("scale_embedding"):
        raise ConfigError(f"{path}: only gelu and unscaled embeddings are known to work here.")
    return WhisperConfig(**fields)


def _read_tokenizer(path: Path) -> TextTokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ConfigError(
            "reading transcripts needs the package tokenizers: pip install 'tokenizer-zoo[train]'."
        ) from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises no class of its own
        raise CheckpointError(f"{path} cannot be read ({error}): download it again.") from error
