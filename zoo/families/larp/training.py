"""Training LARP: a tokenizer of clips, a prior that its tokens are to please, and a judge of what it makes.

    L = L1 + L_perceptual + 0.3 L_adversarial + 0.1 L_quantizer + 0.06 L_prior

`L_prior` is what a small autoregressive model makes of the tokens, in nats a token. Its gradient reaches the encoder
through the codes, neither the codebook nor the decoder, so that the encoder learns tokens that can be guessed from
those before (section 3 of the paper). The prior is left out of what is exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.discriminators.clips import ClipDiscriminator, ClipDiscriminatorConfig
from zoo.components.losses.adversarial import AdversarialKind, LeCam, discriminator_loss, generator_loss
from zoo.components.losses.perceptual import PerceptualDistance, distance_of
from zoo.components.prior import CodePrior
from zoo.components.quantizers import Quantized, StochasticVQ, StochasticVQConfig
from zoo.data.videos import VideoBatch
from zoo.errors import ConfigError
from zoo.families.larp.guide import Guide, GuideConfig
from zoo.families.larp.prior import PriorConfig, all_codes
from zoo.families.larp.tokenizer import LARPTokenizer
from zoo.metrics.image import decibels
from zoo.training.adversarial import AdversarialModule, Reconstruction
from zoo.training.media import Clip, Media
from zoo.training.optim import OptimizerConfig

__all__ = ["AnnealingConfig", "LARPTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()


@dataclass(frozen=True)
class AnnealingConfig:
    """How the temperature of a `stochastic_vq` comes to that of its config, linearly.

    Attributes:
        start: The temperature until the step `begin`.
        begin: That step.
        end: The step from which it is that of the config.

    Raises:
        ConfigError: A value is unusable.
    """

    start: float
    begin: int = 0
    end: int = 10_000

    def __post_init__(self) -> None:
        configs.check_fields(self, "annealing")
        if not 1e-6 <= self.start <= 1e6 or not 0 <= self.begin < self.end:
            raise ConfigError(
                "annealing: start must be a temperature from 1e-6 to 1e6, and 0 ≤ begin < end, got "
                f"{self.start}, {self.begin} and {self.end}."
            )

    def temperature(self, step: int, last: float) -> float:
        """Return the temperature in a step, where it comes to `last`."""
        share = min(1.0, max(0.0, (step - self.begin) / (self.end - self.begin)))
        return self.start + (last - self.start) * share


class LARPTraining(AdversarialModule):
    """Trains encoder, quantizer and decoder, and beside them a prior and a discriminator.

    Losses: `l1` and `l2`, the mean absolute and squared error of pixels in 0…1; `perceptual`, the mean distance of
    frames in a frozen network's features; `prior`, the mean negative log-probability of an id in nats, over both rounds
    of scheduled sampling; `guide`, that of `Guide`, times what is left of it; the quantizer's, as published 0.1 times
    what its config says; `adversarial`, `discriminator` and `lecam`, if there is a discriminator. `lecam` is published
    with a weight of 0.001, which the authors' code multiplies in twice, hence 1e-6 here. Their `hinge` is half of what
    it is here.

    Args:
        config: As of `TokenizerModule`.
        weights: As of `TokenizerModule`; a training checkpoint gives prior and discriminator as well.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        prior: Values of `PriorConfig`; None for no prior.
        prior_lr_multiplier: How many times the learning rate the prior has. The paper says 50, but the authors'
            schedule overwrites it in its first step, so that their released model was trained with 1.
        perceptual: The frozen network, as `zoo.components.features.build` takes it; none if None.
        perceptual_frames: Frames of each clip that it compares, drawn anew each step; all if None.
        guide: Values of `GuideConfig`, for short trainings of small batches; None as published.
        annealing: Values of `AnnealingConfig`; None for the config's temperature throughout.
        discriminator: Values of `ClipDiscriminatorConfig`, where clips and patches are not those of the tokenizer; None
            for none.
        adversarial_kind: How judgements become losses.
        label_noise: How much labels are softened at random, with `non_saturating` alone.
        discriminator_optimizer: As of `AdversarialModule`.
        discriminator_every: As of `AdversarialModule`.
        adversarial_from: As of `AdversarialModule`.

    Attributes:
        prior: The prior, or None.
        guide: What tokens hold at first, or None.
        lecam: What keeps the discriminator's judgements near their averages; None without one.

    Raises:
        ConfigError: A value is unusable, or a prior is asked for where the quantizer has no single codebook.
    """

    family: ClassVar[str] = "larp"
    default_weights: ClassVar[Mapping[str, float]] = {
        "l1": 1.0,
        "l2": 0.0,
        "perceptual": 1.0,
        "prior": 0.06,
        "guide": 10.0,
        "quantizer_commitment": 0.1,
        "quantizer_codebook": 0.1,
        "adversarial": 0.3,
        "discriminator": 1.0,
        "lecam": 1e-6,
    }

    tokenizer: LARPTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        prior: dict[str, Any] | None = None,
        prior_lr_multiplier: float = 1.0,
        perceptual: dict[str, Any] | None = None,
        perceptual_frames: int | None = None,
        guide: dict[str, Any] | None = None,
        annealing: dict[str, Any] | None = None,
        discriminator: dict[str, Any] | None = None,
        adversarial_kind: AdversarialKind = "non_saturating",
        label_noise: float = 0.15,
        discriminator_optimizer: OptimizerConfig | None = None,
        discriminator_every: int = 5,
        adversarial_from: int = 0,
    ) -> None:
        super().__init__(
            config,
            None,
            optimizer,
            loss_weights,
            discriminator,
            discriminator_optimizer,
            discriminator_every,
            adversarial_from,
        )
        if not 1e-3 <= prior_lr_multiplier <= 1e4:
            raise ConfigError(f"prior_lr_multiplier must be from 0.001 to 10000, got {prior_lr_multiplier}.")
        quantizer, own = self.tokenizer.quantizer, self.tokenizer.config
        self.prior: CodePrior | None = None
        self.prior_config = configs.from_dict(PriorConfig, prior or {}, "prior")
        self.prior_lr_multiplier = prior_lr_multiplier
        if prior is not None:
            all_codes(quantizer)  # which refuses quantizers that it cannot be of
            self.prior = self.prior_config.build(quantizer.dim, own.num_tokens)
        self.guide: Guide | None = None
        if guide is not None:
            places = configs.from_dict(GuideConfig, guide, "guide")
            clip = (own.num_frames, own.image_size, own.image_size)
            self.guide = Guide(places, own.num_tokens, quantizer.input_dim, clip)
        self.annealing = None if annealing is None else configs.from_dict(AnnealingConfig, annealing, "annealing")
        if self.annealing is not None and not (
            isinstance(quantizer, StochasticVQ) and quantizer.inverse_temperature is None
        ):
            raise ConfigError("annealing is of a stochastic_vq whose temperature is not learned: leave it out.")
        self.perceptual = distance_of(perceptual)
        if perceptual_frames is not None and not 1 <= perceptual_frames <= own.num_frames:
            raise ConfigError(f"perceptual_frames must be from 1 to {own.num_frames}, got {perceptual_frames}.")
        self.perceptual_frames = perceptual_frames
        self.adversarial_kind: AdversarialKind = adversarial_kind
        self.label_noise = label_noise if adversarial_kind == "non_saturating" else 0.0
        self.lecam = None if self.discriminator is None else LeCam(of_means=True)
        if weights is not None:
            self._start_from(weights)

    def build_discriminator(self, values: dict[str, Any]) -> nn.Module:
        """Return the discriminator of values of `ClipDiscriminatorConfig`, of the tokenizer's clips and patches."""
        own = self.tokenizer.config
        size = [own.num_frames, own.image_size, own.image_size]
        values = {"size": size, "patch": list(own.patch), **values}
        return ClipDiscriminator(configs.from_dict(ClipDiscriminatorConfig, values, "discriminator"))

    def faster_modules(self) -> Sequence[tuple[nn.Module, float]]:
        """Return the prior, and how many times the tokenizer's learning rate it has."""
        return () if self.prior is None else ((self.prior, self.prior_lr_multiplier),)

    def num_items(self, batch: VideoBatch) -> int:
        """Return how many clips a batch has."""
        return len(batch.videos)

    def reconstruct(self, batch: VideoBatch) -> Reconstruction:
        """Return what the tokenizer makes of clips."""
        videos: Tensor = batch.videos
        is_training = self.trainer.training
        if self.annealing is not None and is_training:
            quantizer = cast("StochasticVQ", self.tokenizer.quantizer)
            last = cast("StochasticVQConfig", self.tokenizer.config.quantizer).temperature
            quantizer.temperature = self.annealing.temperature(self.global_step, last)
        vectors = self.tokenizer.encoder(videos)
        quantized = self.tokenizer.quantizer(vectors)
        made = self.tokenizer.decoder(quantized.codes, videos.shape[2])
        losses = {
            "l1": F.l1_loss(made.float(), videos),
            "l2": F.mse_loss(made.float(), videos),
            **self.quantizer_losses(quantized),
        }
        if self.perceptual is not None:
            losses["perceptual"] = self._perceptual(made, videos)
        if self.guide is not None and (left := self.guide.weight(self.global_step)):
            losses["guide"] = left * self.guide(vectors, videos)
        if self.prior is not None:
            losses["prior"] = self._predictability(quantized)
        if not is_training:
            error = (made.clamp(0, 1).float() - videos).square().flatten(1).mean(1)
            self._log("psnr", decibels(error).mean())
        return Reconstruction(losses, videos, made)

    def discriminator_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how badly the discriminator tells clips from what was made, and how far it is from its averages."""
        judge, lecam = cast("ClipDiscriminator", self.discriminator), cast("LeCam", self.lecam)
        real, made = judge(pair.real), judge(pair.made)
        loss = discriminator_loss([real], [made], self.adversarial_kind, label_noise=self.label_noise)
        return {"discriminator": loss, "lecam": lecam(real, made)}

    def adversarial_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how far the discriminator is from taking what was made for clips."""
        judge = cast("ClipDiscriminator", self.discriminator)
        return {"adversarial": generator_loss([judge(pair.made)], self.adversarial_kind)}

    def media(self, batch: VideoBatch) -> dict[str, Media]:
        """Return the first clip over what becomes of it."""
        videos = batch.videos[:1]
        with torch.no_grad():
            codes = self.tokenizer.quantizer(self.tokenizer.encoder(videos)).codes
            made = self.tokenizer.decoder(codes, videos.shape[2]).clamp(0, 1)
        return {"reconstruction": Clip(torch.cat([videos[0], made[0].float()], 2))}

    def _perceptual(self, made: Tensor, videos: Tensor) -> Tensor:
        """Return the mean distance of frames, some or all."""
        frames, count = videos.shape[2], self.perceptual_frames
        if count is not None and count < frames:
            if self.trainer.training:
                chosen = torch.randperm(frames, device="cpu")[:count]
            else:
                chosen = torch.linspace(0, frames - 1, count, dtype=torch.float64, device="cpu").round().long()
            made, videos = (clips[:, :, chosen.to(clips.device)] for clips in (made, videos))
        pictures = [clips.transpose(1, 2).flatten(0, 1) for clips in (made, videos)]
        distances: Tensor = cast("PerceptualDistance", self.perceptual)(*pictures)
        return distances.mean()

    def _predictability(self, quantized: Quantized) -> Tensor:
        """Return the prior's loss; in evaluation at the share that training ends with, drawn the same each time."""
        prior, settings = cast("CodePrior", self.prior), self.prior_config
        codes, generator = all_codes(self.tokenizer.quantizer), None
        if self.trainer.training:
            steps = self.optimizer_config.total_steps or self._steps or float("inf")
            replaced = settings.replaced(self.global_step + 1, steps)
        else:
            replaced = settings.replaced(1, 1)
            generator = torch.Generator(codes.device).manual_seed(0)
        return prior.loss(quantized.codes, quantized.ids, codes, replaced=replaced, generator=generator)
