"""Training of the convolutional autoencoder, with or without a judge of patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.autoencoder_kl import ConvDecoder
from zoo.components.discriminators.patches import PatchDiscriminator, PatchDiscriminatorConfig
from zoo.components.losses.adversarial import AdversarialKind, discriminator_loss, generator_loss
from zoo.components.losses.perceptual import distance_of
from zoo.components.quantizers import Gaussian
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError
from zoo.families.autoencoder_kl.tokenizer import AutoencoderKLTokenizer
from zoo.metrics.image import decibels
from zoo.training.adversarial import AdversarialModule, Reconstruction
from zoo.training.media import Media, Picture
from zoo.training.optim import OptimizerConfig
from zoo.training.origin import Origin, differences, read_origin

__all__ = ["AutoencoderKLTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_MOST_ADAPTED = 1e4
_SHOWN = 4


class AutoencoderKLTraining(AdversarialModule):
    """Trains both halves and the quantizer (Esser et al., arXiv 2012.09841; Rombach et al., arXiv 2112.10752).

    Losses: `l1` and `l2`, the mean absolute and squared error of pixels in -1…1; `perceptual`, the distance in a frozen
    network's features; those of the quantizer, such as the KL divergence; `adversarial` and `discriminator`, if there
    is a judge. The KL divergence is summed over an item (its weight is the quantizer's `kl_weight`) and errors are
    means over all values, where latent diffusion sums both: its 1e-6 is 1e-6 / (3 · H · W) here.

    Args:
        config: As of `TokenizerModule`.
        weights: As of `TokenizerModule`.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        perceptual: The frozen network, as `zoo.components.features.build` takes it; none if None.
        discriminator: Values of `PatchDiscriminatorConfig`; None for none.
        adversarial_kind: How judgements become losses.
        is_adaptive: Whether the weight of `adversarial` is multiplied by the ratio of both losses' gradients at the
            decoder's last layer (VQGAN, equation 7).
        discriminator_optimizer: As of `AdversarialModule`.
        discriminator_every: As of `AdversarialModule`.
        adversarial_from: As of `AdversarialModule`.
        encoder: A trained model whose encoder and quantizer are kept and not trained: an `autoencoder_kl` or an `ssdd`
            by name, a folder, an `hf://` address, or a training checkpoint (`.ckpt`). In training the decoder sees
            samples of a Gaussian all the same.

    Raises:
        ConfigError: A value is unusable, or the encoder is another one than the config says.
    """

    family: ClassVar[str] = "autoencoder_kl"
    default_weights: ClassVar[Mapping[str, float]] = {
        "l1": 1.0,
        "l2": 0.0,
        "perceptual": 1.0,
        "adversarial": 0.5,
        "discriminator": 1.0,
    }

    tokenizer: AutoencoderKLTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        perceptual: dict[str, Any] | None = None,
        discriminator: dict[str, Any] | None = None,
        adversarial_kind: AdversarialKind = "hinge",
        is_adaptive: bool = True,
        discriminator_optimizer: OptimizerConfig | None = None,
        discriminator_every: int = 1,
        adversarial_from: int = 0,
        encoder: str | None = None,
    ) -> None:
        super().__init__(
            config,
            weights,
            optimizer,
            loss_weights,
            discriminator,
            discriminator_optimizer,
            discriminator_every,
            adversarial_from,
        )
        self.adversarial_kind: AdversarialKind = adversarial_kind
        self.is_adaptive = is_adaptive
        self.perceptual = distance_of(perceptual)
        self.is_encoder_kept = encoder is not None
        if encoder is not None:
            if weights is not None:
                raise ConfigError("encoder: weights have an encoder already; leave one out.")
            self._take_encoder(encoder, read_origin(encoder))
            nn.ModuleList([self.tokenizer.encoder, self.tokenizer.quantizer]).requires_grad_(False)

    def train(self, mode: bool = True) -> AutoencoderKLTraining:
        """Leave in evaluation mode what is kept, but for a Gaussian, which goes on drawing samples."""
        super().train(mode)
        if self.is_encoder_kept:
            self.tokenizer.encoder.eval()
            if not isinstance(self.tokenizer.quantizer, Gaussian):
                self.tokenizer.quantizer.eval()
        return self

    def build_discriminator(self, values: dict[str, Any]) -> nn.Module:
        """Return the judge of values of `PatchDiscriminatorConfig`.

        Raises:
            ConfigError: A value is unusable, or the pictures are too small for it.
        """
        judge = PatchDiscriminator(configs.from_dict(PatchDiscriminatorConfig, values, "discriminator"))
        if self.tokenizer.config.image_size < judge.smallest:
            raise ConfigError(
                f"discriminator: pictures of {self.tokenizer.config.image_size} pixels are too small for "
                f"{judge.config.num_layers} layers, which need {judge.smallest}: set num_layers lower."
            )
        return judge

    def num_items(self, batch: ImageBatch) -> int:
        """Return how many pictures a batch has."""
        return len(batch.images)

    def reconstruct(self, batch: ImageBatch) -> Reconstruction:
        """Return what the autoencoder makes of pictures; what the judge sees is in -1…1."""
        images = batch.images
        quantized = self.tokenizer.quantizer(self.tokenizer.moments(images))
        made = self.tokenizer.pixels(quantized.codes)
        losses = {
            "l1": 2 * F.l1_loss(made.float(), images),
            "l2": 4 * F.mse_loss(made.float(), images),
            **({} if self.is_encoder_kept else self.quantizer_losses(quantized)),
        }
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(made, images).mean()
        if not self.trainer.training:
            error = (made.clamp(0, 1).float() - images).square().flatten(1).mean(1)
            self._log("psnr", decibels(error).mean())
        return Reconstruction(losses, 2 * images - 1, 2 * made - 1)

    def discriminator_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how badly the judge tells photographs from what was made."""
        judge = cast("PatchDiscriminator", self.discriminator)
        return {"discriminator": discriminator_loss([judge(pair.real)], [judge(pair.made)], self.adversarial_kind)}

    def adversarial_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how far the judge is from taking what was made for photographs."""
        judge = cast("PatchDiscriminator", self.discriminator)
        loss = generator_loss([judge(pair.made)], self.adversarial_kind)
        return {"adversarial": loss * self._adapted(pair.losses, loss) if self.is_adaptive else loss}

    def _take_encoder(self, name: str, origin: Origin) -> None:
        """Take over encoder and quantizer of a model.

        Raises:
            ConfigError: It is another one than the config says.
        """
        kinds = {"autoencoder_kl": ("conv", "encoder."), "ssdd": ("encoder", "encoder.conv.")}
        if origin.family not in kinds:
            raise ConfigError(f"encoder: {name!r} is a {origin.family}, neither an autoencoder_kl nor an ssdd.")
        key, start = kinds[origin.family]
        own = configs.to_dict(self.tokenizer.config)
        there = {"conv": origin.config[key], "quantizer": origin.config["quantizer"]}
        here = {"conv": own["conv"], "quantizer": own["quantizer"]}
        if found := differences(there, here):
            raise ConfigError(f"encoder: {name!r} does not fit the model: {found}.")
        beside = [key for key in origin.tokenizer if key.startswith("encoder.") and not key.startswith(start)]
        if beside or origin.config.get("is_variational"):
            raise ConfigError(
                f"encoder: {name!r} has a projection between encoder and quantizer, and there is none here."
            )
        for prefix, part in ((start, self.tokenizer.encoder), ("quantizer.", self.tokenizer.quantizer)):
            tensors = {key.removeprefix(prefix): t for key, t in origin.tokenizer.items() if key.startswith(prefix)}
            part.load_state_dict(tensors)
        self.start_licence = origin.licence

    def _adapted(self, losses: Mapping[str, Tensor], adversarial: Tensor) -> Tensor:
        """Return the ratio of the gradients of reconstruction and judgement at the last layer (equation 7)."""
        last = cast("ConvDecoder", self.tokenizer.decoder).last_layer
        if not adversarial.requires_grad:  # in validation
            return adversarial.new_ones(())
        names = [name for name in ("l1", "l2", "perceptual") if name in losses]
        total = torch.stack([self.loss_weights[name] * losses[name] for name in names]).sum()
        (wanted,) = torch.autograd.grad(total, last, retain_graph=True)
        (found,) = torch.autograd.grad(adversarial, last, retain_graph=True)
        ratio: Tensor = wanted.norm() / (found.norm() + 1e-4)
        return ratio.clamp(0, _MOST_ADAPTED).detach()

    def media(self, batch: ImageBatch) -> dict[str, Media]:
        """Return the first pictures over what becomes of them."""
        images = batch.images[:_SHOWN]
        with torch.no_grad():
            codes = self.tokenizer.quantizer(self.tokenizer.moments(images)).codes
            made = self.tokenizer.pixels(codes).clamp(0, 1)
        rows = [torch.cat(list(row), 2) for row in (images, made.float())]
        return {"reconstructions": Picture(torch.cat(rows, 1))}
