"""The contract: what every tokenizer of the library is and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from zoo import _parts
from zoo import config as configs
from zoo.errors import ConfigError, InputError, TokenError
from zoo.spec import TokenSpec
from zoo.tokens import Tokens

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
        part_names: Attributes, such as `decoder`, that have a file of weights of their own in a checkpoint, which is
            read when they are first used; see `add_part`.
        official: Module that reads the authors' released layout, "" if there is none: it has `recognises(folder)`,
            `load(folder)`, and `EXTRA_FILES`, paths that a download of it needs beside JSON and safetensors.
        name: `family.variant` of the checkpoint, or the family's name before it has one.
        spec: Facts about the tokens.
        source: Where it was loaded from, `hf://owner/repo@commit` or a folder, "" if it was built in memory.
        trained_on: What the weights or statistics were made from.
    """

    family: ClassVar[str]
    config_class: ClassVar[type]
    float_dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    asset_names: ClassVar[tuple[str, ...]] = ()
    part_names: ClassVar[tuple[str, ...]] = ()
    official: ClassVar[str] = ""

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

    def assets(self) -> dict[str, bytes]:
        """Return the contents of the files in `asset_names`."""
        return {}

    def require_ready(self) -> None:
        """Raise `NotFittedError` if the tokenizer cannot be used or saved yet."""

    def add_part(self, name: str, build: Callable[[], nn.Module]) -> None:
        """Give this tokenizer the attribute `name`, one of `part_names`, that `build` makes; for constructors.

        While a checkpoint is loaded that has the part's weights in a file of their own, nothing is made yet, but when
        the part is first used: by its name, or by what includes it, such as `parameters()`, `state_dict()`, `save`,
        a copy, or a change of dtype. Encoding, `to(device)`, `train` and `num_parameters` do without.

        Args:
            name: The attribute.
            build: Makes the part from the config alone. It shares no tensors with the rest.
        """
        if name not in self.part_names:
            raise ConfigError(f"{type(self).__name__}.part_names lacks {name!r}.")
        setattr(self, name, _parts.Unread(build) if _parts.is_left_out(self, name) else build())

    def read_parts(self) -> Self:
        """Read what is otherwise read when it is first used.

        Raises:
            CheckpointError: A file is missing, damaged, or does not fit the config.
        """
        for name in _parts.unread(self):
            getattr(self, name)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        for parameter in self.parameters_read():
            return parameter.device
        for module in _parts.present(self):
            for buffer in module._buffers.values():
                if buffer is not None:
                    return buffer.device
        return torch.device("cpu")

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers, quantizer included, fitted statistics left out."""
        unread = [part.skeleton().parameters() for part in _parts.unread(self).values()]
        return sum(p.numel() for parameters in (self.parameters_read(), *unread) for p in parameters)

    def parameters_read(self) -> Iterator[nn.Parameter]:
        """Yield the parameters without those of parts that have not been read, and so without reading them.

        The weights of those are of the dtypes that their constructors choose.
        """
        seen = set()
        for module in _parts.present(self):
            for parameter in module._parameters.values():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

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

    # Torch's own methods, by which others see a part: none of them sees one that has not been read.

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if isinstance(value, _parts.Unread) and value.is_attached:
            return _parts.resolve(self, name, value, self.device)
        return value

    def __getstate__(self) -> Any:
        self.read_parts()
        return super().__getstate__()  # type: ignore[no-untyped-call]

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield all modules, as torch does."""
        self.read_parts()
        yield from super().named_modules(memo, prefix, remove_duplicate)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules right below, as torch does."""
        self.read_parts()
        yield from super().named_children()

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Return all weights, as torch does."""
        self.read_parts()
        return super().state_dict(*args, **options)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.read_parts()
        super()._load_from_state_dict(*args)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as torch does, also of parts that are yet to be read."""
        for module in self._modules.values():
            if module is not None:
                module.train(mode)
        self.training = mode
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A part that is read later goes to where the others are then; any other change is made to the part itself.
        if _parts.unread(self) and not _moves_only(fn, self.device):
            self.read_parts()
        for module in self._modules.values() if recurse else ():
            if module is not None:
                module._apply(fn)  # type: ignore[no-untyped-call]
        changed: Self = super()._apply(fn, recurse=False)  # type: ignore[no-untyped-call]
        return changed


def _moves_only(fn: Callable[[Tensor], Tensor], device: torch.device) -> bool:
    """Whether all that `fn` does to tensors of any dtype is to move them to a device that has memory."""
    for dtype in (torch.float32, torch.float16):
        moved = fn(torch.empty(0, dtype=dtype, device=device))
        if moved.dtype != dtype or moved.is_meta:
            return False
    return True


def _is_plausible(tokens: Tokens) -> bool:
    """Whether every id is in the codebook and every length within the ids."""
    ids, lengths = tokens.ids, tokens.lengths
    if ids.dtype != torch.int64 or ids.ndim not in (2, 3) or lengths.shape != ids.shape[:1]:
        return False
    bounds = [(ids, tokens.codebook_size - 1), (lengths, ids.shape[1])]
    return all(int(low) >= 0 and int(high) <= most for x, most in bounds if x.numel() for low, high in [x.aminmax()])
