"""The contract: what every tokenizer of the library is and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from zoo.errors import ConfigError, TokenError
from zoo.process.compiling import left_alone
from zoo.spec import NoOptions
from zoo.stored import NoDecoder, Stored
from zoo.tokens import Latents, Tokens
from zoo.tokens.checks import checked_tokens

if TYPE_CHECKING:
    from zoo.data.ragged import Ragged

__all__ = ["NoDecoder", "Tokenizer"]


class Tokenizer(Stored, ABC):
    """A discrete tokenizer: `encoder` → `quantizer` → `decoder`, three attributes of those names.

    A family subclasses it, names itself in `family`, describes itself with a dataclass of plain values in
    `config_class`, sets `spec` in its constructor, and implements `encode`, `decode`, `num_tokens` and
    `output_lengths`. Loading, saving, publishing, the command line and evaluation then work without another line. The
    constructor must also run under `torch.device("meta")`, where checkpoints are compared with their config. What a
    family says of its config and weights are the attributes of `zoo.stored.Stored`. `torch.compile` calls encode and
    decode as they are; what it can make faster are modules inside, `tokenizer.encoder.compile()`, in fast mode.

    Attributes:
        encode_options: Dataclass of what `encode` takes beside signal and lengths, by name and with its default.
        decode_options: The same of `decode`.
    """

    encode_options: ClassVar[type] = NoOptions
    decode_options: ClassVar[type] = NoOptions

    encoder: nn.Module
    quantizer: nn.Module
    decoder: nn.Module

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("encode", "decode", "encode_latents"):
            if name in vars(cls):
                setattr(cls, name, left_alone(vars(cls)[name]))

    @abstractmethod
    def encode(self, x: Any, lengths: Any = None) -> Tokens:
        """Turn signals into tokens.

        A pure function of each item alone: neither the rest of the batch, nor padding, nor the number of threads
        changes an id, unless it is in fast mode (`is_exact`). It changes no state, draws no random numbers and records
        no gradients.

        Args:
            x: A batch: speech (B, samples) in -1…1, images (B, 3, H, W) and videos (B, 3, T, H, W) in 0…1, actions
                (B, T, D) in their units; one item without the batch dimension; or a path, bytes, PIL image, NumPy
                array, `(wave, rate)`, or a list of these.
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

    def check_encode(self, **options: Any) -> None:
        """Refuse options of `encode` that it would refuse whatever the signal is, so that it is known before any work.

        Raises:
            ZooError: As `encode` would.
        """
        self.spec.require_codebook()
        self.encode_options(**options)

    def check_decode(self, tokens: Tokens | None = None, **options: Any) -> None:
        """Refuse what `decode` would refuse without looking at ids, so that it is known before any work.

        Args:
            tokens: What is to be decoded; None if only the options are known yet.
            options: Of `decode`.

        Raises:
            ZooError: As `decode` would.
        """
        self.require_decoder("decode")
        self.decode_options(**options)

    @abstractmethod
    def num_tokens(self, length: int) -> int:
        """Return how many positions `encode` gives for one item of `length` samples, frames or commands."""

    @abstractmethod
    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return how many samples, frames or commands of each decoded item are signal, (B,) int64."""

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

    def as_batch(self, x: Any, lengths: Any = None, **reading: Any) -> tuple[Tensor, Tensor | None]:
        """Turn whatever a caller hands to `encode` into a float batch on this tokenizer's device, and its lengths.

        Args:
            x: The signals.
            lengths: As for `encode`.
            reading: Options of `zoo.data.inputs.to_batch` that concern files: `resample`, `mix_down`, `on_white`.

        Raises:
            InputError: See `zoo.data.inputs.to_batch`.
        """
        from zoo.data.inputs import to_batch

        return to_batch(x, lengths, **self._needs(), **reading)

    def as_ragged(self, x: Any, lengths: Any = None, **reading: Any) -> Ragged:
        """Turn whatever a caller hands to `encode` into float items on this tokenizer's device, without padding.

        One long item among short ones then takes the memory that it needs itself. Arguments and errors are those of
        `as_batch`.
        """
        from zoo.data.inputs import to_ragged

        return to_ragged(x, lengths, **self._needs(), **reading)

    def as_items(self, x: Any, lengths: Any = None, **reading: Any) -> list[Tensor]:
        """Turn whatever a caller hands to `encode` into float items on this tokenizer's device, of their own lengths.

        Arguments and errors are those of `as_batch`.
        """
        from zoo.data.inputs import to_items

        return to_items(x, lengths, **self._needs(), **reading)

    def _needs(self) -> dict[str, Any]:
        from zoo.data import signals

        modality = self.spec.modality
        return {"modality": modality, "device": self.device, **signals.of(modality).needs(self.spec)}
