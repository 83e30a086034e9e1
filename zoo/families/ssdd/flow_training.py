"""What trainings of SSDD's decoder have in common, whatever its latents come from: the flow and its losses.

    L = L_flow + λ₁ L_perceptual + λ₂ L_alignment (+ λ₃ L_adversarial)

`L_flow` is the error of the predicted velocity at a random time. At that time the line along it ends in an estimate of
the picture, which `L_perceptual` compares with the picture in a frozen network's features. `L_alignment` ties a layer
of the transformer to a frozen network's features of the picture (REPA; Yu et al., arXiv 2410.06940). `L_adversarial`
is what a discriminator says of the estimate, which the paper tries, and leaves out of its models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo import config as configs
from zoo.components.discriminators.noisy import NoisyDiscriminator, NoisyDiscriminatorConfig
from zoo.components.features import FeatureNetwork
from zoo.components.features import build as build_features
from zoo.components.flow import LogitNormal, draw_noise, draw_times, flow_loss
from zoo.components.layers.positions import RelativePositionBias2d
from zoo.components.losses.adversarial import discriminator_loss, generator_loss
from zoo.components.losses.alignment import AlignmentHead, grid_alignment_loss
from zoo.components.losses.perceptual import distance_of
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError
from zoo.families.ssdd.decoder import PATH, SSDDDecoder
from zoo.metrics.image import decibels
from zoo.training import AdversarialModule, Media, OptimizerConfig, Picture, Reconstruction
from zoo.training.origin import Origin, differences, read_origin

__all__ = ["ADVERSARIAL_FROM", "Estimate", "Flow", "FlowTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_SHOWN = 4
ADVERSARIAL_FROM = 50_000
"""Steps before a judge is asked, as published."""


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


@dataclass(frozen=True)
class Estimate(Reconstruction):
    """The pictures in -1…1 that predicted velocities lead to, `made`, and where the batch was.

    Attributes:
        flow: That.
    """

    flow: Flow


class FlowTraining(AdversarialModule):
    """Trains an SSDD's decoder, and perhaps more of it. A subclass says what the latents of pictures are.

    Losses: `flow`, the mean squared error of velocities; `perceptual`, the distance of the estimated picture in a
    frozen network's features; `alignment`, one minus the mean cosine between projected states of the transformer and a
    frozen network's features; `adversarial` and `discriminator`, cross-entropies of judgements, if there is a judge.

    Args:
        config: As of `TokenizerModule`; it has an `image_size`, `decoder`, `steps` and `time_power`.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        times: Values of `LogitNormal`, the distribution of times.
        perceptual: The frozen network, as `zoo.components.features.build` takes it; none if None.
        alignment: The frozen network of `alignment`, with one layer; none if None.
        alignment_layer: Block of the transformer, from 0, whose states are aligned; as published if None.
        discriminator: Values of `NoisyDiscriminatorConfig`; None for none, as in the published models.
        discriminator_optimizer: As of `AdversarialModule`.
        discriminator_every: As of `AdversarialModule`.
        adversarial_from: As of `AdversarialModule`.

    Raises:
        ConfigError: A value is unusable.
    """

    default_weights: ClassVar[Mapping[str, float]] = {
        "flow": 1.0,
        "perceptual": 0.5,
        "alignment": 0.25,
        "adversarial": 0.5,
        "discriminator": 1.0,
    }

    def __init__(
        self,
        config: dict[str, Any],
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
            None,
            optimizer,
            loss_weights,
            discriminator,
            discriminator_optimizer,
            discriminator_every,
            adversarial_from,
        )
        if self.tokenizer.config.image_size is None:
            raise ConfigError("config: training needs the image_size of its pictures.")
        self.times = configs.from_dict(LogitNormal, times or {}, "times")
        self.perceptual = distance_of(perceptual)
        self.alignment: FeatureNetwork | None = None
        self.head: AlignmentHead | None = None
        self.alignment_layer = -1
        if alignment is not None:
            self._build_head(build_features(alignment, "alignment"), alignment_layer)

    def latents(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the network is conditioned on, (B, Y, h, w), of pictures in 0…1; and further losses."""
        raise NotImplementedError

    @property
    def decoder(self) -> SSDDDecoder:
        """The decoder."""
        return cast("SSDDDecoder", self.tokenizer.decoder)

    def build_discriminator(self, values: dict[str, Any]) -> nn.Module:
        """Return the judge of values of `NoisyDiscriminatorConfig`.

        Raises:
            ConfigError: A value is unusable, or the pictures are too small for it.
        """
        judge = NoisyDiscriminator(configs.from_dict(NoisyDiscriminatorConfig, values, "discriminator"))
        size = self.tokenizer.config.image_size
        if size is not None and min(size) < judge.smallest:
            raise ConfigError(
                f"discriminator: pictures of {size[0]}×{size[1]} pixels are too small for {judge.config.num_layers} "
                f"layers, which need {judge.smallest}: set num_layers lower."
            )
        return judge

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

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip as `configure_gradient_clipping` does, where Lightning leaves it to the module; the judge by itself."""
        judged = set() if self.discriminator is None else set(self.discriminator.parameters())
        if self.automatic_optimization or optimizer.param_groups[0]["params"][0] in judged:
            super().on_before_optimizer_step(optimizer)
        else:
            trainer = self.trainer
            self.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    def num_items(self, batch: ImageBatch) -> int:
        """Return how many pictures a batch has."""
        return len(batch.images)

    def reconstruct(self, batch: ImageBatch) -> Estimate:
        """Return estimates of pictures; in evaluation, of random numbers that are the same each time."""
        images = batch.images
        generator = None if self.trainer.training else torch.Generator(images.device).manual_seed(0)
        latents, losses = self.latents(images)
        noise = draw_noise(images.shape, generator, images.device)
        t = draw_times(len(images), self.times, generator, images.device)
        goal = 2 * images - 1
        flow = Flow(latents, noise, t, PATH.at(goal, noise, t), goal)
        if not self.trainer.training:
            self.tell_quality(images, latents)
        return self.estimate(flow, images, losses)

    def estimate(self, flow: Flow, images: Tensor, losses: Mapping[str, Tensor]) -> Estimate:
        """Return where predicted velocities lead to, and their losses.

        Args:
            flow: Where the batch is.
            images: (B, 3, H, W) in 0…1, whose features states are aligned with.
            losses: Further ones.
        """
        layer = None if self.head is None else self.alignment_layer
        predicted, states = self.decoder.unet.with_states(flow.x, flow.t, flow.latents, layer)
        losses = {"flow": flow_loss(predicted, PATH.velocity(flow.goal, flow.noise)), **losses}
        made = PATH.data(flow.x, predicted.float(), flow.t)
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual((made + 1) / 2, (flow.goal + 1) / 2).mean()
        if self.head is not None:
            network = cast("FeatureNetwork", self.alignment)
            with torch.no_grad():
                features = network.features(images)[network.layers[0]]
            losses["alignment"] = grid_alignment_loss(self.head, cast(Tensor, states), self._token_grid, features)
        return Estimate(losses, flow.goal, made, flow)

    def discriminator_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how badly the judge tells pictures from estimates."""
        real, made = (self._judged(pair, pictures) for pictures in (pair.real, pair.made))
        return {"discriminator": discriminator_loss([real], [made], "non_saturating")}

    def adversarial_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how far the judge is from taking estimates for pictures."""
        return {"adversarial": generator_loss([self._judged(pair, pair.made)], "non_saturating")}

    def _judged(self, pair: Reconstruction, pictures: Tensor) -> Tensor:
        flow = cast("Estimate", pair).flow
        judgement: Tensor = cast("nn.Module", self.discriminator)(pictures, flow.x, flow.t)
        return judgement

    def tell_quality(self, images: Tensor, latents: Tensor) -> None:
        """Count in how well pictures are decoded of their latents, in the config's steps."""
        with torch.no_grad():
            error = (self._made(latents, self.tokenizer.config.steps) - images).square().flatten(1).mean(1)
        self._log("psnr", decibels(error).mean())

    def media(self, batch: ImageBatch) -> dict[str, Media]:
        """Return the first pictures over what is decoded of them, in one step and in those of the config."""
        images = batch.images[:_SHOWN]
        with torch.no_grad():
            latents, _ = self.latents(images)
            rows = [images, *(self._made(latents, steps) for steps in sorted({1, self.tokenizer.config.steps}))]
        return {"reconstructions": Picture(torch.cat([torch.cat(list(row.float()), 2) for row in rows], 1))}

    @property
    def _token_grid(self) -> tuple[int, int]:
        height, width = self.tokenizer.config.image_size
        factor = self.tokenizer.config.decoder.downsampling
        return height // factor, width // factor

    def _made(self, latents: Tensor, steps: int) -> Tensor:
        """Return the pictures in 0…1 that are decoded of latents, from noise that is the same each time."""
        height, width = self.tokenizer.config.image_size
        generator = torch.Generator(latents.device).manual_seed(0)
        noise = draw_noise((len(latents), 3, height, width), generator, latents.device)
        made = self.decoder.from_latents(latents, noise, steps, self.tokenizer.config.time_power)
        return ((made.float() + 1) / 2).clamp(0, 1)

    def with_own(self, origin: Origin, names: Iterable[str]) -> Origin:
        """Return what a run starts from with settings of this config that no weight depends on."""
        own = configs.to_dict(self.tokenizer.config)
        if origin.family != self.family:
            return origin
        return replace(origin, config={**origin.config, **{name: own[name] for name in names}})

    def take_network(self, name: str) -> None:
        """Start the network, but not what brings it its latents, from that of a trained SSDD.

        Args:
            name: An `ssdd` or `ssdd_decoder` by name, a folder, an `hf://` address, or a training checkpoint (`.ckpt`).

        Raises:
            ConfigError: It is none, or of other sizes.
        """
        origin, start = read_origin(name), "decoder.unet."
        found = {key.removeprefix(start): t for key, t in origin.tokenizer.items() if key.startswith(start)}
        own = self.decoder.unet.state_dict()
        if not found:
            raise ConfigError(f"decoder: {name!r} is a {origin.family} without a decoder of SSDD to start from.")
        if {key: t.shape for key, t in found.items()} != {key: t.shape for key, t in own.items()}:
            told = differences(origin.config["decoder"], configs.to_dict(self.tokenizer.config.decoder))
            raise ConfigError(f"decoder: {name!r} does not fit the model: {told or 'latents are of other channels'}.")
        self.decoder.unet.load_state_dict(found)
        if origin.licence is not None:  # of two licences that are not one, nobody but a person can tell what holds
            self.start_licence = origin.licence if self.start_licence in (None, origin.licence) else ""

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
            features = network.features(torch.zeros(1, 3, *self.tokenizer.config.image_size))
        (found,) = features.values()
        if found.ndim != 4:
            raise ConfigError(
                f"alignment: {network.name} gives features of shape {tuple(found.shape)} at {network.layers[0]}, and a "
                "map (B, C, H, W) is needed: choose an earlier layer."
            )
        self.alignment, self.alignment_layer = network, layer
        self.head = AlignmentHead(config.widths[-1], found.shape[1])
