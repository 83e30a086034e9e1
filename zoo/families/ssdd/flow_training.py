"""What trainings of SSDD's decoder have in common, whatever its latents come from: the flow and its losses.

    L = L_flow + λ₁ L_perceptual + λ₂ L_alignment

`L_flow` is the error of the predicted velocity at a random time. At that time the line along it ends in an estimate of
the picture, which `L_perceptual` compares with the picture in a frozen network's features. `L_alignment` ties a layer
of the transformer to a frozen network's features of the picture (REPA; Yu et al., arXiv 2410.06940).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.features import FeatureNetwork
from zoo.components.features import build as build_features
from zoo.components.flow import LogitNormal, draw_noise, draw_times, flow_loss
from zoo.components.layers.positions import RelativePositionBias2d
from zoo.components.losses.alignment import AlignmentHead, grid_alignment_loss
from zoo.components.losses.perceptual import distance_of
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError
from zoo.families.ssdd.decoder import PATH, SSDDDecoder
from zoo.training import Media, OptimizerConfig, Picture, TokenizerModule
from zoo.training.origin import Origin, differences, read_origin

__all__ = ["Flow", "FlowTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_SHOWN = 4


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


class FlowTraining(TokenizerModule):
    """Trains an SSDD's decoder, and perhaps more of it. A subclass says what the latents of pictures are.

    Losses: `flow`, the mean squared error of velocities; `perceptual`, the distance of the estimated picture in a
    frozen network's features; `alignment`, one minus the mean cosine between projected states of the transformer and a
    frozen network's features.

    Args:
        config: As of `TokenizerModule`; it has an `image_size`, `decoder`, `steps` and `time_power`.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        times: Values of `LogitNormal`, the distribution of times.
        perceptual: The frozen network, as `zoo.components.features.build` takes it; none if None.
        alignment: The frozen network of `alignment`, with one layer; none if None.
        alignment_layer: Block of the transformer, from 0, whose states are aligned; as published if None.

    Raises:
        ConfigError: A value is unusable.
    """

    default_weights: ClassVar[Mapping[str, float]] = {"flow": 1.0, "perceptual": 0.5, "alignment": 0.25}

    def __init__(
        self,
        config: dict[str, Any],
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
        latents, losses = self.latents(images)
        noise = draw_noise(images.shape, generator, images.device)
        t = draw_times(len(images), self.times, generator, images.device)
        goal = 2 * images - 1
        flow = Flow(latents, noise, t, PATH.at(goal, noise, t), goal)
        if not self.trainer.training:
            self.tell_quality(images, latents)
        return {**self.flow_losses(flow, images), **losses}

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

    def tell_quality(self, images: Tensor, latents: Tensor) -> None:
        """Count in how well pictures are decoded of their latents, in the config's steps."""
        with torch.no_grad():
            error = (self._made(latents, self.tokenizer.config.steps) - images).square().flatten(1).mean(1)
        self._log("psnr", -10 * error.clamp(min=1e-10).log10().mean())

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
