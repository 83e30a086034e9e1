"""What makes pictures again of pictures: tokenizers, their autoencoders alone, any function, and codecs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_type_hints

import torch
from torch import Tensor

from zoo import config
from zoo.checkpoint.fingerprint import fingerprint
from zoo.data._image import resize
from zoo.errors import ConfigError, InputError, near_matches
from zoo.evaluation.functions import named_function
from zoo.evaluation.items import load_for
from zoo.evaluation.suites.image.codecs import Codec, encode_within
from zoo.evaluation.suites.image.config import ImageSuite
from zoo.modalities.image import ImageTokenizer
from zoo.spec import option_names
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens

__all__ = ["Autoencoder", "Function", "Made", "OfTokenizer", "Peer", "RoundTrip", "System", "check_options", "systems"]


@dataclass
class Made:
    """What a system made of a batch.

    Args:
        pictures: (B, 3, H, W) in 0…1.
        facts: What is known of each picture's code, by name: `bits`, `tokens`, `latents`, …
        seconds: Of the whole batch, by what was done: `encode`, `decode`.
        tokens: What was decoded, if there are ids.
    """

    pictures: Tensor
    facts: list[dict[str, float]]
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: Tokens | None = None


class System(ABC):
    """Makes pictures (B, 3, H, W) of pictures, or clips (B, 3, T, H, W) of clips.

    Attributes:
        name: As the report has it.
        settings: As the report has them.
        size: Height and width that it takes; None for any.
    """

    size: tuple[int, int] | None = None

    def __init__(self, name: str, settings: dict[str, Any] | None = None) -> None:
        self.name = name
        self.settings = settings or {}

    @abstractmethod
    def make(self, pictures: Tensor) -> Made:
        """Make pictures of pictures in its own size."""

    def __call__(self, pictures: Tensor) -> Made:
        """Make pictures as large as those given, scaled to its own size and back if that is another.

        Raises:
            InputError: What came out are no such pictures.
        """
        size = (pictures.shape[-2], pictures.shape[-1])
        own = self.size or size
        with torch.no_grad():
            made = self.make(resize(pictures, own, None))
        made.pictures = self.fitted(made.pictures, pictures.shape[:-2], size)
        return made

    def fitted(self, made: Tensor, wanted: Sequence[int], size: tuple[int, int]) -> Tensor:
        """Return what was made in a size, on the CPU; `wanted` is the shape in front of height and width.

        Raises:
            InputError: It is no such pictures.
        """
        own = self.size or size
        shape = (*wanted, *own)
        if made.shape != shape or not made.is_floating_point() or not bool(made.isfinite().all()):
            what = "pictures" if len(shape) == 4 else "clips"
            raise InputError(
                f"{self.name} must make finite floating-point {what} {shape}, got {made.dtype} of the shape "
                f"{tuple(made.shape)}."
            )
        return resize(made.detach().to("cpu", torch.float32).clamp(0, 1), size, None)


class OfTokenizer(System):
    """What is made by a tokenizer, or by a part of one."""

    def __init__(self, name: str, tokenizer: Tokenizer, settings: dict[str, Any] | None = None) -> None:
        facts = {
            "fingerprint": fingerprint(tokenizer),
            "trained_on": tokenizer.trained_on,
            "config": config.to_dict(tokenizer.config),
        }
        super().__init__(name, facts | (settings or {}))
        self.tokenizer = tokenizer
        size = tokenizer.spec.input_size
        self.size = None if size is None else (size[-2], size[-1])

    def timed(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """Return what a call gives, and the seconds it took."""
        device = self.tokenizer.device
        start = time.perf_counter()
        found = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return found, time.perf_counter() - start


class RoundTrip(OfTokenizer):
    """A tokenizer's `decode(encode(x))`, or, of a continuous one, the same of its latents.

    Args:
        name: As the report has it.
        tokenizer: Whose.
        options: Of `decode`, all of which it declares.
        seed: Of its random numbers, if `decode` draws any.
    """

    def __init__(self, name: str, tokenizer: Tokenizer, options: Mapping[str, Any], seed: int) -> None:
        drawn = next((each for each in ("seed", "generator") if each in option_names(tokenizer.decode_options)), "")
        told = {"decode": dict(options)} | ({"seed": options.get("seed", seed)} if drawn else {})
        super().__init__(name, tokenizer, told)
        self._options, self._drawn, self._seed = dict(options), drawn, seed
        self._now = self.options()
        self._prefixes: dict[int, dict[str, Any]] = {}

    def options(self) -> dict[str, Any]:
        """Return options of `decode` that draw random numbers from the seed on, whatever was drawn before."""
        if self._drawn == "generator":
            return self._options | {"generator": torch.Generator().manual_seed(self._seed)}
        return ({"seed": self._seed} if self._drawn else {}) | self._options

    def begin(self) -> None:
        """Draw random numbers from the seed on again."""
        self._now = self.options()

    def make(self, pictures: Tensor) -> Made:
        """Encode and decode."""
        spec = self.tokenizer.spec
        if spec.is_continuous:
            latents, encoding = self.timed(lambda: self.tokenizer.encode_latents(pictures))
            made, decoding = self.timed(lambda: self.tokenizer.decode_latents(latents, **self._now))
            width = latents.values.shape[2]
            facts = [{"latents": float(count * width)} for count in latents.lengths.tolist()]
            return Made(made, facts, {"encode": encoding, "decode": decoding})
        tokens, encoding = self.timed(lambda: self.tokenizer.encode(pictures))
        made, decoding = self.timed(lambda: self.decode(tokens, self._now))
        bits = float(spec.bits_per_token or 0)
        facts = [{"tokens": float(count), "bits": bits * count} for count in tokens.lengths.tolist()]
        return Made(made, facts, {"encode": encoding, "decode": decoding}, tokens)

    def decode(self, tokens: Tokens, options: Mapping[str, Any]) -> Tensor:
        """Return the pictures of tokens, in the tokenizer's own size."""
        return self.tokenizer.decode(tokens, **options)

    def lengths(self, most: int, wanted: Sequence[int] | None) -> tuple[int, ...]:
        """Return the numbers of first tokens that an ordered tokenizer decodes.

        Args:
            most: Tokens of a picture.
            wanted: Those asked for, of which those up to `most` count; None is what it was trained for, powers of 2 if
                it does not say, and all tokens.
        """
        if wanted is not None:
            return tuple(length for length in wanted if length <= most)
        known = self.tokenizer.spec.trained_lengths or tuple(2**power for power in range(most.bit_length()))
        return (*(length for length in known if length < most), most)

    def begin_prefixes(self, lengths: Sequence[int]) -> None:
        """Draw random numbers from the seed on, for each number of first tokens alike."""
        self._prefixes = {length: self.options() for length in lengths}

    def decode_prefix(self, tokens: Tokens, length: int, size: tuple[int, int]) -> Tensor:
        """Return the pictures of the first tokens of one of `begin_prefixes`' numbers, in a size.

        Raises:
            InputError: What came out are no such pictures.
        """
        with torch.no_grad():
            made = self.decode(tokens, self._prefixes[length])
        return self.fitted(made, (len(tokens), 3), size)


