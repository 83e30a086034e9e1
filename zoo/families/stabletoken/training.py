"""Training StableToken: a speech recogniser with the quantizer in its middle, and noise for a minority of the voters.

    L = L_asr + λ1 L_consensus + λ2 L_commitment + λ3 L_entropy    (equation 5 of the paper; the λ are the quantizer's)

The encoder's first layers turn clean and perturbed speech into vectors; most voters see the clean ones, the others the
perturbed ones; what they agree on goes through the rest of the encoder and the text decoder, which has to write the
transcript. The two views may also begin at places of their own in the encoder's segment (`random_place`), so that
agreeing on one means agreeing on the other. Beside all this stands a second objective for speech without transcripts:
what the untouched Whisper encoder makes of the same clean speech (`distillation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import resources
from zoo.checkpoint.whisper import read_whisper
from zoo.components.quantizers import Quantized, VotingLFQ
from zoo.data.speech import SpeechBatch
from zoo.errors import ConfigError
from zoo.families.stabletoken.encoder import SpeechEncoder
from zoo.families.stabletoken.recognizer import Recognizer
from zoo.families.stabletoken.start import go_on_from_speech, start_from_speech, with_positions
from zoo.families.stabletoken.tokenizer import StableTokenTokenizer
from zoo.metrics.tokens.edits import character_edits, word_edits
from zoo.training import Figure, Media, OptimizerConfig, TokenizerModule
from zoo.training.figures import ratio
from zoo.training.origin import Origin, licence_of_card

__all__ = ["StableTokenTraining"]

_IGNORED = -100  # of cross_entropy
_MOST_TEXT_RATE = 10  # text tokens a second
_DEFAULT_OPTIMIZER = OptimizerConfig()
_MOVED_SECONDS = 1.0  # by which speech begins later, to count what that changes


class StableTokenTraining(TokenizerModule):
    """Trains StableToken's encoder and quantizer from Whisper's weights.

    Losses: `asr`, cross-entropy of the transcript's text tokens in nats, over those items that have one;
    `distillation`, the mean squared difference from the untouched encoder's states, pooled to the token rate, in units
    of their variance; and the quantizer's own.

    Args:
        config: Values of `StableTokenConfig`.
        whisper: Folder with the Whisper model to start from, in Hugging Face's layout; `${cache}` is the library's
            cache. Its encoder has as many layers
            as the tokenizer before and after the quantizer.
        language: Of transcripts whose language the data does not say, for models of several languages.
        train_text_decoder: Whether Whisper's text decoder is trained as well, instead of judging as it is.
        noise: Whether the minority of a `voting_lfq`'s branches sees the perturbed speech. If not, or with another
            quantizer, everything sees the clean speech.
        random_place: Share of the views, clean and perturbed, that begin in training at a random row of the encoder's
            position table, any from which it holds the whole item, instead of at the first. Whisper's table tells an
            encoder where in its segment it is, and tokens that are to be the same wherever speech begins must not
            depend on it (SHAPE: Kiyono et al., arXiv 2109.05644). Some views should stay where all are when the
            tokenizer is used; 0 moves none. The teacher of the distillation always hears speech from the first row.
        random_start: Share of the perturbed views that begin in training up to half a token earlier or later than the
            clean ones, so that tokens depend less on where in 40 ms speech begins.
        transcribe: Whether validation and testing write transcripts and count wrong words and characters, in percent
            (`wer`, `cer`); testing also those of the same text decoder on the untouched encoder's states, pooled to the
            token rate (`wer_untouched`, `cer_untouched`), if there is distillation: what the tokens could reach.
        start_utterances: Training utterances that what has no weights starts from, instead of from random ones and zero
            (see `start.py`); 0 for none. Without `weights` that is a `voting_lfq` with biases, the positions behind it,
            and distances of an encoder with `attention_reach`; other quantizers start as they do.
        weights: Model whose weights the tokenizer starts from instead of Whisper's, or a training checkpoint (`.ckpt`)
            of an earlier stage. Its recogniser is taken over as well, if it comes with one; if not, Whisper's layers
            start behind codes of `start_utterances`. If it has a position table and this model an `attention_reach`,
            the table is left out, and distances start from them.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not 1 for `asr` and 0 for `distillation`.
    """

    family: ClassVar[str] = "stabletoken"
    default_weights: ClassVar[Mapping[str, float]] = {"asr": 1.0, "distillation": 0.0}

    tokenizer: StableTokenTokenizer

    def __init__(
        self,
        config: dict[str, Any],
        whisper: str,
        language: str = "en",
        train_text_decoder: bool = True,
        noise: bool = True,
        random_place: float = 0.0,
        random_start: float = 0.0,
        transcribe: bool = False,
        start_utterances: int = 0,
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(config, None, optimizer, loss_weights)
        for name, share in (("random_place", random_place), ("random_start", random_start)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, got {share}.")
        model = read_whisper(whisper)
        if random_place and config.get("attention_reach") is not None:
            raise ConfigError(
                "random_place moves speech in a position table, and with attention_reach there is none: leave one out."
            )
        own = self.tokenizer.config
        model.require_sizes(
            d_model=own.d_model,
            num_heads=own.num_heads,
            ffn_size=own.ffn_size,
            num_mel=own.num_mel,
            max_positions=own.max_positions,
            num_layers=own.num_layers + own.num_layers_after,
        )
        self.spelling = model.spelling
        self.language = language
        self.noise = noise
        self.random_place = random_place
        self.random_start = random_start
        self.transcribe = transcribe
        self.start_utterances = start_utterances
        self._is_placed = False
        model.spelling.prompt(language)  # refused here if the model does not know it
        model.fill_encoder(self.tokenizer.encoder)
        self.recognizer = Recognizer(self.tokenizer.config, model, self.tokenizer.quantizer.dim)
        if not train_text_decoder:
            self.recognizer.text.requires_grad_(False)
        self.teacher: SpeechEncoder | None = None
        if self.loss_weights["distillation"]:
            layers = model.config.num_layers
            whole = replace(
                self.tokenizer.config,
                num_layers=layers,
                num_layers_after=0,
                pooling_position=layers,
                attention_reach=None,
            )
            self.teacher = SpeechEncoder(whole)
            model.fill_encoder(self.teacher)
            self.teacher_norm = nn.LayerNorm(whole.d_model)
            model.fill_norm(self.teacher_norm)
            self.teacher.requires_grad_(False)
            self.teacher_norm.requires_grad_(False)
        self.start_licence = licence_of_card(resources.expanded(whisper))
        if weights is not None:
            self._start_from(weights)

    def setup(self, stage: str) -> None:
        """Start from training utterances what has no weights, if asked for; a run that goes on loads them later."""
        data = getattr(self.trainer, "datamodule", None)
        if not self.start_utterances or stage != "fit" or self.trainer.ckpt_path is not None or data is None:
            return
        items, count = data.dataset("train"), self.start_utterances
        if self.hparams["weights"] is None:
            start_from_speech(self.tokenizer, self.recognizer, items, count)
            return
        front = None
        if "recognizer.positions" in self.afresh:
            front = with_positions(self.tokenizer.encoder)
            read_whisper(self.hparams["whisper"]).fill_encoder(front)
        if front is not None or self._is_placed:
            go_on_from_speech(self.tokenizer, self.recognizer, front, items, count, is_placed=self._is_placed)

    def adapted(self, origin: Origin) -> Origin:
        """Leave the position table out of a model to start from, where this one has none."""
        reach = self.tokenizer.config.attention_reach
        if origin.family != self.family or reach is None or origin.config.get("attention_reach") is not None:
            return origin
        if not self.start_utterances:
            raise ConfigError(
                "weights: it has a position table, and with attention_reach there is none. Set start_utterances, such "
                "as 64, for distances to start from what positions said; or leave attention_reach out."
            )
        self._is_placed = True
        own = self.tokenizer.encoder.state_dict()
        fresh = {f"encoder.{name}": own[name] for name in own if name.partition(".")[0] in ("offset", "biases")}
        taken = {name: tensor for name, tensor in origin.tokenizer.items() if name != "encoder.positions"}
        changed = {"attention_reach": reach, "stored_positions": False}
        return replace(origin, config={**origin.config, **changed}, tokenizer=taken | fresh)

    def num_items(self, batch: SpeechBatch) -> int:
        """Return how many utterances a batch has."""
        return len(batch.lengths)

    def losses(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Return the losses of a batch, and log how the tokens are doing."""
        return self._losses(batch, *self._encode(batch))

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Log the losses, how many tokens noise changes, and, if asked for, errors of the transcripts."""
        super().validation_step(batch, batch_idx)
        self._measure(batch)

    def test_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Log as in validation."""
        super().test_step(batch, batch_idx)
        self._measure(batch)

    def media(self, batch: SpeechBatch) -> dict[str, Media]:
        """Return the first utterance's spectrogram over its tokens, clean and perturbed."""
        from zoo.pictures import draw_speech_tokens

        count = int(batch.lengths[0])
        clean, noisy = batch.waves[0, :count], batch.noisy[0, :count]
        return {"tokens": Figure(draw_speech_tokens(self.tokenizer, {"clean": clean, "perturbed": noisy}))}

    def _losses(self, batch: SpeechBatch, quantized: Quantized, mask: Tensor) -> dict[str, Tensor]:
        states = self.recognizer(quantized.codes, mask)
        losses = {"asr": self._asr(batch, states, mask), **self.quantizer_losses(quantized, mask)}
        if self.teacher is not None:
            made, wanted = states[mask].float(), self._untouched(batch.waves, batch.lengths)[0][mask].float()
            spread = (wanted - wanted.mean(0)).square().mean()
            losses["distillation"] = F.mse_loss(made, wanted) / spread
            exact = wanted.double()
            squares = (made.detach().double() - exact).square().sum(), exact.square().sum()
            self.tally("distillation", _relative_error, *squares, exact.sum(0), exact.new_tensor(len(exact)))
        return losses

    @torch.no_grad()
    def _untouched(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, T, D) of Whisper's own encoder, at the token rate, and which of them are speech."""
        hidden, mask = cast("SpeechEncoder", self.teacher)(*self.tokenizer.features(waves, lengths))
        return self.teacher_norm(hidden), mask

    def _encode(self, batch: SpeechBatch) -> tuple[Quantized, Tensor]:
        """Return what the quantizer makes of a batch, and the mask of tokens (B, T)."""
        tokenizer = self.tokenizer
        mel, frames = tokenizer.features(batch.waves, batch.lengths)
        voting = self._voting()
        if voting is None:
            hidden, mask = tokenizer.encoder(mel, frames, self._places(frames))
            return tokenizer.quantizer(hidden, mask), mask
        perturbed, _ = tokenizer.features(self._shifted(batch.noisy), batch.lengths)
        frames = frames.repeat(2)
        hidden, mask = tokenizer.encoder(torch.cat([mel, perturbed]), frames, self._places(frames))
        clean, noisy = hidden.chunk(2)
        mask = mask[: len(clean)]
        return voting(clean, mask, noisy=noisy), mask

    def _places(self, num_frames: Tensor) -> Tensor | None:
        """Draw the rows of the position table where views begin, (B,), from torch's generator; None if all at 0."""
        if not (self.training and self.random_place):
            return None
        count, slack = len(num_frames), self.tokenizer.encoder.slack(num_frames).cpu()
        moved = torch.rand(count, dtype=torch.float32, device="cpu") < self.random_place
        rows = (torch.rand(count, dtype=torch.float32, device="cpu") * (slack + 1)).long().minimum(slack)
        return (rows * moved).to(num_frames.device)

    def _shifted(self, waves: Tensor) -> Tensor:
        """Return waves (B, samples) of which some begin a little earlier or later, by torch's generator."""
        if not (self.training and self.random_start):
            return waves
        half = self.tokenizer.config.token_samples // 2
        moved = torch.rand(len(waves), dtype=torch.float32, device="cpu") < self.random_start
        shifts = torch.randint(-half, half + 1, (len(waves),), device="cpu") * moved
        padded = F.pad(waves, (half, half))
        return torch.stack(
            [
                row[half - shift : half - shift + waves.shape[1]]
                for row, shift in zip(padded, shifts.tolist(), strict=True)
            ]
        )

    def _voting(self) -> VotingLFQ | None:
        """Return the quantizer if some of its branches are to hear noise now."""
        quantizer = self.tokenizer.quantizer
        if not (self.training and self.noise and isinstance(quantizer, VotingLFQ)):
            return None
        return quantizer if quantizer.config.num_clean < quantizer.config.num_voters else None

    def _asr(self, batch: SpeechBatch, states: Tensor, mask: Tensor) -> Tensor:
        """Return the mean cross-entropy of the text tokens of those items that have a transcript; 0 if none has."""
        text, end = self.recognizer.text, self.recognizer.text.config.end_id
        chosen = [row for row, line in enumerate(batch.texts) if line] or [0]
        prompts = [self._prompt(batch.languages[row]) for row in chosen]
        start = len(prompts[0])
        most = text.config.max_text - start
        spelt = [self.spelling.encode(batch.texts[row])[:most] if batch.texts[row] else [] for row in chosen]
        # The whole graph is there in every step, as processes that share gradients want it.
        length = start + max(map(len, spelt))
        ids = torch.full((len(chosen), length), end)
        targets = torch.full((len(chosen), length), _IGNORED)
        for row, (prompt, line) in enumerate(zip(prompts, spelt, strict=True)):
            ids[row, : start + len(line)] = torch.tensor([*prompt, *line])
            if line:
                targets[row, start - 1 : start + len(line)] = torch.tensor([*line, end])
        rows = torch.tensor(chosen, device=states.device)
        logits = text(ids.to(states.device), states[rows], mask[rows])
        targets = targets.to(states.device).flatten()
        total = F.cross_entropy(logits.flatten(0, 1).float(), targets, ignore_index=_IGNORED, reduction="sum")
        count = (targets != _IGNORED).sum()
        self.tally("asr", ratio, total, count)
        return total / count.clamp(min=1)

    def _prompt(self, language: str) -> list[int]:
        """Return what the transcript of an utterance starts with; the same number of text tokens for all."""
        return self.spelling.prompt(language or self.language)

    @torch.no_grad()
    def _measure(self, batch: SpeechBatch) -> None:
        quantized, mask = self._encode(batch)
        perturbed, _ = self._encode(batch._replace(waves=batch.noisy))
        self._count_changed("changed", quantized.ids, perturbed.ids, mask)
        moved = self._moved(batch)
        self._count_changed("changed_by_place", quantized.ids[:, : moved.shape[1]], moved, mask[:, : moved.shape[1]])
        rows = [row for row, line in enumerate(batch.texts) if line]
        if not self.transcribe or not rows:
            return
        self._count_errors(batch, rows, self.recognizer(quantized.codes, mask)[rows], mask[rows], "")
        if self.trainer.testing and self.teacher is not None:
            # Whisper was trained on whole segments, and goes round in circles without the silence after speech.
            waves = batch.waves[rows]
            whole = F.pad(waves, (0, max(0, self.tokenizer.config.segment_samples - waves.shape[1])))
            lengths = torch.full((len(rows),), whole.shape[1], device=whole.device)
            self._count_errors(batch, rows, *self._untouched(whole, lengths), "_untouched")

    def _moved(self, batch: SpeechBatch) -> Tensor:
        """Return the ids of a batch whose items begin 1 s later, after silence, as far as a segment holds them."""
        config = self.tokenizer.config
        tokens = round(_MOVED_SECONDS * config.sample_rate / config.token_samples)
        later, most = tokens * config.token_samples, config.segment_samples
        waves, lengths = F.pad(batch.waves, (later, 0))[:, :most], (batch.lengths + later).clamp(max=most)
        return self._encode(batch._replace(waves=waves, lengths=lengths))[0].ids[:, tokens:]

    def _count_changed(self, name: str, ids: Tensor, others: Tensor, mask: Tensor) -> None:
        differs = ids != others
        differs = (differs if differs.ndim == 2 else differs.any(2))[mask]
        self.tally(name, ratio, differs.sum(), torch.tensor(differs.numel()))

    def _count_errors(self, batch: SpeechBatch, rows: list[int], states: Tensor, mask: Tensor, suffix: str) -> None:
        """Write transcripts of some rows, and log which percentage of words and characters is wrong."""
        # More than people speak, and little enough to stop a decoder that goes round in circles.
        rate = self.tokenizer.config.sample_rate
        most = [math.ceil(_MOST_TEXT_RATE * int(batch.lengths[row]) / rate) + 8 for row in rows]
        prompts = [self._prompt(batch.languages[row]) for row in rows]
        found = self.recognizer.text.transcribe(states, mask, prompts, max(most))
        said = [self.spelling.decode(ids[:limit]) for ids, limit in zip(found, most, strict=True)]
        wanted = [batch.texts[row] for row in rows]
        for name, count in (("wer", word_edits), ("cer", character_edits)):
            edits, length = count(said, wanted).sum(0)
            self.tally(name + suffix, ratio, 100 * edits, length)


def _relative_error(error: Tensor, squares: Tensor, total: Tensor, count: Tensor) -> Tensor:
    """Return the squared error of vectors in units of their variance: Σ|x - y|², Σ|y|², Σy (D,) and their number."""
    return error / (squares - total.square().sum() / count)
