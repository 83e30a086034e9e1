"""Training FlexTok: encoder, quantizer and flow together, in the latents of an autoencoder that was trained before.

    L = L_flow + λ L_alignment

`L_flow` is the error of the predicted velocity (equation 2 of the paper), with a random number of tokens kept and, for
guidance, sometimes none; `L_alignment` ties an early layer of the flow to a frozen network's features of the same image
(REPA; Yu et al., arXiv 2410.06940), which shortens training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.features import FeatureNetwork
from zoo.components.features import build as build_features
from zoo.components.flow import Mode, Warp, draw_noise, draw_times, flow_loss, item_errors
from zoo.components.losses.alignment import AlignmentHead, grid_alignment_loss
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError, shown
from zoo.families.flextok.decoder import FlexTokDecoder
from zoo.families.flextok.nested_dropout import draw_lengths
from zoo.families.flextok.tokenizer import PATH, FlexTokTokenizer
from zoo.training import Media, OptimizerConfig, Picture, TokenizerModule
from zoo.training.figures import ratio
from zoo.training.origin import Origin, differences, read_origin

__all__ = ["FlexTokTraining", "TimesConfig"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_SHOWN = 4
_SHOWN_STEPS = 10
_HEAD_LAYERS = 3
_MOST_TOLD = 16  # lengths of which validation tells apart


@dataclass(frozen=True)
class TimesConfig:
    """How times of the flow are drawn.

    Attributes:
        warp: The distribution, with its `kind`: as published "mode" with a scale of 0.25, or "logit_normal".
        is_stratified: Whether a batch has one time in each of B equally likely parts.
    """

    warp: Warp = Mode(0.25)  # noqa: RUF009  (frozen)
    is_stratified: bool = False


class FlexTokTraining(TokenizerModule):
    """Trains the resampler, the quantizer and the flow. The autoencoder stays as it is.

    Losses: `flow`, the mean squared error of velocities in scaled latents; `alignment`, one minus the mean cosine
    between projected states of the flow's patches and a frozen network's features, if there is one; and the
    quantizer's own.

    Args:
        config: Values of `FlexTokConfig`.
        autoencoder: The trained autoencoder: an `autoencoder_kl` by name, a folder, an `hf://` address, or its training
            checkpoint (`.ckpt`). Not needed with `weights`.
        weights: As of `TokenizerModule`; the autoencoder is then that of this model.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        null_rate: Probability that an image is learned without any condition, which guidance needs.
        times: Values of `TimesConfig`.
        alignment: The frozen network, as `zoo.components.features.build` takes it, with one layer; none if None.
        alignment_layer: Layer of the flow, from 0, whose states are aligned.
        alignment_width: Width inside the projection; four times that of the flow if None.
        freeze_encoder: Whether only the flow is trained, as at the end of a long training.

    Raises:
        ConfigError: A value is unusable, or the autoencoder is another one than the config says, or missing.
    """

    family: ClassVar[str] = "flextok"
    default_weights: ClassVar[Mapping[str, float]] = {"flow": 1.0, "alignment": 1.0}

    tokenizer: FlexTokTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        autoencoder: str | None = None,
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        null_rate: float = 0.1,
        times: dict[str, Any] | None = None,
        alignment: dict[str, Any] | None = None,
        alignment_layer: int = 1,
        alignment_width: int | None = None,
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__(config, None, optimizer, loss_weights)
        if not 0 <= null_rate < 1:
            raise ConfigError(f"null_rate must be at least 0 and below 1, got {null_rate}.")
        self.null_rate = null_rate
        self.times = configs.from_dict(TimesConfig, times or {}, "times")
        self.freeze_encoder = freeze_encoder
        self.alignment: FeatureNetwork | None = None
        self.alignment_layer = alignment_layer
        self.alignment_width = alignment_width
        self.head: AlignmentHead | None = None
        if alignment is not None:
            self._build_head(build_features(alignment, "alignment"))
        if weights is not None:
            self._start_from(weights)
        elif autoencoder is not None:
            self._take_autoencoder(autoencoder, read_origin(autoencoder))
        else:
            raise ConfigError("autoencoder: a trained autoencoder_kl is needed, or weights of a flextok to go on from.")
        self.tokenizer.requires_grad_(False)
        nn.ModuleList(self.trained_modules()).requires_grad_(True)

    @property
    def decoder(self) -> FlexTokDecoder:
        """The decoder, whose flow is trained."""
        return cast("FlexTokDecoder", self.tokenizer.decoder)

    def trained_modules(self) -> list[nn.Module]:
        """Return all but the autoencoder, and with a frozen encoder the flow alone."""
        encoding = [] if self.freeze_encoder else [self.tokenizer.encoder.resampler, self.tokenizer.quantizer]
        return [*encoding, self.decoder.flow, *([] if self.head is None else [self.head])]

    def train(self, mode: bool = True) -> FlexTokTraining:
        """Leave in evaluation mode what is not trained."""
        super().train(mode)
        self.tokenizer.encoder.autoencoder.eval()
        self.decoder.autoencoder.eval()
        if self.freeze_encoder:
            self.tokenizer.encoder.eval()
            self.tokenizer.quantizer.eval()
        return self

    def num_items(self, batch: ImageBatch) -> int:
        """Return how many images a batch has."""
        return len(batch.images)

    def losses(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Return the losses of images; in evaluation, of random numbers that are the same each time."""
        images, flow = batch.images, self.decoder.flow
        count, device = len(images), images.device
        generator = None if self.trainer.training else torch.Generator(device).manual_seed(0)
        with torch.no_grad():
            latents = self.tokenizer.encoder.latents(2 * images - 1)
        quantized = self.tokenizer.quantizer(self.tokenizer.encoder.resampler(latents))
        config = self.tokenizer.config
        lengths = draw_lengths(config.nested_dropout, config.num_tokens, count, generator, device)
        registers = flow.registers(quantized.codes, lengths)
        if self.trainer.training:
            is_null = torch.rand(count, device=device) < self.null_rate
            registers = torch.where(is_null[:, None, None], flow.null.to(registers.dtype), registers)
        t = draw_times(count, self.times.warp, generator, device, is_stratified=self.times.is_stratified)
        noise = draw_noise(latents.shape, generator, device)
        x = PATH.at(latents, noise, t)
        stages = list(flow.layers(x, t, registers))
        predicted = flow.velocity(stages[-1]["patches"], t, x)
        target = PATH.velocity(latents, noise)
        losses = {"flow": flow_loss(predicted, target), **self.quantizer_losses(quantized)}
        if not self.trainer.training:
            self._tell_by_length(item_errors(predicted, target), lengths)
        if self.alignment is not None:
            losses["alignment"] = self._alignment(stages[self.alignment_layer]["patches"], images)
        return losses

    def media(self, batch: ImageBatch) -> dict[str, Media]:
        """Return the first images over what 1, some and all of their tokens become."""
        images = batch.images[:_SHOWN]
        lengths = self.tokenizer.config.trained_lengths
        with torch.no_grad():
            ids = self.tokenizer.quantizer.ids(self.tokenizer.vectors(images))
            rows = [images] + [
                self.tokenizer.decode(ids[:, :length], torch.full((len(ids),), length), steps=_SHOWN_STEPS)
                for length in (lengths[0], lengths[len(lengths) // 2], lengths[-1])
            ]
        return {"prefixes": Picture(torch.cat([torch.cat(list(row.float()), 2) for row in rows], 1))}

    def _alignment(self, patches: Tensor, images: Tensor) -> Tensor:
        network = cast("FeatureNetwork", self.alignment)
        with torch.no_grad():
            features = network.features(images)[network.layers[0]]
        return grid_alignment_loss(cast("AlignmentHead", self.head), patches, self.tokenizer.config.grid, features)

    def _build_head(self, network: FeatureNetwork) -> None:
        """Make the projection, as wide as the network's features of an image are."""
        config = self.tokenizer.config
        if len(network.layers) != 1 or not 0 <= self.alignment_layer < config.decoder.depth:
            raise ConfigError(
                f"alignment: one layer of the network is compared with layer {self.alignment_layer} of the flow's "
                f"{config.decoder.depth}, got the network's {', '.join(network.layers)}."
            )
        with torch.no_grad():
            features = network.features(torch.zeros(1, 3, config.image_size, config.image_size))[network.layers[0]]
        if features.ndim != 4:
            raise ConfigError(
                f"alignment: {network.name} gives features of shape {tuple(features.shape)} at {network.layers[0]}, "
                "and a map (B, C, H, W) is needed: choose an earlier layer."
            )
        width = self.alignment_width or 4 * config.decoder.width
        self.alignment = network
        self.head = AlignmentHead(config.decoder.width, features.shape[1], width, _HEAD_LAYERS)

    def _take_autoencoder(self, name: str, origin: Origin) -> None:
        """Take over both halves of an autoencoder.

        Raises:
            ConfigError: It is another one than the config says.
        """
        if origin.family != "autoencoder_kl":
            raise ConfigError(f"autoencoder: {name!r} is a {origin.family}, not an autoencoder_kl.")
        own = configs.to_dict(self.tokenizer.config)
        quantizer = origin.config["quantizer"]
        if quantizer["kind"] != "gaussian":
            raise ConfigError(
                f"autoencoder: {name!r} has a quantizer, {shown(quantizer['kind'])}: latents of a gaussian are needed."
            )
        there = {"conv": origin.config["conv"], "latent_channels": quantizer["dim"]}
        here = {"conv": own["autoencoder"], "latent_channels": own["latent_channels"]}
        if found := differences(there, here):
            raise ConfigError(f"autoencoder: {name!r} does not fit the model: {found}.")
        for half in ("encoder", "decoder"):
            part = self.tokenizer.get_submodule(f"{half}.autoencoder")
            start = f"{half}."
            part.load_state_dict(
                {key.removeprefix(start): t for key, t in origin.tokenizer.items() if key.startswith(start)}
            )
        self.start_licence = origin.licence

    def _tell_by_length(self, errors: Tensor, lengths: Tensor) -> None:
        """Count in how well the flow does with each number of tokens."""
        errors, lengths = errors.detach().cpu(), lengths.cpu()
        trained = self.tokenizer.config.trained_lengths
        for length in sorted(set(lengths.tolist())) if len(trained) <= _MOST_TOLD else []:
            of_length = lengths == length
            self.tally(f"flow_{length}", ratio, errors[of_length].sum(), of_length.sum())
