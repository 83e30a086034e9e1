"""Training TexTok: both networks against a discriminator, with captions that are dropped now and then.

    L = L2 + 0.1 L_perceptual + 0.1 L_adversarial,   L_D = L_adversarial + 10 R1 + 0.0001 LeCam

The text encoder is frozen, and its states are computed once. No loss ties images to text: captions are inputs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import config as configs
from zoo import resources
from zoo.components.discriminators.images import ImageDiscriminator, ImageDiscriminatorConfig
from zoo.components.losses.adversarial import (
    AdversarialKind,
    LeCam,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from zoo.components.losses.perceptual import distance_of
from zoo.components.text import TextStates
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError
from zoo.families.textok.tokenizer import TexTokTokenizer
from zoo.metrics.image import decibels
from zoo.training.adversarial import AdversarialModule, Reconstruction
from zoo.training.media import Media, Picture
from zoo.training.optim import OptimizerConfig

__all__ = ["TexTokTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_SHOWN = 4


class TexTokTraining(AdversarialModule):
    """Trains both networks, the quantizer, and beside them a discriminator.

    Losses: `l2` and `l1`, the mean squared and absolute error of pixels in -1…1; `perceptual`, the distance in a frozen
    network's features; the quantizer's; `adversarial`, `discriminator`, `r1` (the squared norm of the judgement's
    gradient at real images) and `lecam`, if there is a discriminator.

    In validation `psnr` is with the caption of each image; `psnr_null` without, and `psnr_shuffled` with that of the
    next image of the batch, on both sides: what captions are worth.

    Args:
        config: As of `TokenizerModule`.
        weights: As of `TokenizerModule`; a training checkpoint gives the discriminator as well.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        text_in: Which networks see the caption, in place of what `config` says: the paper's ablation, and `none` its
            baseline, by one flag.
        perceptual: The frozen network, as `zoo.components.features.build` takes it; none if None.
        perceptual_unit: Whether its features are brought to length 1, as LPIPS does; if not, mean squares are compared,
            as of a classifier's logits.
        discriminator: Values of `ImageDiscriminatorConfig`, the size being that of the images; None for none.
        adversarial_kind: How judgements become losses.
        r1_every: Steps of the discriminator from one with R1 to the next, which counts as many times then.
        lecam_decay: As of `LeCam`.
        cut_captions: Whether captions that are too long are cut, or stop the training.
        text_cache: Folder where states of captions are kept from run to run; none if None.
        kept_captions: Captions whose states go with the model when it is exported, for use without the text encoder.
        discriminator_optimizer: As of `AdversarialModule`.
        discriminator_every: As of `AdversarialModule`.
        adversarial_from: As of `AdversarialModule`.

    Attributes:
        lecam: What keeps the discriminator's judgements near their averages; None without one.

    Raises:
        ConfigError: A value is unusable.
    """

    family: ClassVar[str] = "textok"
    default_weights: ClassVar[Mapping[str, float]] = {
        "l2": 1.0,
        "l1": 0.0,
        "perceptual": 0.1,
        "adversarial": 0.1,
        "discriminator": 1.0,
        "r1": 10.0,
        "lecam": 1e-4,
    }

    tokenizer: TexTokTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        text_in: str | None = None,
        perceptual: dict[str, Any] | None = None,
        perceptual_unit: bool = True,
        discriminator: dict[str, Any] | None = None,
        adversarial_kind: AdversarialKind = "non_saturating",
        r1_every: int = 1,
        lecam_decay: float = 0.999,
        cut_captions: bool = True,
        text_cache: str | None = "${cache}/text",
        kept_captions: list[str] | None = None,
        discriminator_optimizer: OptimizerConfig | None = None,
        discriminator_every: int = 1,
        adversarial_from: int = 0,
    ) -> None:
        config = config if text_in is None else {**config, "text_in": text_in}
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
        if r1_every < 1:
            raise ConfigError(f"r1_every must be at least 1, got {r1_every}.")
        self.perceptual = distance_of(perceptual, unit_channels=perceptual_unit)
        self.adversarial_kind: AdversarialKind = adversarial_kind
        self.r1_every = r1_every
        self.lecam = None if self.discriminator is None else LeCam(lecam_decay)
        self.cut_captions = cut_captions
        self.kept_captions = kept_captions or []
        self.tokenizer.captions.cache = None if text_cache is None else str(resources.expanded(text_cache))
        if weights is not None:
            self._start_from(weights)

    def build_discriminator(self, values: dict[str, Any]) -> nn.Module:
        """Return the discriminator of values of `ImageDiscriminatorConfig`, of the tokenizer's images."""
        values = {"image_size": self.tokenizer.config.image_size, **values}
        return ImageDiscriminator(configs.from_dict(ImageDiscriminatorConfig, values, "discriminator"))

    def on_fit_start(self) -> None:
        """Have the states of captions ready that go with the model."""
        super().on_fit_start()
        if self.kept_captions and self._reads_text:
            self.tokenizer.keep_captions(self.kept_captions)

    def num_items(self, batch: ImageBatch) -> int:
        """Return how many images a batch has."""
        return len(batch.images)

    def reconstruct(self, batch: ImageBatch) -> Reconstruction:
        """Return what the tokenizer makes of images and captions; what the discriminator sees is in -1…1."""
        images = batch.images
        rows = self._rows(batch.captions)
        is_training = self.trainer.training
        if rows is not None and is_training and self.tokenizer.config.null_rate:
            dropped = torch.rand(len(rows), device="cpu") < self.tokenizer.config.null_rate
            rows = [row[:0] if gone else row for row, gone in zip(rows, dropped.tolist(), strict=True)]
        text = self.tokenizer.text_of(rows)
        quantized = self.tokenizer.quantizer(self.tokenizer.moments(images, text))
        made = self.tokenizer.images(quantized.codes, text).float()
        losses = {
            "l2": 4 * F.mse_loss(made, images),
            "l1": 2 * F.l1_loss(made, images),
            **self.quantizer_losses(quantized),
        }
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(made, images).mean()
        if not is_training:
            self._log("psnr", _psnr(made, images))
            for name, others in self._others(rows).items():
                self._log(f"psnr_{name}", _psnr(self._made(images, self.tokenizer.text_of(others)), images))
        return Reconstruction(losses, 2 * images - 1, 2 * made - 1)

    def discriminator_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how badly the discriminator tells images from what was made, and what keeps it tame."""
        judge, lecam = cast("ImageDiscriminator", self.discriminator), cast("LeCam", self.lecam)
        turn = (self.global_step - self.adversarial_from) // self.discriminator_every
        is_penalised = turn % self.r1_every == 0 and self.loss_weights["r1"] != 0
        images = pair.real.detach().requires_grad_(is_penalised)
        real, made = judge(images), judge(pair.made)
        losses = {
            "discriminator": discriminator_loss([real], [made], self.adversarial_kind),
            "lecam": lecam(real, made),
        }
        if is_penalised:
            losses["r1"] = self.r1_every * r1_penalty(real, images)
        return losses

    def adversarial_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how far the discriminator is from taking what was made for images."""
        judge = cast("ImageDiscriminator", self.discriminator)
        return {"adversarial": generator_loss([judge(pair.made)], self.adversarial_kind)}

    def media(self, batch: ImageBatch) -> dict[str, Media]:
        """Return the first images over what becomes of them with their captions, without, and with another's."""
        images, rows = batch.images[:_SHOWN], self._rows(batch.captions[:_SHOWN])
        shown = [images, self._made(images, self.tokenizer.text_of(rows))]
        shown += [self._made(images, self.tokenizer.text_of(others)) for others in self._others(rows).values()]
        return {"reconstructions": Picture(torch.cat([torch.cat(list(row), 2) for row in shown], 1))}

    @property
    def _reads_text(self) -> bool:
        return self.tokenizer.config.text_in != "none"

    def _rows(self, captions: Sequence[str]) -> list[Tensor] | None:
        """Return the states of captions; None if there is no text in the model."""
        if not self._reads_text:
            return None
        known = self.tokenizer.captions
        return known.rows(known.fitted(captions) if self.cut_captions else captions)

    def _others(self, rows: list[Tensor] | None) -> dict[str, list[Tensor]]:
        """Return what may stand in place of the captions of a batch, by name."""
        if rows is None:
            return {}
        null = {"null": [row[:0] for row in rows]} if self.tokenizer.config.null_rate else {}
        return {**null, "shuffled": [*rows[1:], *rows[:1]]}

    def _made(self, images: Tensor, text: TextStates | None) -> Tensor:
        """Return what becomes of images, without gradient, in 0…1."""
        with torch.no_grad():
            codes = self.tokenizer.quantizer(self.tokenizer.moments(images, text)).codes
            return self.tokenizer.images(codes, text).float().clamp(0, 1)


def _psnr(made: Tensor, images: Tensor) -> Tensor:
    """Return the mean PSNR of images in 0…1, in dB."""
    error = (made.detach().clamp(0, 1) - images).square().flatten(1).mean(1)
    return decibels(error).mean()
