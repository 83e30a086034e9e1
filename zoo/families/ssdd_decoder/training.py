"""Training of SSDD's decoder for another tokenizer, which is named, and stays as it is.

    model:
      class_path: zoo.families.ssdd_decoder.training.SSDDDecoderTraining
      init_args: {source: flextok.nano, config: {…}}

Code vectors are normalised by the mean and deviation of each channel over some training pictures, which become part of
the config; distillation, `SSDDDecoderDistillation`, then starts from the checkpoint of that.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from zoo import config as configs
from zoo.errors import ConfigError
from zoo.families.ssdd.distillation import Distilling
from zoo.families.ssdd.flow_training import ADVERSARIAL_FROM, FlowTraining
from zoo.families.ssdd.measured import some_pictures
from zoo.families.ssdd_decoder.config import SourceConfig
from zoo.families.ssdd_decoder.tokenizer import SSDDDecoderTokenizer
from zoo.modalities.image import ImageTokenizer
from zoo.training import OptimizerConfig, tokenizer_of
from zoo.training.origin import Origin, read_origin

__all__ = ["SSDDDecoderDistillation", "SSDDDecoderTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_LEAST_STD = 1e-3


class SSDDDecoderTraining(FlowTraining):
    """Trains SSDD's decoder, and what lays out its latents, on the code vectors of another tokenizer.

    Args:
        config: Values of `SSDDDecoderConfig`. `source` and `image_size` are filled in, `grid` if the source has one,
            and mean and deviation of code vectors if `num_measured` is not 0.
        source: The tokenizer whose tokens or latents are decoded: a name, a folder, an `hf://` address, or a training
            checkpoint (`.ckpt`).
        weights: As of `TokenizerModule`; `steps` and `time_power` may differ.
        decoder: A trained SSDD whose network this one's starts from; as of `take_network`.
        pictures: Where the pictures are whose code vectors are measured, as of `ImageData`; its default if None.
        num_measured: How many of these, evenly spread over the training split.
        any_prefix: Whether the tokens of an ordered source are cut in training, a batch at one of the lengths that it
            was trained with, so that prefixes can be decoded.
        optimizer: As of `FlowTraining`.
        loss_weights: As of `FlowTraining`.
        times: As of `FlowTraining`.
        perceptual: As of `FlowTraining`.
        alignment: As of `FlowTraining`.
        alignment_layer: As of `FlowTraining`.
        discriminator: As of `FlowTraining`.
        discriminator_optimizer: As of `AdversarialModule`.
        discriminator_every: As of `AdversarialModule`.
        adversarial_from: As of `AdversarialModule`.

    Raises:
        ConfigError: A value is unusable, or the source is no tokenizer of pictures of one size.
    """

    family: ClassVar[str] = "ssdd_decoder"

    tokenizer: SSDDDecoderTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        source: str,
        weights: str | None = None,
        decoder: str | None = None,
        pictures: str | None = None,
        num_measured: int = 64,
        any_prefix: bool = True,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        times: dict[str, float] | None = None,
        perceptual: dict[str, Any] | None = None,
        alignment: dict[str, Any] | None = None,
        alignment_layer: int | None = None,
        discriminator: dict[str, Any] | None = None,
        discriminator_optimizer: OptimizerConfig | None = None,
        discriminator_every: int = 1,
        adversarial_from: int = ADVERSARIAL_FROM,
    ) -> None:
        found = _load(source)
        config = _filled(config, found, pictures, num_measured)
        super().__init__(
            config,
            optimizer,
            loss_weights,
            times,
            perceptual,
            alignment,
            alignment_layer,
            discriminator,
            discriminator_optimizer,
            discriminator_every,
            adversarial_from,
        )
        self.any_prefix = any_prefix
        kept = self.tokenizer.encoder
        kept.load_state_dict({n: t for n, t in found.state_dict().items() if not n.startswith("decoder.")})
        kept.requires_grad_(False)
        kept.is_exact = not kept.fast_modules  # whole batches at once: no id is kept here
        self.start_licence = found.spec.licence
        if weights is not None and decoder is not None:
            raise ConfigError("weights: they have a decoder already; leave out one or the other.")
        if weights is not None:
            self._start_from(weights)
        elif decoder is not None:
            self.take_network(decoder)

    def train(self, mode: bool = True) -> Self:
        """Leave the source in evaluation mode."""
        super().train(mode)
        self.tokenizer.encoder.eval()
        return self

    def codes(self, images: Tensor) -> Tensor:
        """Return the code vectors (B, T, D) of pictures, in training perhaps of a prefix."""
        codes = _codes(self.tokenizer.encoder, images)
        lengths = self.tokenizer.spec.trained_lengths or tuple(range(1, codes.shape[1] + 1))
        if self.tokenizer.spec.is_ordered and self.any_prefix and self.trainer.training:
            codes = codes[:, : lengths[int(torch.randint(len(lengths), ()))]]
        return codes

    def latents(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the network is conditioned on; there are no further losses."""
        return self.tokenizer.latents(self.codes(images)), {}

    def _require_same(self, weights: str, origin: Origin) -> list[str]:
        return super()._require_same(weights, self.with_own(origin, ("steps", "time_power")))


