"""Whisper in Hugging Face's layout: what training starts from, and how it spells text.

A folder with `config.json`, `model.safetensors` and `tokenizer.json`, as `openai/whisper-*` on the Hub have them.
`recipes/data/whisper.py` writes one for tiny.en.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo import resources
from zoo.checkpoint import foreign
from zoo.checkpoint import weights as _weights
from zoo.components.whisper.config import WhisperConfig
from zoo.components.whisper.spelling import Spelling
from zoo.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as TextTokenizer

__all__ = ["Whisper", "read_whisper", "whisper_name"]

_ENCODER, _DECODER = "model.encoder.", "model.decoder."
# Our part of a tensor's name, theirs. The first that fits, of each place in a name, counts.
_NAMES = (
    ("encoder.positions", "embed_positions.weight"),
    ("encoder.conv", "conv"),
    ("encoder.layers.", "layers."),
    (".attention_norm.", ".self_attn_layer_norm."),
    (".attention.q.", ".self_attn.q_proj."),
    (".attention.k.", ".self_attn.k_proj."),
    (".attention.v.", ".self_attn.v_proj."),
    (".attention.out.", ".self_attn.out_proj."),
    (".memory_norm.", ".encoder_attn_layer_norm."),
    (".memory.q.", ".encoder_attn.q_proj."),
    (".memory.k.", ".encoder_attn.k_proj."),
    (".memory.v.", ".encoder_attn.v_proj."),
    (".memory.out.", ".encoder_attn.out_proj."),
    (".mlp_norm.", ".final_layer_norm."),
    (".mlp.up.", ".fc1."),
    (".mlp.down.", ".fc2."),
)


@dataclass(frozen=True)
class Whisper:
    """A Whisper model's sizes, tensors (float32) and spelling."""

    config: WhisperConfig
    tensors: Mapping[str, Tensor]
    spelling: Spelling
    where: str

    def require_sizes(self, **sizes: int) -> None:
        """Refuse a network that is not cut from this model.

        Args:
            sizes: Fields of `WhisperConfig` that the network shares.

        Raises:
            ConfigError: One differs.
        """
        differing = [
            f"{name} is {getattr(self.config, name)} there and {value} here"
            for name, value in sizes.items()
            if getattr(self.config, name) != value
        ]
        if differing:
            raise ConfigError(f"{self.where} does not fit: {', '.join(differing)}.")

    def fill_encoder(self, encoder: nn.Module) -> None:
        """Copy the first layers, the convolutions, and stored positions into an encoder of such parts.

        What else it has (`project`, and `offset` and `biases` in place of positions) stays as it is.
        """
        names = [name for name in encoder.state_dict() if not name.startswith(("project.", "offset", "biases."))]
        self._fill(encoder, {name: _ENCODER + whisper_name(f"encoder.{name}") for name in names})

    def fill_layers(self, layers: nn.ModuleList, first: int) -> None:
        """Copy the encoder's layers from `first` on."""
        for offset, layer in enumerate(layers):
            prefix = f"layers.{first + offset}"
            self._fill(layer, {name: f"{_ENCODER}{whisper_name(f'{prefix}.{name}')}" for name in layer.state_dict()})

    def fill_norm(self, norm: nn.Module) -> None:
        """Copy the encoder's last norm."""
        self._fill(norm, {name: f"{_ENCODER}layer_norm.{name}" for name in norm.state_dict()})

    def fill_text_decoder(self, decoder: nn.Module) -> None:
        """Copy everything into a `TextDecoder`."""
        fixed = {"tokens.weight": "embed_tokens.weight", "positions.weight": "embed_positions.weight"}
        fixed |= {f"norm.{end}": f"layer_norm.{end}" for end in ("weight", "bias")}
        names = {name: fixed.get(name) or whisper_name(name) for name in decoder.state_dict()}
        self._fill(decoder, {ours: _DECODER + theirs for ours, theirs in names.items()})

    def _fill(self, module: nn.Module, names: Mapping[str, str]) -> None:
        own = module.state_dict()
        found = {theirs: self.tensors[theirs] for theirs in names.values() if theirs in self.tensors}
        _weights.require_fit(
            _weights.kinds({theirs: own[ours] for ours, theirs in names.items()}), _weights.kinds(found), self.where
        )
        with torch.no_grad():
            for ours, theirs in names.items():
                own[ours].copy_(found[theirs])


def read_whisper(folder: str | Path) -> Whisper:
    """Read a Whisper model.

    Raises:
        CheckpointError: A file is missing or damaged.
        ConfigError: The config is not Whisper's, or the package that reads `tokenizer.json` is not there.
    """
    folder = resources.expanded(folder, CheckpointError)
    config = WhisperConfig.read(folder / "config.json")
    tensors: dict[str, Tensor] = {}
    for path in foreign.weight_files(folder):
        tensors |= {key: tensor.float() for key, tensor in foreign.read_tensors(path).items()}
    _weights.require_finite(tensors, str(folder))
    return Whisper(config, tensors, Spelling(_read_tokenizer(folder / "tokenizer.json"), config), str(folder))


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


def whisper_name(name: str) -> str:
    """Return the name that a tensor of ours has there, without Whisper's `model.encoder.` and `model.decoder.`."""
    for ours, theirs in _NAMES:
        name = name.replace(ours, theirs, 1)
    return name
