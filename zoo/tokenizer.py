"""The contract: what every tokenizer of the library is and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from zoo import config as configs
from zoo.errors import ConfigError, InputError, TokenError
from zoo.tokens import Tokens, TokenSpec

__all__ = ["Tokenizer"]


class Tokenizer(nn.Module, ABC):
    """A discrete tokenizer: `encoder` → `quantizer` → `decoder`, three attributes of those names.

    A family subclasses it, names itself in `family`, describes itself with a dataclass of plain values in
    `config_class`, sets `spec` in its constructor, and implements `encode`, `decode`, `num_tokens` and
    `output_lengths`. Loading, saving, publishing, the command line and evaluation then work without another line. The
    constructor must also run under `torch.device("meta")`, where checkpoints are compared with their config.

    Attributes:
        family: The registry name of the family.
        config_class: Dataclass of plain values; the constructor's only required argument is one of these.
        float_dtypes: Floating dtypes in which the ids are still those of float32, and so the ones `to_dtype` accepts.
        asset_names: Files that a checkpoint of this family has beside its config and weights.
        name: `family.variant` of the checkpoint, or the family's name before it has one.
        spec: Facts about the tokens.
        source: Where it was loaded from, `hf://owner/repo@commit` or a folder, "" if it was built in memory.
        trained_on: What the weights or statistics were made from.
    """

    family: ClassVar[str]
    config_class: ClassVar[type]
    float_dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    asset_names: ClassVar[tuple[str, ...]] = ()

    config: Any
    encoder: nn.Module
    quantizer: nn.Module
    decoder: nn.Module
    spec: TokenSpec

    def __init__(self, config: Any) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise ConfigError(f"{self.family} takes a {self.config_class.__name__}, got {type(config).__name__}.")
        self.config = config
        self.name = self.family
        self.source = ""
        self.trained_on = ""

    @abstractmethod
    def encode(self, x: Any, lengths: Any = None) -> Tokens:
        """Turn signals into tokens.

        A pure function of each item alone: neither the rest of the batch, nor padding, nor the number of threads
        changes an id. It changes no state, draws no random numbers and records no gradients.

        Args:
            x: A batch tensor as `design.md` lists them by modality, one item without the batch dimension, or a path,
                bytes, PIL image, NumPy array, `(wave, rate)`, or a list of these.
            lengths: (B,) valid length of each item of a padded batch, in samples, frames or commands.

        Raises:
            InputError: NaN, wrong rank, size or rate, empty or too short input, unreadable file.
        """

    @abstractmethod
    def decode(self, tokens: Any, lengths: Any = None) -> Tensor:
        """Turn tokens back into a signal.

        Args:
            tokens: What `encode` returned, or bare ids (B, T) with `lengths`.
            lengths: (B,) valid positions, where bare ids are given.

        Returns:
            The batch of signals, padded to the longest; `output_lengths(tokens)` says how much of each is signal.

        Raises:
            TokenError: Ids out of range, of the wrong shape, or made by another tokenizer.
        """

    @abstractmethod
    def num_tokens(self, length: int) -> int:
        """Return how many positions `encode` gives for one item of `length` samples, frames or commands."""

    @abstractmethod
    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return how many samples, frames or commands of each decoded item are signal, (B,) int64."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], assets: Mapping[str, bytes] | None = None) -> Self:
        """Build an instance from plain values, as `config.json` holds them under "config".

        Args:
            config: Values by field name of `config_class`; unknown keys are errors.
            assets: Contents of the files in `asset_names`.

        Raises:
            ConfigError: A key is unknown or missing, or a value is unusable.
        """
        if assets:
            raise ConfigError(f"{cls.family} has no asset files, got {', '.join(assets)}.")
        return cls(configs.from_dict(cls.config_class, config, f"{cls.family} config"))

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether `folder` holds the authors' own released layout of this family."""
        return False

    @classmethod
    def from_official(cls, folder: Path) -> Self:
        """Build an instance from the authors' released files in `folder`."""
        raise NotImplementedError

    def assets(self) -> dict[str, bytes]:
        """Return the contents of the files in `asset_names`."""
        return {}

    def require_ready(self) -> None:
        """Raise `NotFittedError` if the tokenizer cannot be used or saved yet."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        tensors = (*self.parameters(), *self.buffers())
        return tensors[0].device if tensors else torch.device("cpu")

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers, quantizer included, fitted statistics left out."""
        return sum(p.numel() for p in self.parameters())

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """Convert the floating weights, if the ids survive it.

        Raises:
            ConfigError: The ids of this family would change in `dtype`.
        """
        if dtype not in self.float_dtypes:
            raise ConfigError(
                f"{self.family} gives the same ids only in {', '.join(map(str, self.float_dtypes))}, not in {dtype}: "
                "leave dtype out."
            )
        return self.to(dtype=dtype)

    def save(self, folder: str | Path, **facts: Any) -> Path:
        """Write a checkpoint folder. See `zoo.checkpoint.save` for the arguments."""
        from zoo import checkpoint

        return checkpoint.save(self, folder, **facts)

    def push(self, repo_id: str, **options: Any) -> Any:
        """Publish to the Hub, with a card. See `zoo.hub.push` for the options, `zoo push --help` for the command."""
        import tempfile

        from zoo import cards, checkpoint, hub

        with tempfile.TemporaryDirectory() as scratch:
            folder = checkpoint.save(self, Path(scratch) / "checkpoint")
            cards.write_card(self, folder, repo_id)
            return hub.push(folder, repo_id, **options)

    def as_tokens(self, tokens: Any, lengths: Any = None) -> Tokens:
        """Check what a caller hands to `decode`, and return it as `Tokens` on this tokenizer's device.

        Raises:
            TokenError: Ids out of range, of the wrong rank or number of codebooks, shifted, or another model's.
        """
        if isinstance(tokens, Tokens):
            if lengths is not None:
                raise TokenError("lengths are part of Tokens: pass them only with bare ids.")
            tokens.require_unshifted("decode")
            if tokens.model and tokens.model != self.name:
                raise TokenError(
                    f"these tokens were made by {tokens.model!r}, this tokenizer is {self.name!r}: decode them with "
                    f"zoo.load({tokens.model!r})."
                )
            if tokens.codebook_size != self.spec.codebook_size:
                raise TokenError(
                    f"these tokens have a codebook of {tokens.codebook_size}, {self.name} has one of "
                    f"{self.spec.codebook_size}."
                )
            # The ids may have been edited, or built without checks; a bad id must not become an index.
            checked = tokens
            if not _is_plausible(tokens):
                checked = Tokens.from_ids(
                    tokens.ids,
                    codebook_size=tokens.codebook_size,
                    lengths=tokens.lengths,
                    model=tokens.model,
                    grid=tokens.grid,
                    signal_lengths=tokens.signal_lengths,
                )
        else:
            checked = Tokens.from_ids(tokens, codebook_size=self.spec.codebook_size, lengths=lengths, model=self.name)
        if checked.num_codebooks != self.spec.num_codebooks or checked.ids.ndim != 2 + (self.spec.num_codebooks > 1):
            shape = "(B, T)" if self.spec.num_codebooks == 1 else f"(B, T, {self.spec.num_codebooks})"
            raise TokenError(
                f"{self.name} has {self.spec.num_codebooks} codebook(s), these ids have the shape "
                f"{tuple(checked.ids.shape)}: expected {shape}."
            )
        device = self.device
        return checked if checked.ids.device == device else checked.to(device)

    def as_batch(
        self, x: Any, lengths: Any = None, *, resample: bool = False, mix_down: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Turn whatever a caller hands to `encode` into a float batch on this tokenizer's device, and its lengths.

        Raises:
            InputError: See `zoo.data.inputs.to_batch`.
        """
        from zoo.data.inputs import to_batch

        if self.spec.sample_rate is None and self.spec.modality == "speech":
            raise InputError(f"{self.name} does not say its sample rate.")
        return to_batch(
            x,
            lengths,
            modality=self.spec.modality,
            sample_rate=None if self.spec.modality != "speech" else int(self.spec.sample_rate or 0),
            input_size=self.spec.input_size if self.spec.modality in ("image", "video") else None,
            resample=resample,
            mix_down=mix_down,
            device=self.device,
        )


def _is_plausible(tokens: Tokens) -> bool:
    """Whether every id is in the codebook and every length within the ids."""
    ids, lengths = tokens.ids, tokens.lengths
    if ids.dtype != torch.int64 or ids.ndim not in (2, 3) or lengths.shape != ids.shape[:1]:
        return False
    bounds = [(ids, tokens.codebook_size - 1), (lengths, ids.shape[1])]
    return all(int(low) >= 0 and int(high) <= most for x, most in bounds if x.numel() for low, high in [x.aminmax()])
