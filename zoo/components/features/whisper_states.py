"""What the encoder of Whisper (arXiv 2212.04356) makes of speech: states to compare speech by, or to align with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.audio.log_mel import LogMel
from zoo.components.features.base import FeatureNetwork, captured, require_modules
from zoo.components.features.files import fill, read_safetensors
from zoo.components.whisper.config import read_values
from zoo.errors import CheckpointError, InputError, MissingExtraError
from zoo.process.fresh import fresh
from zoo.resources import expanded

__all__ = ["WhisperStates"]

_RATE, _WINDOW, _HOP, _STRIDE = 16_000, 400, 160, 2
_PREFIXES = ("model.encoder.", "encoder.")
_FINAL = "layer_norm"


class WhisperStates(FeatureNetwork):
    """States of Whisper's encoder, for speech (B, samples) in -1…1 at 16 kHz, of at most what the model hears (30 s).

    Layers are `layers.0`, `layers.1`, … after each block and `layer_norm`, the encoder's output; features are (B, D, T)
    at 50 Hz, T = ⌈samples / 320⌉. As Whisper was trained, speech is filled up with silence to 30 s, so that zeros at
    the end of a shorter item in a batch change nothing but how many states there are. The mel spectrogram is computed
    here, with gradients.

    Args:
        folder: `config.json` and `*.safetensors` as `openai/whisper-*` on the Hub have them; `recipes/data/whisper.py`
            makes such a folder.
        layers: Which to return.
        name: What results call it; None is the folder's name.
        licence: Of the weights; OpenAI's are MIT.

    Raises:
        MissingExtraError: The package transformers is not installed.
        CheckpointError: A file is missing, damaged, or of another model.
        ConfigError: The folder is not Whisper's, or has no such layer.
    """

    sample_rate = _RATE

    def __init__(
        self, folder: str | Path, layers: Sequence[str] = (_FINAL,), *, name: str | None = None, licence: str = "MIT"
    ) -> None:
        folder = expanded(folder, CheckpointError)
        config = read_values(folder / "config.json")
        network, num_mel, positions = _encoder(config)
        name = name or f"Whisper encoder ({folder.resolve().name})"
        require_modules(network, layers, name)
        tensors: dict[str, Tensor] = {}
        files = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))
        for path in files:
            tensors |= read_safetensors(path)
        if not files:
            raise CheckpointError(f"{folder} has no *.safetensors: pickled weights are not read, convert them.")
        own = {
            key.removeprefix(prefix): tensor.float()
            for prefix in _PREFIXES
            for key, tensor in tensors.items()
            if key.startswith(prefix)
        }
        fill(network, own, str(folder))
        super().__init__(network, name, licence, layers)
        self.max_samples = positions * _HOP * _STRIDE
        self.mel = LogMel(
            num_mel=num_mel, n_fft=_WINDOW, hop_length=_HOP, sample_rate=_RATE, token_samples=_HOP * _STRIDE
        )

    def _prepared(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or not x.is_floating_point() or not 0 < x.shape[1] <= self.max_samples or len(x) == 0:
            raise InputError(
                f"speech must be floating-point (B, samples) at {_RATE} Hz, 1 to {self.max_samples} samples, got "
                f"{x.dtype} of the shape {list(x.shape)}; cut longer speech into pieces."
            )
        return x

    def _features(self, x: Tensor) -> Mapping[str, Tensor]:
        length = -(-x.shape[1] // (_HOP * _STRIDE))
        with captured(self.network, self.layers) as found:
            self.network(self.log_mel(x))
        # A block may return its states alone or first in a tuple.
        states = {name: out[0] if isinstance(out, tuple) else out for name, out in found.items()}
        return {name: states[name][:, :length].transpose(1, 2) for name in self.layers}

    def log_mel(self, x: Tensor) -> Tensor:
        """Return the mel spectrogram that Whisper hears of speech (B, samples), silence to 30 s included: (B, M, 3000).

        Decimal logarithm of the power in Slaney's bands, not more than 8 below the item's maximum, over 4 and plus 1.
        """
        with torch.autocast(x.device.type, enabled=False):
            filled = F.pad(x.float(), (0, self.max_samples - x.shape[1]))
            return self.mel.together(filled, torch.full((len(x),), self.max_samples, device=x.device))


def _encoder(values: Mapping[str, Any]) -> tuple[nn.Module, int, int]:
    """Return an encoder without weights, its mel bands and its positions."""
    try:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder
    except ImportError as error:
        raise MissingExtraError(
            "Whisper's states need the package transformers: pip install 'tokenizer-zoo[eval]'."
        ) from error
    config = WhisperConfig(**values)
    with fresh():
        network: nn.Module = WhisperEncoder(config)
    return network, int(config.num_mel_bins), int(config.max_source_positions)
