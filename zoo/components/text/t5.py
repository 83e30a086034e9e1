"""T5's encoder (Raffel et al., arXiv 1910.10683), by the package transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from zoo.components.text.base import TextEncoder
from zoo.errors import CheckpointError, ConfigError, MissingExtraError

__all__ = ["T5"]


class T5(TextEncoder):
    """Last states of T5's encoder, the end mark's included.

    Never in half precision, in which T5's activations overflow.

    Args:
        model: A repository of the Hub, or a folder, in transformers' layout.
        dim: Width of its states, which is checked.
        max_length: As of `TextEncoder`.
        revision: Commit, tag or branch.
        dtype: What it computes in.
        device: Where.
        cache: As of `TextEncoder`.

    Raises:
        MissingExtraError: transformers, or what its tokenizer needs, is not installed.
        CheckpointError: The model cannot be read or downloaded.
        ConfigError: Its states are of another width, or the dtype is half precision.
    """

    def __init__(
        self,
        model: str = "google/t5-v1_1-xl",
        dim: int = 2048,
        max_length: int = 128,
        *,
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
        device: str | torch.device = "cpu",
        cache: str | Path | None = None,
    ) -> None:
        if dtype not in ("bfloat16", "float32"):
            raise ConfigError(f"T5 computes in bfloat16 or float32, and overflows in {dtype}.")
        try:
            from transformers import AutoTokenizer, T5EncoderModel
        except ImportError as error:
            raise MissingExtraError(
                "T5 reads captions with the package transformers: pip install 'tokenizer-zoo[text]'."
            ) from error
        options = {"revision": revision} if revision else {}
        try:
            self._tokenizer: Any = cast(Any, AutoTokenizer).from_pretrained(model, **options)
            network: Any = cast(Any, T5EncoderModel).from_pretrained(
                model, dtype=getattr(torch, dtype), use_safetensors=True, **options
            )
        except ImportError as error:  # of sentencepiece, or protobuf
            raise MissingExtraError(
                f"T5's tokenizer needs more: pip install 'tokenizer-zoo[text]' ({error})."
            ) from error
        except Exception as error:  # of transformers, the Hub client, safetensors
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"the text encoder {model!r} cannot be read ({type(error).__name__}: {reason:.200}); give a folder or "
                "a repository of T5 with safetensors, or pass states instead of captions."
            ) from error
        if network.config.d_model != dim:
            raise ConfigError(f"states of {model} are {network.config.d_model} wide, and {dim} is expected.")
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)
        commit = getattr(network.config, "_commit_hash", None) or revision or ""
        super().__init__(f"t5-{model}{'@' if commit else ''}{commit}-{dtype}", dim, max_length, cache)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._device

    def _count(self, caption: str) -> int:
        return len(self._tokenizer(caption, verbose=False).input_ids)

    def _states(self, caption: str) -> Tensor:
        ids = torch.tensor([self._tokenizer(caption, verbose=False).input_ids], device=self._device)
        states: Tensor = self._network(input_ids=ids).last_hidden_state[0]
        return states