class Autoencoder(OfTokenizer):
    """The autoencoder whose latents a tokenizer has tokens for, without any: what it loses, no token can bring back."""

    def make(self, pictures: Tensor) -> Made:
        """Encode and decode."""
        tokenizer = cast("ImageTokenizer", self.tokenizer)
        made, seconds = self.timed(lambda: tokenizer.autoencode(pictures.to(tokenizer.device)))
        return Made(made, [{} for _ in pictures], {"round_trip": seconds})


class Function(System):
    """Any function of pictures (B, 3, H, W) in 0…1 that returns such pictures, or these and the bits (B,) of each."""

    def __init__(self, name: str, function: Callable[[Tensor], Any]) -> None:
        super().__init__(name, {"function": name})
        self.function = function

    def make(self, pictures: Tensor) -> Made:
        """Call the function."""
        start = time.perf_counter()
        found = self.function(pictures.clone())
        seconds = time.perf_counter() - start
        made, bits = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        facts: list[dict[str, float]] = [{} for _ in pictures]
        if bits is not None:
            values = torch.as_tensor(bits).flatten().tolist()
            if len(values) != len(pictures):
                raise InputError(
                    f"{self.name} must say the bits of each of {len(pictures)} pictures, got {len(values)}."
                )
            facts = [{"bits": float(value)} for value in values]
        return Made(torch.as_tensor(made), facts, {"round_trip": seconds})


