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
from typing import Any, Self

import torch
from torch import Tensor

from zoo.components.flow import draw_noise
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError
from zoo.families.ssdd.decoder import SSDDDecoder
from zoo.families.ssdd.flow_training import Estimate, Flow, FlowTraining
from zoo.families.ssdd.training import SSDDTraining
from zoo.training import OptimizerConfig

__all__ = ["Distilling", "SSDDDistillation"]

_DEFAULT_OPTIMIZER = OptimizerConfig(lr=1e-4, schedule="constant")


class Distilling(FlowTraining):
    """The losses of `FlowTraining`, of the teacher's picture in place of the real one in `flow` and `perceptual`.

    Attributes:
        teacher: The decoder as it was.
        teacher_steps: N of the teacher.
    """

    teacher: SSDDDecoder
    teacher_steps: int

    def keep_teacher(self, steps: int) -> None:
        """Make a copy of the decoder, which has started from the teacher's weights, and keep it as it is.

        Raises:
            ConfigError: The teacher has no steps, or the student several.
        """
        if steps < 1 or self.tokenizer.config.steps != 1:
            raise ConfigError(
                "distillation: teacher_steps must be at least 1, and the config's steps 1, those of the student; got "
                f"{steps} and {self.tokenizer.config.steps}."
            )
        self.teacher_steps = steps
        self.teacher = deepcopy(self.decoder).requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Leave the teacher in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def teach(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's latents (B, Y, h, w) of pictures, and what the teacher makes of that noise."""
        raise NotImplementedError

    def reconstruct(self, batch: ImageBatch) -> Estimate:
        """Return what the student makes of pictures' latents; in evaluation, of noise that is the same each time."""
        images = batch.images
        generator = None if self.trainer.training else torch.Generator(images.device).manual_seed(0)
        noise = draw_noise(images.shape, generator, images.device)
        latents, goal = self.teach(images, noise)
        if not self.trainer.training:
            self.tell_quality(images, latents)
        # At time 1 there is nothing but noise, the teacher's own.
        t = torch.ones(len(images), device=images.device)
        return self.estimate(Flow(latents, noise, t, noise, goal.float()), images, {})


class SSDDDistillation(Distilling, SSDDTraining):
    """Distils the decoder of an SSDD into one step. Encoder and quantizer stay as they are.

    Args:
        config: Values of `SSDDConfig`, those of the teacher but for `steps`, which is 1, and `image_size`.
        weights: The teacher, as of `TokenizerModule`; of a training checkpoint the averaged weights.
        teacher_steps: N of the teacher; 7 as published.
        optimizer: As of `SSDDTraining`.
        loss_weights: As of `SSDDTraining`.
        perceptual: As of `SSDDTraining`.
        alignment: As of `SSDDTraining`.
        alignment_layer: As of `SSDDTraining`.

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
        SSDDTraining.__init__(
            self,
            config,
            weights,
            freeze_encoder=True,
            optimizer=optimizer,
            loss_weights=loss_weights,
            perceptual=perceptual,
            alignment=alignment,
            alignment_layer=alignment_layer,
        )
        self.keep_teacher(teacher_steps)

    def train(self, mode: bool = True) -> Self:
        """Leave quantizer and encoder in evaluation mode as well: the means of a Gaussian are distilled."""
        super().train(mode)
        self.tokenizer.quantizer.eval()
        return self

    def teach(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's latents, and the teacher's pictures of the same codes and noise."""
        with torch.no_grad():
            codes, _ = self.codes(images)
            goal = self.teacher(codes, noise, self.teacher_steps, self.tokenizer.config.time_power)
        return self.decoder.latents(codes), goal
