"""Training what turns tokens into speech, in two stages behind a finished tokenizer, which stays as it is.

The vocoder learns waves from the spectra of recordings and never sees a token (`VocoderTraining`); the flow learns
spectra from tokens (`DecoderTraining`). Each stage starts from what the one before it wrote, in either order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.discriminators.waves import DiscriminatorConfig, Discriminators
from zoo.components.flow import Cosine, draw_noise, draw_times, drop_conditions, flow_loss
from zoo.components.losses.adversarial import discriminator_loss, feature_loss, generator_loss
from zoo.components.losses.spectral import MultiResolutionSTFT
from zoo.components.vocoder.convolution import Conv
from zoo.components.vocoder.pitch import fundamental_frequency
from zoo.data.speech import SpeechBatch, SpeechData
from zoo.errors import ConfigError
from zoo.families.stabletoken.decoder.mel import PATH
from zoo.families.stabletoken.decoder.voices import speaker_vector
from zoo.families.stabletoken.decoder_stage import DecoderStage
from zoo.training import AdversarialModule, Audio, Media, OptimizerConfig, Reconstruction
from zoo.training.figures import ratio

__all__ = ["DecoderTraining", "VocoderTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig()
_PITCH_SCALE = 100.0  # Hz, to which the untrained predictor's output of about one is raised


class VocoderTraining(DecoderStage, AdversarialModule):
    """Trains the vocoder: spectra of recordings → the recordings.

    The source follows the recording's own pitch, which a predictor learns beside. Losses: `stft`, of waves at several
    resolutions; `mel`, the mean difference of log-mel spectra; `pitch`, the mean difference of pitches in Hz, of which
    voiced and unvoiced frames have half each, since most frames are unvoiced and zero would be a good guess for all.

    With discriminators, which learn by `discriminator`, the vocoder has two losses more: `adversarial`, by how much its
    waves are told from recordings, and `features`, the difference of what goes on inside the discriminators.

    Args:
        tokens: As for every stage: a model, a folder, an `hf://` address, or a training checkpoint (`.ckpt`).
        decoder: Values of `DecoderConfig`; None to go on from the decoder of `tokens`.
        decoder_weights: Model whose decoder is gone on from instead; None for none.
        crop_tokens: Length of the stretches that are trained on, one of each utterance.
        discriminator: Values of `DiscriminatorConfig`; None for no discriminators.
        discriminator_optimizer: Optimiser and schedule of the discriminators; None for the vocoder's.
        discriminator_every: The vocoder's steps from one step of the discriminators to the next.
        adversarial_from: The vocoder's steps before discriminators begin.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
    """

    default_weights: ClassVar[Mapping[str, float]] = {
        "stft": 1.0,
        "mel": 1.0,
        "pitch": 0.01,
        "adversarial": 1.0,
        "features": 2.0,
        "discriminator": 1.0,
    }

    def __init__(
        self,
        tokens: str,
        decoder: dict[str, Any] | None = None,
        decoder_weights: str | None = None,
        crop_tokens: int = 20,
        discriminator: dict[str, Any] | None = None,
        discriminator_optimizer: OptimizerConfig | None = None,
        discriminator_every: int = 1,
        adversarial_from: int = 0,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(
            tokens,
            decoder,
            decoder_weights,
            optimizer,
            loss_weights,
            discriminator=discriminator,
            discriminator_optimizer=discriminator_optimizer,
            discriminator_every=discriminator_every,
            adversarial_from=adversarial_from,
        )
        self.crop_tokens = crop_tokens
        self.stft = MultiResolutionSTFT()
        if not self.goes_on:
            self._start()

    def trained_modules(self) -> list[nn.Module]:
        """Return the vocoder."""
        return [self.decoder.vocoder]

    def build_discriminator(self, values: dict[str, Any]) -> Discriminators:
        """Return the discriminators of values of `DiscriminatorConfig`."""
        return Discriminators(configs.from_dict(DiscriminatorConfig, values, "discriminator"))

    def reconstruct(self, batch: SpeechBatch) -> Reconstruction:
        """Return what the vocoder makes of one stretch of each utterance."""
        size = self.tokenizer.config.token_samples
        slack = (batch.lengths // size - self.crop_tokens).clamp(min=0)
        starts = (torch.rand(len(slack), dtype=torch.float32, device="cpu") * (slack.cpu() + 1)).long().tolist()
        wave = self.crops(batch.waves, batch.lengths, list(enumerate(starts)), self.crop_tokens)
        vocoder, hop = self.decoder.vocoder, self.decoder_config.vocoder.frame_samples
        mel = self.spectrum(wave)
        pitch = fundamental_frequency(wave, self.decoder_config.sample_rate, hop)
        made = vocoder.filter(mel, vocoder.source(pitch, None))
        sums = _pitch_sums(vocoder.pitch(mel).float(), pitch)
        losses = {
            "stft": self.stft(made, wave),
            "mel": F.l1_loss(self.spectrum(made), mel),
            "pitch": _pitch_error(*sums),
        }
        self.tally("pitch", _pitch_error, *sums)
        return Reconstruction(losses, wave, made)

    def discriminator_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return how badly the discriminators tell recordings from what was made."""
        judge = cast("Discriminators", self.discriminator)
        return {"discriminator": discriminator_loss(judge(pair.real)[0], judge(pair.made)[0])}

    def adversarial_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return by how much what was made is told from recordings, and differs inside the discriminators."""
        judge = cast("Discriminators", self.discriminator)
        judgements, features = judge(pair.made)
        with torch.no_grad():
            _, wanted = judge(pair.real)
        return {"adversarial": generator_loss(judgements), "features": feature_loss(wanted, features)}

    @torch.no_grad()
    def _start(self) -> None:
        """Bring the first layers to what goes in, and the last of the pitch predictor to what comes out.

        Log-mel spectra are far from zero and pitches a hundred times what networks start at, while an optimiser's steps
        are as long for every weight.
        """
        vocoder, config = self.decoder.vocoder, self.decoder_config
        for first in (vocoder.pre, cast("Conv", vocoder.pitch.layers[0])):
            first.gain.div_(config.mel_std)
            first.bias.sub_(config.mel_mean * first.weight.sum((1, 2)))
        vocoder.pitch.out.weight.mul_(_PITCH_SCALE)
        vocoder.pitch.out.bias.fill_(_PITCH_SCALE)

    def media(self, batch: SpeechBatch) -> dict[str, Media]:
        """Return the first utterance and what becomes of it."""
        count = int(batch.lengths[0]) // self.tokenizer.config.token_samples
        wave = self.crops(batch.waves[:1], batch.lengths[:1], [(0, 0)], count)
        with torch.no_grad():
            made = self.decoder.vocoder(self.spectrum(wave), torch.Generator().manual_seed(0))
        rate = self.decoder_config.sample_rate
        return {"recording": Audio(wave[0], rate), "vocoder": Audio(made[0], rate)}


class DecoderTraining(DecoderStage):
    """Trains the flow from tokens to mel spectra (section 5.1 of the spec; conditional flow matching).

    Utterances are encoded whole and cut into stretches of equal length, so that no padding gets into the network's
    statistics. Losses: `flow`, the mean squared error of velocities, weighted by 1 - t where the network predicts data;
    `prior`, that of what the tokens alone say about the spectrum (Grad-TTS: Popov et al., arXiv 2105.06337), not part
    of the published recipe, which gets the token encoder going in a short one.

    A speaker is a direction that follows from the name (`speaker_vector`), so that the tokens need not tell voices
    apart, and `decode` can be asked for one. `voice` is the one that zero stands for, which is what `decode` asks for
    by itself; with None all have their vector, and zero, as published, is a voice of no one in particular.

    Args:
        tokens: As for every stage: a model, a folder, an `hf://` address, or a training checkpoint (`.ckpt`).
        decoder: Values of `DecoderConfig`; None to go on from the decoder of `tokens`.
        decoder_weights: Model whose decoder is gone on from instead; None for none.
        voice: Speaker whose voice `decode` is to have if it is not asked for another's. In a flow that has been trained
            zero may have had another's; it is given this one's, and no known voice is another for it.
        guidance: `DecoderConfig`'s, which `decode` has if it is not asked for another; as it is there if None.
        temperature: The same.
        start_from_codes: Whether the embedding of the tokens starts from the quantizer's vectors, so that tokens whose
            bits differ little start alike, instead of from random ones, of which each has to be learned by itself. That
            of a flow that has been trained is gone on from as it is.
        crop_tokens: Length of the stretches that are trained on.
        drop: Share of the stretches whose conditions are dropped, all together, for guidance.
        prompted: Share of the stretches whose beginning is given.
        most_prompt: The largest part that is given.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
    """

    default_weights: ClassVar[Mapping[str, float]] = {"flow": 1.0, "prior": 0.0}

    def __init__(
        self,
        tokens: str,
        decoder: dict[str, Any] | None = None,
        decoder_weights: str | None = None,
        voice: str | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        start_from_codes: bool = False,
        crop_tokens: int = 50,
        drop: float = 0.2,
        prompted: float = 0.5,
        most_prompt: float = 0.8,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(tokens, decoder, decoder_weights, optimizer, loss_weights)
        for name, value in {"drop": drop, "prompted": prompted, "most_prompt": most_prompt}.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, got {value}.")
        self.voice = voice
        if voice and voice != self.decoder_config.voice:
            self._let_zero_be(voice)
        told = {"guidance": guidance, "temperature": temperature}
        self._describe(**{name: value for name, value in told.items() if value is not None})
        self._name_voices(set())
        if start_from_codes and _is_untrained(self.decoder.flow):
            self._start_from_codes()
        self.crop_tokens = crop_tokens
        self.drop, self.prompted, self.most_prompt = drop, prompted, most_prompt

    def on_fit_start(self) -> None:
        """Note whose voices the flow learns."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        items = data.dataset("train") if isinstance(data, SpeechData) else None
        if items is not None:
            self._name_voices({utterance.speaker for utterance in items.utterances})

    def trained_modules(self) -> list[nn.Module]:
        """Return the flow."""
        return [self.decoder.flow]

    def losses(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Return the losses of as many stretches as the utterances have."""
        ids, mel, speaker = self._pairs(batch)
        flow = self.decoder.flow
        content = flow.content(ids)
        conditions = [content, flow.voice(speaker), self._prompts(mel)]
        kept = drop_conditions(conditions, [torch.zeros_like(each) for each in conditions], self.drop)
        t = draw_times(len(mel), Cosine(), device=mel.device)
        noise = draw_noise(mel.shape, None, mel.device)
        predicted = flow.velocity(PATH.at(mel, noise, t), t, *kept)
        # A velocity that follows from predicted data has their error divided by the time that is left: just before the
        # end that would drown all the rest.
        weights = 1 - t if self.decoder_config.unet.predicts == "data" else None
        losses = {
            "flow": flow_loss(predicted, PATH.velocity(mel, noise), weights=weights),
            "prior": F.mse_loss(content.float(), mel),
        }
        for name, loss in losses.items():  # over stretches, of which an utterance has several
            self.tally(name, ratio, loss * len(mel), torch.tensor(len(mel)))
        return losses

    def _name_voices(self, speakers: set[str]) -> None:
        """Write into the config whose voice zero is, and whose others the flow knows; it forgets none it knew."""
        own = self.voice or ""
        before = {self.decoder_config.voice} if own else set()
        known = {*self.decoder_config.voices, *before, *speakers} - {"", own}
        self._describe(voice=own, voices=tuple(sorted(known)))

    def _describe(self, **values: Any) -> None:
        """Write values into the config that the decoder is used and exported with."""
        self.decoder_config = replace(self.decoder_config, **values)
        self.decoder.config = self.decoder_config
        self.tokenizer.config = replace(self.tokenizer.config, decoder=self.decoder_config)

    @torch.no_grad()
    def _let_zero_be(self, voice: str) -> None:
        """Give the zero vector the voice that a name has, if any, and zero's to its own name; all others stay."""
        config, layer = self.decoder_config, self.decoder.flow.speaker
        names = [name for name in (config.voice, *config.voices) if name and name != voice]
        if not names:
            return
        weight = layer.weight.double()
        added = weight @ speaker_vector(voice if voice in config.voices else "", config.speaker_size).double()
        vectors = torch.stack([speaker_vector(name, config.speaker_size).double() for name in names])
        wanted = vectors @ weight.T - added
        if config.voice:
            wanted[0] = -added
        # The least change of the weights, exact for as many voices as a vector has numbers.
        weight = weight + (torch.linalg.pinv(vectors) @ (wanted - vectors @ weight.T)).T
        layer.weight.copy_(weight)
        layer.bias.copy_(layer.bias + added)

    @torch.no_grad()
    def _start_from_codes(self) -> None:
        """Set the embedding to a random rotation of the codes' principal components, each of unit variance."""
        embedding = self.decoder.flow.tokens
        codes = self.tokenizer.quantizer.codes(torch.arange(embedding.num_embeddings)).double()
        components, sizes, _ = torch.linalg.svd(codes - codes.mean(0), full_matrices=False)
        kept = (sizes > 1e-6 * sizes[0]).nonzero()[: embedding.embedding_dim, 0]
        rotation = torch.randn(len(kept), embedding.embedding_dim, dtype=codes.dtype) / len(kept) ** 0.5
        embedding.weight.copy_(components[:, kept] * len(codes) ** 0.5 @ rotation)

    def media(self, batch: SpeechBatch) -> dict[str, Media]:
        """Return the first utterance and what is decoded from its tokens."""
        count = int(batch.lengths[0])
        wave = batch.waves[:1, :count]
        made = self.tokenizer.decode(self.tokenizer.encode(wave))
        rate = self.tokenizer.config.sample_rate
        return {"recording": Audio(wave[0], rate), "decoded": Audio(made[0], rate)}

    @torch.no_grad()
    def _pairs(self, batch: SpeechBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids (N, T), normalised spectra (N, M, F) and speakers (N, S) of N stretches."""
        size, most = self.crop_tokens, int(batch.lengths.max())
        tokens = self.tokenizer.encode(batch.waves[:, :most], batch.lengths)
        starts = []
        for row, count in enumerate(tokens.lengths.tolist()):
            pieces, rest = divmod(count, size)
            offset = int(torch.randint(rest + 1, (), device="cpu")) if pieces else 0
            starts += [(row, offset + size * number) for number in range(max(1, pieces))]
        silence = self.tokenizer.encode(batch.waves.new_zeros(1, self.tokenizer.config.token_samples)).ids[0, 0]
        ids = []
        for row, start in starts:
            own = tokens.ids[row, start : min(start + size, int(tokens.lengths[row]))]
            ids.append(torch.cat([own, silence.expand(size - len(own))]))
        mel = self.spectrum(self.crops(batch.waves, batch.lengths, starts, size))
        names = [batch.speakers[row] for row, _ in starts]
        vectors = {name: self._speaker(name) for name in set(names)}
        speaker = torch.stack([vectors[name] for name in names]).to(mel.device)
        return torch.stack(ids), (mel - self.decoder_config.mel_mean) / self.decoder_config.mel_std, speaker

    def _speaker(self, name: str) -> Tensor:
        return speaker_vector("" if name == self.voice else name, self.decoder_config.speaker_size)

    def _prompts(self, mel: Tensor) -> Tensor:
        """Return the spectra's beginnings, of random lengths, 0 behind them and where nothing is given."""
        count, frames = len(mel), mel.shape[2]
        largest, given = (torch.rand(count, dtype=torch.float32, device="cpu") for _ in range(2))
        shares = largest * self.most_prompt * (given < self.prompted)
        ends = (shares * frames).long().to(mel.device)
        return mel * (torch.arange(frames, device=mel.device) < ends[:, None])[:, None]


def _is_untrained(flow: nn.Module) -> bool:
    """Whether the gains of all norms are one, as they start."""
    norms = (module for module in flow.modules() if isinstance(module, (nn.LayerNorm, nn.GroupNorm)))
    return all(bool((norm.weight == 1).all()) for norm in norms)


def _pitch_sums(found: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed differences in Hz of voiced and of unvoiced frames (2,), and how many there are of each."""
    masks = torch.stack([pitch > 0, pitch <= 0]).flatten(1)
    return ((found - pitch).abs().flatten() * masks).sum(1), masks.sum(1)


def _pitch_error(total: Tensor, count: Tensor) -> Tensor:
    """Return the mean difference in Hz, (voiced + unvoiced) / 2, of those that there are."""
    return (total[count > 0] / count[count > 0]).mean()
