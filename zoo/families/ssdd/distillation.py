"""Distillation of SSDD's decoder: a copy learns to make in one step what the decoder makes in several.

The decoder that was trained is the teacher, and does not change. From a picture's latents and some noise it makes a
picture in several steps. The student, which starts as its copy, is given the same latents and the very same noise, and
learns the velocity that leads from that noise to the teacher's picture in a single step. Only its states are compared
with the features of the real picture.

(The authors' first code kept the teacher in training mode and drew other noise for the student, at random times. That
is not distillation, and is not done here.)
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor

from zoo.components.flow import draw_noise
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError
from zoo.families.ssdd.decoder import SSDDDecoder
from zoo.families.ssdd.training import Flow, SSDDTraining
from zoo.training import OptimizerConfig

__all__ = ["SSDDDistillation"]

_DEFAULT_OPTIMIZER = OptimizerConfig(lr=1e-4, schedule="constant")


class SSDDDistillation(SSDDTraining):
    """Distils the decoder of an SSDD into one step. Encoder and quantizer stay as they are.

    Losses are those of `SSDDTraining`, of the teacher's picture in place of the real one in `flow` and `perceptual`.

    Args:
        config: Values of `SSDDConfig`, those of the teacher but for `steps`, which is 1, and `image_size`.
        weights: The teacher, as of `TokenizerModule`; of a training checkpoint the averaged weights.
        teacher_steps: N of the teacher; 7 as published.
        optimizer: As of `SSDDTraining`.
        loss_weights: As of `SSDDTraining`.
        perceptual: As of `SSDDTraining`.
        alignment: As of `SSDDTraining`.
        alignment_layer: As of `SSDDTraining`.

    Attributes:
        teacher: The decoder as it was.

    Raises:
        ConfigError: A value is unusable, or the teacher is another one than the config says, or missing.
    """

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        teacher_steps: int = 7,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        perceptual: dict[str, Any] | None = None,
        alignment: dict[str, Any] | None = None,
        alignment_layer: int | None = None,
    ) -> None:
        if weights is None:
            raise ConfigError("weights: a trained decoder is needed, to be distilled.")
        super().__init__(
            config,
            weights,
            freeze_encoder=True,
            optimizer=optimizer,
            loss_weights=loss_weights,
            perceptual=perceptual,
            alignment=alignment,
            alignment_layer=alignment_layer,
        )
        if teacher_steps < 1 or self.tokenizer.config.steps != 1:
            raise ConfigError(
                "distillation: teacher_steps must be at least 1, and the config's steps 1, those of the student; got "
                f"{teacher_steps} and {self.tokenizer.config.steps}."
            )
        self.teacher_steps = teacher_steps
        self.teacher: SSDDDecoder = deepcopy(cast("SSDDDecoder", self.tokenizer.decoder)).requires_grad_(False)

    def train(self, mode: bool = True) -> SSDDDistillation:
        """Leave teacher, encoder and quantizer in evaluation mode: the means of a Gaussian are distilled."""
        super().train(mode)
        self.tokenizer.quantizer.eval()
        self.teacher.eval()
        return self

    def losses(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Return the losses of pictures; in evaluation, of noise that is the same each time."""
        images = batch.images
        generator = None if self.trainer.training else torch.Generator(images.device).manual_seed(0)
        noise = draw_noise(images.shape, generator, images.device)
        with torch.no_grad():
            codes, _ = self.codes(images)
            goal = self.teacher(codes, noise, self.teacher_steps, self.tokenizer.config.time_power)
        # At time 1 there is nothing but noise, the teacher's own.
        t = torch.ones(len(images), device=images.device)
        if not self.trainer.training:
            self._tell_quality(images, codes)
        return self.flow_losses(Flow(self.decoder.latents(codes), noise, t, noise, goal.float()), images)
