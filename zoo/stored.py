"""What has a config and weights, and so can be saved, loaded and published."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import nn

from zoo import config as configs
from zoo.components.exact.modes import convert, dtype_of
from zoo.errors import ConfigError, TokenError
from zoo.spec import TokenSpec

__all__ = ["NoDecoder", "Stored"]


class NoDecoder(nn.Module):
    """Stands where a decoder would be that a checkpoint lacks, or that was not asked for."""

    def forward(self, *_: object) -> NoReturn:
        """Raise `TokenError`."""
        raise TokenError("there is no decoder.")


class Stored(nn.Module):
    """A module of a family: made from a config of plain values, kept as a checkpoint.

    Attributes:
        family: The registry name of the family.
        config_class: Dataclass of plain values; the constructor's only required argument is one of these.
        float_dtypes: Floating dtypes in which the ids are still those of float32, and so the ones `to_dtype` accepts.
        fast_modules: Parts whose weights fast mode takes in any floating dtype; there is no fast mode if it is empty.
        asset_names: Files that a checkpoint of this family has beside its config and weights.
        decoder_file: Whether a checkpoint has the decoder's weights in a file of their own, so that encoding does
            without. The constructor of such a family takes `decoder=False` and then sets `self.decoder = NoDecoder()`.
        has_own_names: Whether models are called by the family, `family.variant`; by any, if it belongs to another's.
        official: Module that reads the authors' released layout, "" if there is none: it has `recognises(folder)`,
            `load(folder)`, and `EXTRA_FILES`, paths that a download of it needs beside JSON and safetensors.
        name: `family.variant` of the checkpoint, or the family's name before it has one.
        source: Where it was loaded from, `hf://owner/repo@commit` or a folder, "" if it was built in memory.
        trained_on: What the weights or statistics were made from.
        facts: What was found out when it was made, as plain values, for people and cards: `measured`, figures by name;
            `dof_names`, what the degrees of freedom of actions are called. Ids do not depend on it.
        spec: Facts about the ids.
        is_exact: False in fast mode, see `zoo.load`: rounding depends on the batch then, and with it a few ids.
        is_whole: False if it was loaded without its decoder: it encodes, and can neither decode nor be saved.
    """

    family: ClassVar[str]
    config_class: ClassVar[type]
    float_dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    fast_modules: ClassVar[tuple[str, ...]] = ()
    asset_names: ClassVar[tuple[str, ...]] = ()
    decoder_file: ClassVar[bool] = False
    has_own_names: ClassVar[bool] = True
    official: ClassVar[str] = ""

    config: Any
    spec: TokenSpec

    def __init__(self, config: Any, *, decoder: bool = True) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise ConfigError(f"{self.family} takes a {self.config_class.__name__}, got {type(config).__name__}.")
        self.config = config
        self.name = self.family
        self.source = ""
        self.trained_on = ""
        self.facts: dict[str, Any] = {}
        self.is_whole = decoder
        self.is_exact = True

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
        for tensor in chain(self.parameters(), self.buffers()):  # the first one, without a list of all
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
