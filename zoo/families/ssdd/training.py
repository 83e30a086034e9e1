"""Training SSDD: encoder and decoder together, or a decoder behind an encoder that was trained before.

    L = L_flow + λ₁ L_perceptual + λ₂ L_alignment + L_quantizer

`L_quantizer` is the KL divergence of a Gaussian, or what another quantizer adds, while the encoder is trained; the
others are those of `zoo.families.ssdd.flow_training`.

Stages, of which each starts from the checkpoint of the one before: 0, an encoder with a middle-sized decoder; 1, a
decoder of any size behind that encoder (`encoder`); 2, the same in larger pictures (`weights`, `freeze_encoder`); 3,
`zoo.families.ssdd.distillation`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.quantizers import Gaussian, GaussianConfig
from zoo.errors import ConfigError
from zoo.families.ssdd.flow_training import ADVERSARIAL_FROM, FlowTraining
from zoo.families.ssdd.measured import some_pictures, start_projections
from zoo.families.ssdd.tokenizer import SSDDTokenizer
from zoo.training import OptimizerConfig
from zoo.training.origin import Origin, differences, read_origin

__all__ = ["SSDDTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_OF_USE = ("image_size", "steps", "time_power")
"""Settings of the config that no weight depends on, and that change from stage to stage."""


class SSDDTraining(FlowTraining):
    """Trains an SSDD, or its decoder alone.

    Losses: `flow`, the mean squared error of velocities; `perceptual`, the distance of the estimated picture in a
    frozen network's features; `alignment`, one minus the mean cosine between projected states of the transformer
    and a frozen network's features; `adversarial` and `discriminator`, if there is a judge; and the quantizer's
    own, of `gaussian` the KL divergence, while the encoder is trained.
    In training the decoder sees samples of a Gaussian, also of a frozen encoder's, and elsewhere its mean.

    Args:
        config: Values of `SSDDConfig`.
        weights: As of `TokenizerModule`; `image_size`, `steps` and `time_power` may differ.
        encoder: A trained model whose encoder is taken: an `ssdd` or an `autoencoder_kl` by name, a folder, an `hf://`
            address, or a training checkpoint (`.ckpt`). Its quantizer is taken as well, unless the config has another
            one, which is then trained with the decoder.
        decoder: A trained model whose decoder this one's starts from; as of `take_network`.
        freeze_encoder: Whether encoder and quantizer that were taken stay as they are: those of `encoder` do if None,
            and those of `weights` do not.
        pictures: Where the pictures are, as of `ImageData`, on which the linear maps are started between which a new
            quantizer stands, if encoder and decoder are taken; its default if None.
        num_measured: How many of these; 0 starts the maps at random.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        times: Values of `LogitNormal`, the distribution of times.
        perceptual: The frozen network, as `zoo.components.features.build` takes it; none if None.
        alignment: The frozen network of `alignment`, with one layer; none if None.
        alignment_layer: Block of the transformer, from 0, whose states are aligned; as published if None.
        discriminator: As of `FlowTraining`.
        discriminator_optimizer: As of `AdversarialModule`.
        discriminator_every: As of `AdversarialModule`.
        adversarial_from: As of `AdversarialModule`.

    Raises:
        ConfigError: A value is unusable, or the encoder is another one than the config says.
    """

    family: ClassVar[str] = "ssdd"

    tokenizer: SSDDTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        encoder: str | None = None,
        decoder: str | None = None,
        freeze_encoder: bool | None = None,
        pictures: str | None = None,
        num_measured: int = 64,
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
        if weights is not None and (encoder, decoder) != (None, None):
            raise ConfigError("weights: they have an encoder and a decoder already; leave out one or the other.")
        if freeze_encoder is not None and weights is None and encoder is None:
            raise ConfigError("freeze_encoder: nothing is there to be kept; name weights, or an encoder.")
        self.kept: list[nn.Module] = []
        if weights is not None:
            self._start_from(weights)
            if freeze_encoder:
                self.kept = [self.tokenizer.encoder, self.tokenizer.quantizer]
        elif encoder is not None:
            taken = self._take_encoder(encoder, read_origin(encoder))
            self.kept = taken if freeze_encoder in (None, True) else []
        if decoder is not None:
            self.take_network(decoder)
        if encoder is not None and decoder is not None and num_measured:
            self._start_projections(pictures, num_measured)
        for module in self.kept:
            module.requires_grad_(False)

    @property
    def is_encoder_kept(self) -> bool:
        """Whether encoder and quantizer stay as they are."""
        return self.tokenizer.quantizer in self.kept

    def train(self, mode: bool = True) -> Self:
        """Leave in evaluation mode what is kept, but for a Gaussian, which goes on drawing samples."""
        super().train(mode)
        for module in self.kept:
            if not isinstance(module, Gaussian):
                module.eval()
        return self

    def latents(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the network is conditioned on, and what the quantizer adds to the losses."""
        codes, losses = self.codes(images)
        return self.decoder.latents(codes), losses

    def codes(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the codes (B, D, h, w) of pictures, and what the quantizer adds to the losses."""
        quantized = self.tokenizer.quantizer(self.tokenizer.moments(images))
        losses = {} if self.is_encoder_kept else self.quantizer_losses(quantized)
        rows, _ = cast("tuple[int, int]", self.tokenizer.grid)
        return rearrange(quantized.codes, "b (h w) c -> b c h w", h=rows), losses

    def _start_projections(self, pictures: str | None, number: int) -> None:
        into, quantizer, back = self.tokenizer.encoder.project, self.tokenizer.quantizer, self.decoder.project
        if isinstance(into, nn.Conv2d) and isinstance(back, nn.Conv2d) and quantizer.input_dim < into.in_channels:
            size = cast("tuple[int, int]", self.tokenizer.config.image_size)
            images = some_pictures(pictures, size, number)
            with torch.no_grad():
                latents = self.tokenizer.encoder.conv(2 * images - 1)[:, : into.in_channels]
            start_projections(latents, into, quantizer, back)

    def _require_same(self, weights: str, origin: Origin) -> list[str]:
        return super()._require_same(weights, self.with_own(origin, _OF_USE))

    def _take_encoder(self, name: str, origin: Origin) -> list[nn.Module]:
        """Take over an encoder, and its quantizer if the config has the same, and return what was taken.

        Raises:
            ConfigError: It is another one than the config says.
        """
        if origin.family not in (self.family, "autoencoder_kl"):
            raise ConfigError(f"encoder: {name!r} is a {origin.family}, neither an ssdd nor an autoencoder_kl.")
        own, tokenizer, there = configs.to_dict(self.tokenizer.config), self.tokenizer, dict(origin.config)
        start = "encoder.conv." if origin.family == self.family else "encoder."
        if origin.family != self.family:
            quantizer = there["quantizer"]
            there |= {"encoder": there["conv"], "latent_channels": quantizer["dim"], "is_variational": False}
        is_gaussian = there["quantizer"]["kind"] == "gaussian"
        compared = {"encoder": there["encoder"], "latent_channels": there["latent_channels"]}
        compared["gives log-variances"] = is_gaussian or there["is_variational"]
        here = {"encoder": own["encoder"], "latent_channels": own["latent_channels"]}
        here["gives log-variances"] = tokenizer.config.encoder_outputs > tokenizer.config.latent_channels
        if found := differences(compared, here):
            raise ConfigError(f"encoder: {name!r} does not fit the model: {found}.")
        conv = {key.removeprefix(start): t for key, t in origin.tokenizer.items() if key.startswith(start)}
        tokenizer.encoder.conv.load_state_dict(conv)
        self.start_licence = origin.licence
        both_gaussian = is_gaussian and isinstance(tokenizer.config.quantizer, GaussianConfig)
        if not both_gaussian and differences(there["quantizer"], own["quantizer"]):
            return [tokenizer.encoder.conv]
        for part in ("encoder.project.", "quantizer."):
            tensors = {key.removeprefix(part): t for key, t in origin.tokenizer.items() if key.startswith(part)}
            tokenizer.get_submodule(part[:-1]).load_state_dict(tensors)
        return [tokenizer.encoder, tokenizer.quantizer]
