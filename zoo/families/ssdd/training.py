"""Training SSDD: encoder and decoder together, or a decoder behind an encoder that was trained before.

    L = L_flow + λ₁ L_perceptual + λ₂ L_alignment + L_quantizer

`L_flow` is the error of the predicted velocity at a random time. At that time the line along it ends in an estimate of
the picture, which `L_perceptual` compares with the picture in a frozen network's features. `L_alignment` ties a layer
of the transformer to a frozen network's features of the picture (REPA; Yu et al., arXiv 2410.06940). `L_quantizer` is
the KL divergence of a Gaussian, or what another quantizer adds, while the encoder is trained.

Stages, of which each starts from the checkpoint of the one before: 0, an encoder with a middle-sized decoder; 1, a
decoder of any size behind that encoder (`encoder`); 2, the same in larger pictures (`weights`, `freeze_encoder`); 3,
`zoo.families.ssdd.distillation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.features import STLPIPS, FeatureNetwork
from zoo.components.features import build as build_features
from zoo.components.flow import LogitNormal, draw_noise, draw_times, flow_loss
from zoo.components.layers.positions import RelativePositionBias2d
from zoo.components.losses.alignment import AlignmentHead, grid_alignment_loss
from zoo.components.losses.perceptual import PerceptualDistance
from zoo.components.quantizers import Gaussian, GaussianConfig
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError
from zoo.families.ssdd.decoder import PATH, SSDDDecoder
from zoo.families.ssdd.tokenizer import SSDDTokenizer
from zoo.training import Media, OptimizerConfig, Picture, TokenizerModule
from zoo.training.origin import Origin, differences, read_origin

__all__ = ["Flow", "SSDDTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_SHOWN = 4
_OF_USE = ("image_size", "steps", "time_power")
"""Settings of the config that no weight depends on, and that change from stage to stage."""


@dataclass(frozen=True)
class Flow:
    """Where a batch is on its way from noise to pictures, and where it should go.

    Attributes:
        latents: (B, Y, h, w), what the network is conditioned on.
        noise: (B, 3, H, W).
        t: (B,) times.
        x: (B, 3, H, W), what the network is given.
        goal: (B, 3, H, W), pictures in -1…1 that velocities point to.
    """

    latents: Tensor
    noise: Tensor
    t: Tensor
    x: Tensor
    goal: Tensor


class SSDDTraining(TokenizerModule):
    """Trains an SSDD, or its decoder alone.

    Losses: `flow`, the mean squared error of velocities; `perceptual`, the distance of the estimated picture in a
    frozen network's features; `alignment`, one minus the mean cosine between projected states of the transformer and a
    frozen network's features; and the quantizer's own, of `gaussian` the KL divergence, while the encoder is trained.
    In training the decoder sees samples of a Gaussian, also of a frozen encoder's, and elsewhere its mean.

    Args:
        config: Values of `SSDDConfig`.
        weights: As of `TokenizerModule`; `image_size`, `steps` and `time_power` may differ.
        encoder: A trained model whose encoder is kept and not trained: an `ssdd` or an `autoencoder_kl` by name, a
            folder, an `hf://` address, or a training checkpoint (`.ckpt`). Its quantizer is kept as well, unless the
            config has another one, which is then trained with the decoder.
        freeze_encoder: Whether encoder and quantizer of `weights` are kept as they are.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        times: Values of `LogitNormal`, the distribution of times.
        perceptual: The frozen network, as `zoo.components.features.build` takes it; none if None.
        alignment: The frozen network of `alignment`, with one layer; none if None.
        alignment_layer: Block of the transformer, from 0, whose states are aligned; as published if None.

    Raises:
        ConfigError: A value is unusable, or the encoder is another one than the config says.
    """

    family: ClassVar[str] = "ssdd"
    default_weights: ClassVar[Mapping[str, float]] = {"flow": 1.0, "perceptual": 0.5, "alignment": 0.25}

    tokenizer: SSDDTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        encoder: str | None = None,
        freeze_encoder: bool = False,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        times: dict[str, float] | None = None,
        perceptual: dict[str, Any] | None = None,
        alignment: dict[str, Any] | None = None,
        alignment_layer: int | None = None,
    ) -> None:
        super().__init__(config, None, optimizer, loss_weights)
        if self.tokenizer.config.image_size is None:
            raise ConfigError("config: training needs the image_size of its pictures.")
        if encoder is not None and weights is not None:
            raise ConfigError("encoder: weights have an encoder already, which freeze_encoder keeps; leave one out.")
        if freeze_encoder and weights is None:
            raise ConfigError("freeze_encoder: nothing is there to be kept; name weights, or an encoder.")
        self.times = configs.from_dict(LogitNormal, times or {}, "times")
        self.perceptual: PerceptualDistance | None = None
        if perceptual is not None:
            network = build_features(perceptual, "perceptual")
            weighted = network.channel_weights if isinstance(network, STLPIPS) else None
            self.perceptual = PerceptualDistance(network, weighted)
        self.alignment: FeatureNetwork | None = None
        self.head: AlignmentHead | None = None
        self.alignment_layer = -1
        if alignment is not None:
            self._build_head(build_features(alignment, "alignment"), alignment_layer)
        self.kept: list[nn.Module] = []
        if weights is not None:
            self._start_from(weights)
            if freeze_encoder:
                self.kept = [self.tokenizer.encoder, self.tokenizer.quantizer]
        elif encoder is not None:
            self.kept = self._take_encoder(encoder, read_origin(encoder))
        for module in self.kept:
            module.requires_grad_(False)

    @property
    def decoder(self) -> SSDDDecoder:
        """The decoder, which is always trained."""
        return cast("SSDDDecoder", self.tokenizer.decoder)

    @property
    def is_encoder_kept(self) -> bool:
        """Whether encoder and quantizer stay as they are."""
        return self.tokenizer.quantizer in self.kept

    def train(self, mode: bool = True) -> SSDDTraining:
        """Leave in evaluation mode what is kept, but for a Gaussian, which goes on drawing samples."""
        super().train(mode)
        for module in self.kept:
            if not isinstance(module, Gaussian):
                module.eval()
        return self

    def trained_modules(self) -> list[nn.Module]:
        """Return tokenizer and projection; what is kept of the former needs no gradient."""
        return [self.tokenizer, *([] if self.head is None else [self.head])]

    def undecayed(self) -> Iterable[nn.Parameter]:
        """Return the tables of relative positions."""
        return [module.table for module in self.modules() if isinstance(module, RelativePositionBias2d)]

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of tokenizer and projection each by themselves, as published."""
        if gradient_clip_algorithm not in (None, "norm"):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            for module in self.trained_modules():
                nn.utils.clip_grad_norm_(module.parameters(), gradient_clip_val)

    def num_items(self, batch: ImageBatch) -> int:
        """Return how many pictures a batch has."""
        return len(batch.images)

    def losses(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Return the losses of pictures; in evaluation, of random numbers that are the same each time."""
        images = batch.images
        generator = None if self.trainer.training else torch.Generator(images.device).manual_seed(0)
        codes, losses = self.codes(images)
        noise = draw_noise(images.shape, generator, images.device)
        t = draw_times(len(images), self.times, generator, images.device)
        goal = 2 * images - 1
        flow = Flow(self.decoder.latents(codes), noise, t, PATH.at(goal, noise, t), goal)
        if not self.trainer.training:
            self._tell_quality(images, codes)
        return {**self.flow_losses(flow, images), **losses}

    def codes(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the codes (B, D, h, w) of pictures, and what the quantizer adds to the losses."""
        quantized = self.tokenizer.quantizer(self.tokenizer.moments(images))
        losses = {} if self.is_encoder_kept else self.quantizer_losses(quantized)
        rows, _ = cast("tuple[int, int]", self.tokenizer.grid)
        return rearrange(quantized.codes, "b (h w) c -> b c h w", h=rows), losses

    def flow_losses(self, flow: Flow, images: Tensor) -> dict[str, Tensor]:
        """Return the losses of predicted velocities.

        Args:
            flow: Where the batch is.
            images: (B, 3, H, W) in 0…1, whose features states are aligned with.
        """
        layer = None if self.head is None else self.alignment_layer
        predicted, states = self.decoder.unet.with_states(flow.x, flow.t, flow.latents, layer)
        losses = {"flow": flow_loss(predicted, PATH.velocity(flow.goal, flow.noise))}
        if self.perceptual is not None:
            estimate = PATH.data(flow.x, predicted.float(), flow.t)
            losses["perceptual"] = self.perceptual((estimate + 1) / 2, (flow.goal + 1) / 2).mean()
        if self.head is not None:
            network = cast("FeatureNetwork", self.alignment)
            with torch.no_grad():
                features = network.features(images)[network.layers[0]]
            losses["alignment"] = grid_alignment_loss(self.head, cast(Tensor, states), self._token_grid, features)
        return losses

    def media(self, batch: ImageBatch) -> dict[str, Media]:
        """Return the first pictures over what is decoded of them, in one step and in those of the config."""
        images = batch.images[:_SHOWN]
        with torch.no_grad():
            codes, _ = self.codes(images)
            rows = [images, *(self._made(codes, steps) for steps in sorted({1, self.tokenizer.config.steps}))]
        return {"reconstructions": Picture(torch.cat([torch.cat(list(row.float()), 2) for row in rows], 1))}

    @property
    def _token_grid(self) -> tuple[int, int]:
        height, width = cast("tuple[int, int]", self.tokenizer.config.image_size)
        factor = self.tokenizer.config.decoder.downsampling
        return height // factor, width // factor

    def _made(self, codes: Tensor, steps: int) -> Tensor:
        """Return the pictures in 0…1 that are decoded of codes, from noise that is the same each time."""
        height, width = cast("tuple[int, int]", self.tokenizer.config.image_size)
        generator = torch.Generator(codes.device).manual_seed(0)
        noise = draw_noise((len(codes), 3, height, width), generator, codes.device)
        made = self.decoder(codes, noise, steps, self.tokenizer.config.time_power)
        return ((made.float() + 1) / 2).clamp(0, 1)

    def _tell_quality(self, images: Tensor, codes: Tensor) -> None:
        with torch.no_grad():
            error = (self._made(codes, self.tokenizer.config.steps) - images).square().flatten(1).mean(1)
        self._log("psnr", -10 * error.clamp(min=1e-10).log10().mean())

    def _build_head(self, network: FeatureNetwork, layer: int | None) -> None:
        """Make the projection, as wide as the network's features of a picture are."""
        config = self.tokenizer.config.decoder
        layer = config.aligned_layer if layer is None else layer
        if len(network.layers) != 1 or not 0 <= layer < config.num_layers:
            raise ConfigError(
                f"alignment: one layer of the network is compared with block {layer} of the transformer's "
                f"{config.num_layers}, got the network's {', '.join(network.layers)}."
            )
        with torch.no_grad():
            features = network.features(torch.zeros(1, 3, *cast("tuple[int, int]", self.tokenizer.config.image_size)))
        (found,) = features.values()
        if found.ndim != 4:
            raise ConfigError(
                f"alignment: {network.name} gives features of shape {tuple(found.shape)} at {network.layers[0]}, and a "
                "map (B, C, H, W) is needed: choose an earlier layer."
            )
        self.alignment, self.alignment_layer = network, layer
        self.head = AlignmentHead(config.widths[-1], found.shape[1])

    def _require_same(self, weights: str, origin: Origin) -> list[str]:
        own = configs.to_dict(self.tokenizer.config)
        if origin.family == self.family:
            origin = replace(origin, config={**origin.config, **{name: own[name] for name in _OF_USE}})
        return super()._require_same(weights, origin)

    def _take_encoder(self, name: str, origin: Origin) -> list[nn.Module]:
        """Take over an encoder, and its quantizer if the config has the same, and return what is kept.

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
