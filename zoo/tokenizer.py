"""The contract: what every tokenizer of the library is and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.exact.modes import convert, dtype_of
from zoo.errors import ConfigError, InputError, TokenError
from zoo.options import NoOptions
from zoo.spec import TokenSpec
from zoo.tokens import Latents, Tokens
from zoo.tokens.checks import checked_tokens

__all__ = ["NoDecoder", "Tokenizer"]


class NoDecoder(nn.Module):
    """Stands where a decoder would be that a checkpoint lacks, or that was not asked for."""

    def forward(self, *_: object) -> NoReturn:
        """Raise `TokenError`."""
        raise TokenError("there is no decoder.")


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
        fast_modules: Parts whose weights fast mode takes in any floating dtype; there is no fast mode if it is empty.
        asset_names: Files that a checkpoint of this family has beside its config and weights.
        decoder_file: Whether a checkpoint has the decoder's weights in a file of their own, so that encoding does
            without. The constructor of such a family takes `decoder=False` and then sets `self.decoder = NoDecoder()`.
        official: Module that reads the authors' released layout, "" if there is none: it has `recognises(folder)`,
            `load(folder)`, and `EXTRA_FILES`, paths that a download of it needs beside JSON and safetensors.
        encode_options: Dataclass of what `encode` takes beside signal and lengths, by name and with its default.
        decode_options: The same of `decode`.
        name: `family.variant` of the checkpoint, or the family's name before it has one.
        spec: Facts about the tokens.
        source: Where it was loaded from, `hf://owner/repo@commit` or a folder, "" if it was built in memory.
        trained_on: What the weights or statistics were made from.
        is_exact: False in fast mode, see `zoo.load`: rounding depends on the batch then, and with it a few ids.
        is_whole: False if it was loaded without its decoder: it encodes, and can neither decode nor be saved.
    """

    family: ClassVar[str]
    config_class: ClassVar[type]
    float_dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    fast_modules: ClassVar[tuple[str, ...]] = ()
    asset_names: ClassVar[tuple[str, ...]] = ()
    decoder_file: ClassVar[bool] = False
    official: ClassVar[str] = ""
    encode_options: ClassVar[type] = NoOptions
    decode_options: ClassVar[type] = NoOptions

    config: Any
    encoder: nn.Module
    quantizer: nn.Module
    decoder: nn.Module
    spec: TokenSpec

    def __init__(self, config: Any, *, decoder: bool = True) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise ConfigError(f"{self.family} takes a {self.config_class.__name__}, got {type(config).__name__}.")
        self.config = config
        self.name = self.family
        self.source = ""
        self.trained_on = ""
        self.is_whole = decoder
        self.is_exact = True

    @abstractmethod
    def encode(self, x: Any, lengths: Any = None) -> Tokens:
        """Turn signals into tokens.

        A pure function of each item alone: neither the rest of the batch, nor padding, nor the number of threads
        changes an id, unless it is in fast mode (`is_exact`). It changes no state, draws no random numbers and records
        no gradients.

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

    def encode_latents(self, x: Any, lengths: Any = None) -> Latents:
        """Turn signals into what stands before the quantizer; of a continuous tokenizer this is all there is.

        As pure a function of each item alone as `encode`.

        Args:
            x: As for `encode`.
            lengths: As for `encode`.

        Raises:
            ConfigError: This family has no latents.
            InputError: As for `encode`.
        """
        raise ConfigError(f"{self.family} gives ids and no latents: use encode.")

    def decode_latents(self, latents: Latents | Tensor) -> Tensor:
        """Turn latents, or their bare values (B, T, D), into a signal, as `decode` does with what ids stand for.

        Raises:
            ConfigError: This family has no latents.
            TokenError: They are of another shape, or made by another tokenizer.
        """
        raise ConfigError(f"{self.family} decodes ids and no latents: use decode.")

    @abstractmethod
    def num_tokens(self, length: int) -> int:
        """Return how many positions `encode` gives for one item of `length` samples, frames or commands."""

    @abstractmethod
    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return how many samples, frames or commands of each decoded item are signal, (B,) int64."""

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], assets: Mapping[str, bytes] | None = None, *, decoder: bool = True
    ) -> Self:
        """Build an instance from plain values, as `config.json` holds them under "config".

        Args:
            config: Values by field name of `config_class`; unknown keys are errors.
            assets: Contents of the files in `asset_names`.
            decoder: False to do without the decoder; for families with `decoder_file`.

        Raises:
            ConfigError: A key is unknown or missing, or a value is unusable.
        """
        settings: Any = configs.from_dict(cls.config_class, config, f"{cls.family} config")
        tokenizer = cls(settings) if decoder else cls(settings, decoder=False)
        if assets:
            tokenizer.load_assets(assets)
        return tokenizer

    def assets(self) -> dict[str, bytes]:
        """Return the contents of the files in `asset_names`."""
        return {}

    def load_assets(self, assets: Mapping[str, bytes]) -> None:
        """Take over the contents of the files in `asset_names`."""
        raise ConfigError(f"{self.family} has no asset files, got {', '.join(assets)}.")

    def require_ready(self) -> None:
        """Raise `NotFittedError` if the tokenizer cannot be used or saved yet."""

    def require_decoder(self, action: str) -> None:
        """Raise `TokenError` if the tokenizer was loaded without its decoder."""
        if not self.is_whole:
            raise TokenError(
                f"{self.name} was loaded without its decoder and cannot {action}: load it again without decoder=False."
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers, quantizer included, fitted statistics left out."""
        return sum(p.numel() for p in self.parameters())

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """Convert the floating weights, if the ids survive it; in fast mode those of `fast_modules`, to any dtype.

        Raises:
            ConfigError: The ids of this family would change in `dtype`, or fast mode cannot compute in it.
        """
        if not self.is_exact:
            convert(self, self.fast_modules, dtype)
            return self
        if dtype not in self.float_dtypes:
            remedy = (
                ", or load it with exact=False, for fast mode, in which a few ids differ" if self.fast_modules else ""
            )
            raise ConfigError(
                f"{self.family} gives the same ids only in {', '.join(map(str, self.float_dtypes))}, not in {dtype}: "
                f"leave dtype out{remedy}."
            )
        return self.to(dtype=dtype)

    @property
    def fast_dtype(self) -> torch.dtype | None:
        """Dtype of the weights of `fast_modules` in fast mode, None in exact mode."""
        return None if self.is_exact else dtype_of(self, self.fast_modules)

    def as_tokens(self, tokens: Any, lengths: Any = None) -> Tokens:
        """Check what a caller hands to `decode`, and return it as `Tokens` on this tokenizer's device.

        Raises:
            TokenError: Ids out of range, of the wrong rank or number of codebooks, shifted, or another model's.
        """
        checked = checked_tokens(tokens, lengths, self.spec, self.name)
        device = self.device
        return checked if checked.ids.device == device else checked.to(device)

    def latent_values(self, latents: Latents | Tensor) -> Tensor:
        """Return the values of what a caller hands to `decode_latents`.

        Raises:
            TokenError: Another tokenizer's latents.
        """
        if not isinstance(latents, Latents):
            return latents
        if latents.model and latents.model != self.name:
            raise TokenError(f"these latents were made by {latents.model!r}, and this tokenizer is {self.name!r}.")
        return latents.values

    def as_batch(self, x: Any, lengths: Any = None, **reading: bool) -> tuple[Tensor, Tensor | None]:
        """Turn whatever a caller hands to `encode` into a float batch on this tokenizer's device, and its lengths.

        Args:
            x: The signals.
            lengths: As for `encode`.
            reading: Options of `zoo.data.inputs.to_batch` that concern files: `resample`, `mix_down`, `on_white`.

        Raises:
            InputError: See `zoo.data.inputs.to_batch`.
        """
        from zoo.data.inputs import to_batch

        modality, rate = self.spec.modality, self.spec.sample_rate
        if modality == "speech" and rate is None:
            raise InputError(f"{self.name} does not say its sample rate.")
        return to_batch(
            x,
            lengths,
            modality=modality,
            sample_rate=int(rate or 0) if modality == "speech" else None,
            input_size=self.spec.input_size if modality in ("image", "video") else None,
            device=self.device,
            **reading,
        )