class SSDDDecoderDistillation(Distilling, SSDDDecoderTraining):
    """Distils the decoder of an `ssdd_decoder` into one step; see `zoo.families.ssdd.distillation`.

    Args:
        weights: The teacher, as of `TokenizerModule`, whose config and source are taken.
        teacher_steps: N of the teacher; 7 as published.
        optimizer: As of `FlowTraining`.
        loss_weights: As of `FlowTraining`.
        any_prefix: As of `SSDDDecoderTraining`.
        perceptual: As of `FlowTraining`.
        alignment: As of `FlowTraining`.
        alignment_layer: As of `FlowTraining`.

    Raises:
        ConfigError: A value is unusable, or the teacher is none.
    """

    def __init__(
        self,
        weights: str,
        teacher_steps: int = 7,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        any_prefix: bool = True,
        perceptual: dict[str, Any] | None = None,
        alignment: dict[str, Any] | None = None,
        alignment_layer: int | None = None,
    ) -> None:
        origin = read_origin(weights)
        if origin.family != self.family:
            raise ConfigError(f"weights: {weights!r} is a {origin.family}, and what is distilled is a {self.family}.")
        config = {**origin.config, "steps": 1}
        FlowTraining.__init__(self, config, optimizer, loss_weights, None, perceptual, alignment, alignment_layer)
        self.any_prefix = any_prefix
        self._start_from(weights)
        kept = self.tokenizer.encoder.requires_grad_(False)
        kept.is_exact = not kept.fast_modules
        self.keep_teacher(teacher_steps)

    def teach(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's latents, and the teacher's pictures of the same code vectors and noise."""
        codes, tokenizer = self.codes(images), self.tokenizer
        with torch.no_grad():
            goal = self.teacher(tokenizer.maps(codes), noise, self.teacher_steps, tokenizer.config.time_power)
        return tokenizer.latents(codes), goal


def _load(source: str) -> ImageTokenizer:
    import zoo

    found = tokenizer_of(source) if source.endswith(".ckpt") else zoo.load(source)
    if not isinstance(found, ImageTokenizer):
        raise ConfigError(f"source: {source!r} is a {found.family}, no tokenizer of images.")
    return found


def _filled(values: dict[str, Any], source: ImageTokenizer, pictures: str | None, num_measured: int) -> dict[str, Any]:
    """Return a config with what the source says: itself, its size, its grid, mean and deviation of its codes."""
    name = "" if source.name == source.family else source.name
    own = {"family": source.family, "name": name, "config": configs.to_dict(source.config)}
    configs.from_dict(SourceConfig, own, "source")
    if source.spec.input_size is None:
        raise ConfigError(f"source: {source.name} takes pictures of any size, and a decoder is trained for one size.")
    filled = {"source": own, "image_size": list(source.spec.input_size), **values}
    if source.grid is not None and len(source.grid) == 2:
        filled.setdefault("grid", list(source.grid))
    decoder = dict(filled.get("decoder") or {})
    if num_measured and not decoder.get("latent_mean"):
        mean, std = _measured(source, pictures, num_measured)
        decoder |= {"latent_mean": mean, "latent_std": std}
    return {**filled, "decoder": decoder}


def _measured(source: ImageTokenizer, pictures: str | None, number: int) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel of the code vectors of training pictures."""
    images = some_pictures(pictures, cast("tuple[int, int]", source.spec.input_size), number)
    codes = torch.cat([_codes(source, some) for some in torch.split(images, 16)]).flatten(0, 1)
    std = codes.std(0).clamp(min=_LEAST_STD)
    return [round(float(value), 6) for value in codes.mean(0)], [round(float(value), 6) for value in std]


def _codes(source: ImageTokenizer, images: Tensor) -> Tensor:
    """Return the code vectors (B, T, D) of pictures, by what every tokenizer has, whatever its encoder takes."""
    with torch.no_grad():
        return SSDDDecoderTokenizer.codes_of(source, source.encode_latents(images).values).float()