class Peer:
    """A codec with at most as many bits as a system's code of the same picture.

    Args:
        codec: Which.
        of: Names of the systems, which have equal bits.
        bits: Whole bits of every picture, if all have as many.
    """

    def __init__(self, codec: Codec, of: Sequence[str], bits: int | None) -> None:
        self.codec, self.of = codec, list(of)
        self.name = f"{codec.title}, {f'{bits} bits' if bits is not None else f'as {of[0]}'}"
        self.settings = {"codec": codec.title, "options": dict(codec.options), "bits_of": self.of}

    def make(self, pictures: Tensor, bits: Sequence[float]) -> Made:
        """Code each picture with at most its number of bits.

        Raises:
            InputError: One cannot be coded with so few.
        """
        coded = [encode_within(pixels, most, self.codec) for pixels, most in zip(pictures, bits, strict=True)]
        facts = [
            {
                "bits": float(each.bits),
                "file_bits": float(each.file_bits),
                "coded_side": (each.size[0] * each.size[1]) ** 0.5,
                "quality": float(each.quality),
            }
            for each in coded
        ]
        return Made(torch.stack([each.pixels for each in coded]), facts)


def systems(suite: ImageSuite, models: Sequence[str] | None) -> list[System]:
    """Return what is measured, the autoencoder of a model before it.

    Raises:
        InputError: A model is of another modality, or there is no such function.
        ConfigError: The suite has an option of `decode` that no model declares, or a value that it cannot have.
    """
    wanted: list[tuple[str, str, dict[str, Any]]]
    wanted = [(name, name, {}) for name in dict.fromkeys(suite.models if models is None else models)]
    if models is None:
        wanted += [(variant.name, variant.model, variant.decode) for variant in suite.variants]
    if not wanted:
        raise ConfigError("there is nothing to measure: name at least one model.")
    declared: set[str] = set()
    made = [system for name, model, decode in wanted for system in _systems(suite, name, model, decode, declared)]
    if len({system.name for system in made}) < len(made):
        raise ConfigError(f"two of what is measured have one name: {', '.join(system.name for system in made)}.")
    for option in suite.decode:
        if option not in declared:
            raise ConfigError(
                f"decode has the option {option!r}, which no model declares; {near_matches(str(option), declared)}"
                if declared
                else f"decode has the option {option!r}, and the models' decode takes none."
            )
    return made


def _systems(
    suite: ImageSuite, name: str, model: str, decode: Mapping[str, Any], declared: set[str]
) -> Iterator[System]:
    """Yield the systems of a model; add the options that it declares."""
    if function := named_function(model):
        if decode:
            raise ConfigError(f"{name}: {model} is a function and has no options.")
        yield Function(name, function)
        return
    tokenizer = load_for(model, suite.kind, suite.device)
    names = option_names(tokenizer.decode_options)
    declared |= names
    options = {option: value for option, value in suite.decode.items() if option in names} | dict(decode)
    check_options(tokenizer.decode_options, options, f"decode of {name}")
    if name == model and isinstance(tokenizer, ImageTokenizer) and tokenizer.has_autoencoder:
        yield Autoencoder(f"{name}: autoencoder alone", tokenizer)
    yield RoundTrip(name, tokenizer, options, suite.seed)


def check_options(declared: type, options: Mapping[str, Any], where: str) -> None:
    """Refuse options that a dataclass does not declare, or whose values it does not allow.

    Raises:
        ConfigError: There is one.
    """
    open_ended = {name for name, hint in get_type_hints(declared).items() if hint is Any}
    config.from_dict(declared, {name: value for name, value in options.items() if name not in open_ended}, where)
