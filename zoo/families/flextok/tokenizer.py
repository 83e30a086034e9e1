"""FlexTok, an image as a list of 1 to 256 tokens, coarse to fine (Bachmann et al., arXiv 2502.13967, ICML 2025).

A convolutional autoencoder brings the image to latents. A transformer reads these with registers, of which each sees
those before it; what the registers hold is quantized, and is the list. A second transformer turns noise into latents
again by a rectified flow, conditioned on the list. In training the list is cut at a random length (nested dropout), so
that the first tokens learn to say what matters most, and any prefix decodes to a plausible image: with few tokens to
one of the same kind, with all of them to the same.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from zoo import config as configs
from zoo.components.flow import Adaptive, Guidance, Path, Solver, sample, start_noise
from zoo.components.quantizers import Quantizer, build
from zoo.errors import ConfigError, TokenError, near_matches, shown
from zoo.families.flextok.config import FlexTokConfig
from zoo.families.flextok.decoder import FlexTokDecoder
from zoo.families.flextok.encoder import FlexTokEncoder
from zoo.families.flextok.options import DecodeOptions, EncodeOptions
from zoo.modalities.image import ImageTokenizer
from zoo.spec import TokenSpec, option_names
from zoo.stored import NoDecoder
from zoo.tokens import Latents, Tokens

__all__ = ["PATH", "FlexTokTokenizer"]

PATH = Path(noise_time=1, points_to="noise")
"""Of the flow: noise is at time 1, and velocities point to it."""

_TOGETHER = 64  # images decoded at a time

Measure = Literal["mse", "mae"] | Callable[[Tensor, Tensor], Tensor]
_MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda made, images: (made - images).square().flatten(1).mean(1),
    "mae": lambda made, images: (made - images).abs().flatten(1).mean(1),
}


class FlexTokTokenizer(ImageTokenizer):
    """Images (B, 3, H, W) in 0…1 → ids (B, N), of which every prefix is a coarser code of the same image.

    Attributes:
        encoder: Pixels in -1…1 → vectors (`FlexTokEncoder`).
        quantizer: Vectors → ids, as published `FSQ`.
        decoder: Codes → pixels (`FlexTokDecoder`), or `NoDecoder` with `decoder=False`.
    """

    family: ClassVar[str] = "flextok"
    config_class: ClassVar[type] = FlexTokConfig
    # The autoencoder stays in float32, as its authors have it.
    fast_modules: ClassVar[tuple[str, ...]] = ("encoder.resampler", "decoder.flow")
    encode_options: ClassVar[type] = EncodeOptions
    decode_options: ClassVar[type] = DecodeOptions
    decoder_file: ClassVar[bool] = True
    official: ClassVar[str] = "zoo.families.flextok.official.folder"

    config: FlexTokConfig
    encoder: FlexTokEncoder
    quantizer: Quantizer
    decoder: FlexTokDecoder | NoDecoder

    def __init__(self, config: FlexTokConfig, *, decoder: bool = True) -> None:
        super().__init__(config, decoder=decoder)
        self.quantizer = build(config.quantizer)
        self.encoder = FlexTokEncoder(config, self.quantizer.input_dim)
        self.decoder = FlexTokDecoder(config, self.quantizer.dim) if decoder else NoDecoder()
        self.spec = TokenSpec(
            modality="image",
            codebook_size=self.quantizer.codebook_size or None,
            num_codebooks=max(1, self.quantizer.num_codebooks),
            num_tokens=config.num_tokens,
            input_size=(config.image_size, config.image_size),
            is_ordered=True,
            latent_dim=self.quantizer.input_dim,
            trained_lengths=None if config.nested_dropout == "uniform" else config.trained_lengths,
        )
        self._warned_of: set[int] = set()

    def encode(
        self,
        x: Any,
        lengths: Any = None,
        *,
        on_white: bool = False,
        num_tokens: int | None = None,
        max_error: float | None = None,
        measure: Measure = "mse",
        decoding: Mapping[str, Any] | None = None,
    ) -> Tokens:
        """Turn images into tokens.

        Args:
            x: Float (B, 3, H, W) in 0…1, one image, uint8, PIL images, paths, or a list.
            lengths: None: every image is whole.
            on_white: Lay transparent images on white instead of refusing them.
            num_tokens: How many tokens to keep of each image: the first so many of all. All if None.
            max_error: Keep of each image the shortest trained prefix (`spec.trained_lengths`) that decodes to an image
                with at most this error, up to `num_tokens`. Each image is decoded at every such length from the
                shortest on, until one is good enough, since errors need not fall with the length.
            measure: The error: "mse", the mean squared error of pixels in 0…1; "mae", the mean absolute one; or a
                function of decoded and original images (B, 3, H, W) that returns errors (B,).
            decoding: How to decode for that: options of `decode` by name, such as `{"steps": 10}`.

        Raises:
            InputError: NaN, another size, out of range, transparent, or an unreadable file.
            TokenError: There is no such number of tokens, or a bound is given and there is no decoder.
            ConfigError: A measure or an option of decoding is unknown.
        """
        most = self._checked_length(num_tokens)
        if max_error is None:
            tokens = super().encode(x, lengths, on_white=on_white)
            return tokens if most == len(tokens.ids[0]) else tokens[:, :most]
        judge, options = self._bound(max_error, measure, decoding)
        images, _ = self.as_batch(x, lengths, on_white=on_white)
        tokens = super().encode(images)[:, :most]
        with torch.no_grad():
            return tokens.truncate(self._shortest(tokens, images, max_error, judge, options))

    def decode(
        self,
        tokens: Any,
        lengths: Any = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        adaptive_guidance: bool | Mapping[str, Any] | Adaptive | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        noise: Tensor | None = None,
        seed: int = 0,
        clamp: bool = True,
    ) -> Tensor:
        """Turn the tokens of whole images, or the first few of them, into images.

        Numbers of tokens may differ within a batch. One that training did not keep (`spec.trained_lengths`) may decode
        worse than a smaller one that it did, of which a warning tells once.

        Args:
            tokens: What `encode` returned, a slice of it such as `tokens[:, :16]`, or ids (B, T) with `lengths`.
            lengths: (B,) valid ids of each image.
            steps: Euler steps from noise to latents; those of the config, 25 as published, if None.
            guidance: How much the tokens' influence is exaggerated; 1 is not at all, and twice as fast. As in the
                config, 7.5 as published, if None.
            adaptive_guidance: Whether guidance is adaptive and projected (arXiv 2410.02416), which keeps colours
                natural at large scales; or its constants, `Adaptive` or `{"momentum": -0.5, "threshold": 2.5,
                "parallel": 0.0}`. As in the config, if None.
            generator: Source of the noise, drawn image by image, or one an image.
            noise: The noise itself, (B, C, h, w) of latents.
            seed: Where neither is given, every image's noise is drawn from a generator of its own that starts here, so
                that an image depends on its tokens alone.
            clamp: Bring what the decoder overshoots back to 0…1.

        Returns:
            Float pixels (B, 3, H, W).

        Raises:
            TokenError: Ids out of range, too many, or another model's; or it was loaded without its decoder.
            InputError: The noise is of another shape, or generators are of another number.
            ConfigError: An option is unusable.
        """
        tokens = self.as_tokens(tokens, lengths)
        self.require_decoder("decode")
        if tokens.ids.shape[1] > self.config.num_tokens or 0 in tokens.lengths:
            raise TokenError(
                f"{self.name} decodes 1 to {self.config.num_tokens} tokens of an image, got lengths "
                f"{tokens.lengths.tolist()}."
            )
        with self.computing():
            codes = self.quantizer.codes(tokens.ids)
            start = self._noise(len(codes), generator, noise, seed)
            solver, guided = self._sampling(steps, guidance, adaptive_guidance)
            return self._decoded(codes, tokens.lengths, start, solver, guided, clamp)

    def decode_latents(self, latents: Latents | Tensor) -> Tensor:
        """Quantize latents, or their bare values (B, T, D), and turn the codes into images as `decode` does."""
        self.require_decoder("decode")
        values, most, width = self.latent_values(latents), self.config.num_tokens, self.quantizer.input_dim
        if values.ndim != 3 or values.shape[2] != width or 0 in values.shape or values.shape[1] > most:
            raise TokenError(
                f"latents of {self.name} are (B, T, {width}) with T from 1 to {most}, got {tuple(values.shape)}."
            )
        counts = (
            latents.lengths
            if isinstance(latents, Latents)
            else torch.full((len(values),), values.shape[1], device=values.device)
        )
        with self.computing():
            codes = self.quantizer(values.to(self.device, torch.float32)).codes
            solver, guided = self._sampling(None, None, None)
            return self._decoded(codes, counts.to(self.device), self._noise(len(codes)), solver, guided, True)

    def check_encode(self, **options: Any) -> None:
        """Refuse a number of tokens that there is not, or no bound of an error; see `Tokenizer.check_encode`."""
        super().check_encode(**options)
        self._checked_length(options.get("num_tokens"))
        if options.get("max_error") is not None:
            self._bound(options["max_error"], options.get("measure", "mse"), options.get("decoding"))

    def check_decode(self, tokens: Tokens | None = None, **options: Any) -> None:
        """Refuse other steps or guidance than there can be; see `Tokenizer.check_decode`."""
        super().check_decode(tokens, **options)
        self._sampling(*(options.get(name) for name in ("steps", "guidance", "adaptive_guidance")))

    def vectors(self, pixels: Tensor) -> Tensor:
        """Return what is quantized of pixels (B, 3, H, W) in 0…1, (B, N, D)."""
        made: Tensor = self.encoder(2 * pixels - 1)
        return made

    @property
    def has_autoencoder(self) -> bool:
        """Whether the decoder is there."""
        return isinstance(self.decoder, FlexTokDecoder)

    def autoencode(self, pixels: Tensor) -> Tensor:
        """Make images (B, 3, H, W) in 0…1 again from the latents that are tokenized."""
        self.require_decoder("autoencode")
        with self.computing():
            made = cast(FlexTokDecoder, self.decoder).pixels(self.encoder.latents(2 * pixels - 1))
        return ((made.float() + 1) / 2).clamp(0, 1)

    @property
    def input_dtype(self) -> torch.dtype:
        """The autoencoder's."""
        return self.encoder.autoencoder.conv_in.weight.dtype

    def _decoded(
        self, codes: Tensor, lengths: Tensor, noise: Tensor, solver: Solver, guidance: Guidance | None, clamp: bool
    ) -> Tensor:
        """Return the images (B, 3, H, W) of codes (B, T, D)."""
        self._warn_of_untrained(set(lengths.tolist()))
        decoder = cast(FlexTokDecoder, self.decoder)
        flow, done = decoder.flow, []
        for first in range(0, len(codes), _TOGETHER):
            part = slice(first, first + _TOGETHER)
            conditions, null = flow.condition(codes[part], lengths[part])
            latents = sample(flow, noise[part], PATH, solver, conditions=conditions, null=null, guidance=guidance)
            done.append((decoder.pixels(latents).float() + 1) / 2)
        images = torch.cat(done)
        return images.clamp(0, 1) if clamp else images

    def _sampling(self, steps: Any, guidance: Any, adaptive: Any) -> tuple[Solver, Guidance | None]:
        """Return how to solve and how to guide, the config's values in place of None."""
        steps = self.config.steps if steps is None else steps
        scale = self.config.guidance if guidance is None else guidance
        adaptive = self.config.adaptive_guidance if adaptive is None else adaptive
        if type(steps) is not int:
            raise ConfigError(f"steps must be a whole number, at least 1, got {shown(steps)}.")
        if not callable(scale) and not (isinstance(scale, (int, float)) and math.isfinite(scale)):
            raise ConfigError(f"guidance must be a number, 1 for none, got {shown(scale)}.")
        if isinstance(adaptive, Mapping):
            adaptive = configs.from_dict(Adaptive, adaptive, "adaptive_guidance")
        elif isinstance(adaptive, bool):
            adaptive = Adaptive() if adaptive else None
        elif not isinstance(adaptive, Adaptive):
            raise ConfigError(f"adaptive_guidance must be true, false or its constants, got {shown(adaptive)}.")
        return Solver(steps), None if scale == 1 else Guidance(scale, adaptive=adaptive)

    def _noise(
        self,
        batch: int,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        noise: Tensor | None = None,
        seed: int = 0,
    ) -> Tensor:
        side = self.config.latent_size
        shape = (batch, self.config.latent_channels, side, side)
        return start_noise(shape, generator, noise, seed, self.device)

    def _warn_of_untrained(self, lengths: set[int]) -> None:
        trained = self.spec.trained_lengths
        untrained = set() if trained is None else lengths - set(trained) - self._warned_of
        if untrained and not self._warned_of:
            self._warned_of |= untrained
            warnings.warn(
                f"{self.name} was not trained to decode {sorted(untrained)[0]} tokens, and may do worse than with "
                f"fewer; it was trained on {', '.join(map(str, trained or ()))}.",
                UserWarning,
                stacklevel=4,
            )

    def _checked_length(self, num_tokens: int | None) -> int:
        most = self.config.num_tokens
        if num_tokens is None:
            return most
        if type(num_tokens) is not int or not 1 <= num_tokens <= most:
            raise TokenError(f"{self.name} has 1 to {most} tokens an image: num_tokens cannot be {shown(num_tokens)}.")
        return num_tokens

    def _bound(
        self, max_error: Any, measure: Any, decoding: Mapping[str, Any] | None
    ) -> tuple[Callable[[Tensor, Tensor], Tensor], dict[str, Any]]:
        """Return the function that measures errors, and how to decode for it, both checked."""
        self.require_decoder("be bounded in its error")
        if not isinstance(max_error, (int, float)) or not max_error >= 0:
            raise ConfigError(f"max_error must be a number of at least 0, got {shown(max_error)}.")
        if not callable(measure) and measure not in _MEASURES:
            raise ConfigError(
                f"measure must be a function or the name of one, got {shown(measure)}; "
                f"{near_matches(str(measure)[:80], _MEASURES)}"
            )
        options = dict(decoding or {})
        known = option_names(DecodeOptions) - {"noise", "generator"}
        for name in options:
            if name not in known:
                raise ConfigError(f"decoding takes no {shown(name)}; {near_matches(str(name)[:80], known)}")
        return measure if callable(measure) else _MEASURES[measure], options

    def _shortest(
        self,
        tokens: Tokens,
        images: Tensor,
        max_error: float,
        measure: Callable[[Tensor, Tensor], Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        """Return of each image the smallest trained number of tokens that meets a bound, or all, int64 (B,)."""
        most = tokens.ids.shape[1]
        lengths = [length for length in self.config.trained_lengths if length < most] + [most]
        found = torch.full((len(tokens),), most, device=images.device)
        left = torch.arange(len(tokens), device=images.device)
        for length in lengths:
            errors = measure(self.decode(tokens[left][:, :length], **options), images[left])
            if errors.shape != left.shape:
                raise ConfigError(f"measure must return an error an image, ({len(left)},), got {tuple(errors.shape)}.")
            is_met = errors <= max_error
            found[left[is_met]] = length
            left = left[~is_met]
            if not len(left):
                return found
        warnings.warn(
            f"{len(left)} of {len(tokens)} images do not come back with an error of at most {max_error:g}, and keep "
            f"{most} tokens.",
            UserWarning,
            stacklevel=3,
        )
        return found
