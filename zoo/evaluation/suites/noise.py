"""Measures how many tokens of speech change in noise, and how much of a codebook speech uses.

Utterances are taken one after another, each with its disturbed views, and every tokenizer encodes the same views. Their
noise is seeded by the utterance, so that neither order nor number of utterances and models make a difference.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from zoo import config
from zoo.data.audio import change_rate
from zoo.data.manifest import Utterance
from zoo.data.perturbations.noise import NoiseBank, Perturbation, RealNoise, perturbation
from zoo.errors import ConfigError
from zoo.evaluation.adversarial import LOUDEST, NO_GRADIENTS, Adversarial, Vectors, vectors_of
from zoo.evaluation.figures import row_interval
from zoo.evaluation.items import Bootstrap, cache, load_for
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Column, Figure, Report
from zoo.evaluation.suite import DataFolder, environment
from zoo.evaluation.utterances import choose, find, key, read_wave, require_no_gripper, told
from zoo.metrics.rows import Columns, Row, Statistic
from zoo.metrics.tokens.edits import unit_edits
from zoo.process.random import derive_seed
from zoo.strict import is_file
from zoo.tokenizer import Tokenizer

__all__ = ["SPEECH", "NoiseLevels", "SpeechFiles", "SpeechSuite", "measure"]

_COLUMNS = (
    Column("ued_gaussian", "UED %, Gaussian noise", "{:.2f}"),
    Column("ued_pink", "UED %, pink noise", "{:.2f}"),
    Column("ued_brown", "UED %, brown noise", "{:.2f}"),
    Column("ued_bit_crush", "UED %, bit crush", "{:.2f}"),
    Column("ued_real", "UED %, real noise", "{:.2f}"),
    Column("ued_real_ood", "UED %, real noise of other kinds", "{:.2f}"),
    Column("ued_mean", "UED %, mean of the six", "{:.2f}"),
    Column("ued_difference", "the same less the first model's", "{:+.2f}"),
    Column("usage", "codebook used, clean", "{:.3f}", False),
    Column("perplexity", "perplexity, clean", "{:.0f}", False),
    Column("tokens", "clean tokens", "{:.0f}", False),
    Column("tokens_per_second", "tokens/s", "{:.1f}", False),
    Column("bits_per_second", "bit/s", "{:.0f}", False),
)


@dataclass(frozen=True)
class SpeechFiles(DataFolder):
    """Which data a speech suite measures on.

    Args:
        file: Name of the folder in the library's data cache.
        sha256: Of the sound that the published figures are of.
        made_by: The command that makes the folder.
        test: The manifest of what is disturbed.
        noise: The manifest of noise of the kinds that training has.
        noise_ood: The manifest of noise of other kinds.
        sample_rate: Of all files, in Hz.
    """

    test: str = "test.jsonl"
    noise: str = "noise-test.jsonl"
    noise_ood: str = "noise-ood.jsonl"
    sample_rate: int = 16000

    @property
    def needed(self) -> tuple[str, ...]:
        """The manifests."""
        return self.test, *self.banks.values()

    @property
    def banks(self) -> dict[str, str]:
        """The manifests of recorded noise, by the noise."""
        return {"real": self.noise, "real_ood": self.noise_ood}


@dataclass(frozen=True)
class NoiseLevels:
    """How strong each disturbance is: the depth of `bit_crush` in bits, else an SNR in dB."""

    gaussian: float
    pink: float
    brown: float
    bit_crush: float
    real: float
    real_ood: float


@dataclass(frozen=True)
class SpeechSuite:
    """A suite for speech tokenizers.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to measure on.
        noises: What utterances are disturbed by.
        average: What a distance is the mean of: all utterances together, or languages, each of all its utterances. The
            latter is the paper's, whose two languages have much data each.
        models: Registered names or folders.
        max_items: Utterances to measure on, as many of each source as there are; all if None.
        seed: Of the noise.
        bootstrap: How intervals are made.
        adversarial: Also disturb utterances by noise made for each model, which is in no mean; None if not.
    """

    kind: Literal["speech"]
    title: str
    data: SpeechFiles
    noises: NoiseLevels
    average: Literal["utterances", "languages"]
    models: tuple[str, ...]
    max_items: int | None
    seed: int
    bootstrap: Bootstrap
    adversarial: Adversarial | None = None

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 1:
            raise ConfigError(f"max_items must be at least 1, or null for all, got {self.max_items}.")

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> SpeechSuite:
        """Return the suite for speech that somebody points at, called by its name; itself for a folder like its own."""
        require_no_gripper(gripper)
        if self.data.has_form(path):
            return self
        return replace(self, title=f"{self.title}: {path.resolve().name}", data=replace(self.data, sha256=""))


@dataclass
class _Tally:
    """What one tokenizer did.

    Args:
        rows: Of each utterance its `group`, its clean `tokens`, and the edits under each noise, by its name.
        ids: The clean ids of each utterance, (T,) or (T, K).
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)


def measure(suite: SpeechSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run a speech suite. See `zoo.evaluation.run`."""
    tokenizers = {name: load_for(name, "speech") for name in dict.fromkeys(suite.models if models is None else models)}
    is_own = not suite.data.sha256
    found, folder = find(path, suite.data.test)
    chosen = choose(found, folder, suite.max_items)
    views = _Views(suite, folder)
    names = sorted({utterance.language for utterance in chosen}) if suite.average == "languages" else []
    noises = [name for name in asdict(suite.noises) if name not in views.missing]
    tallies: dict[str, _Tally] = {name: _Tally() for name in tokenizers}
    through = {name: vectors_of(tokenizer, suite.data.sample_rate) for name, tokenizer in tokenizers.items()}
    seconds = 0.0
    for number, utterance in enumerate(chosen):
        progress("encoding utterances", number, len(chosen))
        waves = views.of(utterance)
        seconds += waves.shape[1] / suite.data.sample_rate
        group = names.index(utterance.language) if names else 0
        for name, tokenizer in tokenizers.items():
            own = _own_noise(suite, waves[0], through[name], key(utterance, folder))
            heard = torch.cat([waves, *own.values()]) if own else waves
            _add(tallies[name], tokenizer, heard, suite.data.sample_rate, group, [*noises, *own])
    progress("resampling utterances", len(chosen), len(chosen))

    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=_protocol(suite, names, views.missing) + (told(chosen, found) if is_own else ""),
        data={
            "file": path.resolve().name if is_own else suite.data.file,
            "sha256": (digest := views.heard.hexdigest()),
            "is_reference": digest == suite.data.sha256,
            "made_by": "" if is_own else suite.data.made_by,
            "disturbed_sha256": views.given.hexdigest(),
            "utterances": len(chosen),
            "seconds": round(seconds, 3),
            "languages": dict(sorted(Counter(utterance.language for utterance in chosen).items())),
            "sources": dict(sorted(Counter(utterance.source for utterance in chosen).items())),
            "noises": asdict(suite.noises),
            "seed": suite.seed,
            "clamped": views.num_clamped,
            "not_measured": views.missing,
            "adversarial": None if suite.adversarial is None else config.to_dict(suite.adversarial),
        },
        environment=environment(),
    )
    first = next(iter(tallies.values()), None)
    for name, tally in tallies.items():
        beside = None if tally is first else first
        report.models[name] = {
            **_distances(tally, beside, noises, views.missing, suite.bootstrap),
            **_own_distances(tally, suite),
            **_usage(tally, tokenizers[name], seconds),
        }
        report.settings[name] = config.to_dict(tokenizers[name].config)
    return report


class _Views:
    """Makes the disturbed views of utterances.

    Attributes:
        heard: Digest of the utterances and recordings of noise that were read: the same wherever the data is.
        given: Digest of all that was given to the tokenizers. Arithmetic may round otherwise on another processor.
        num_clamped: Views that were louder than a tokenizer takes.
        missing: Why an utterance is not disturbed by a noise, by its name.
    """

    def __init__(self, suite: SpeechSuite, folder: Path) -> None:
        self._suite, self._folder = suite, folder
        self._noises, self.missing = _noises(suite, folder)
        self.heard, self.given = hashlib.sha256(), hashlib.sha256()
        self.num_clamped = 0

    def of(self, utterance: Utterance) -> Tensor:
        """Return an utterance undisturbed and under each noise that there is, (1 + noises, samples)."""
        data = self._suite.data
        clean = read_wave(utterance, data.sample_rate, resample=not data.sha256)
        self.heard.update(clean.numpy().tobytes())
        waves = [clean]
        for number, name in enumerate(asdict(self._suite.noises)):
            if name not in self._noises:
                continue
            noise = self._noises[name]
            seed = derive_seed(self._suite.seed, key(utterance, self._folder), number)
            if isinstance(noise, RealNoise):
                self.heard.update(noise.bank.draw(len(clean), torch.Generator().manual_seed(seed)).numpy().tobytes())
            wave = noise(clean, torch.Generator().manual_seed(seed))
            self.num_clamped += bool((wave.abs() > LOUDEST).any())
            waves.append(wave.clamp(-LOUDEST, LOUDEST))
        stacked = torch.stack(waves)
        self.given.update(stacked.numpy().tobytes())
        return stacked


def _noises(suite: SpeechSuite, folder: Path) -> tuple[Mapping[str, Perturbation], dict[str, str]]:
    """Return noises by name, and why some are not there; recordings lie beside the speech, or in the suite's folder."""
    data, found, missing = suite.data, {}, {}
    for name, level in asdict(suite.noises).items():
        manifest = data.banks.get(name)
        if manifest is None:
            found[name] = perturbation(name, level)
            continue
        at = next((place for place in (folder, cache() / data.file) if is_file(place / manifest)), None)
        if at is None:
            made = f"make them with `{data.made_by}`, or " if data.made_by else ""
            missing[name] = f"there are no recordings of noise: {made}put {manifest} beside the speech"
        else:
            found[name] = perturbation("real", level, NoiseBank.from_manifest(at / manifest, data.sample_rate))
    return found, missing


def _add(
    tally: _Tally, tokenizer: Tokenizer, waves: Tensor, sample_rate: int, group: int, noises: Sequence[str]
) -> None:
    """Encode the views of an utterance, and count what has changed."""
    rate = int(tokenizer.spec.sample_rate or sample_rate)
    tokens = tokenizer.encode(waves if rate == sample_rate else change_rate(waves, sample_rate, rate)).to("cpu")
    clean, *noisy = (ids[:length] for ids, length in zip(tokens.ids, tokens.lengths.tolist(), strict=True))
    edits = unit_edits(noisy, [clean] * len(noisy))[:, 0].tolist()
    tally.rows.append({"group": group, "tokens": clean.numel(), **dict(zip(noises, edits, strict=True))})
    tally.ids.append(clean)


def _distances(
    tally: _Tally, first: _Tally | None, noises: Sequence[str], missing: Mapping[str, str], boot: Bootstrap
) -> dict[str, Figure]:
    """Return the unit edit distances, and the difference of their mean to the first model's if this is another."""

    def figure(rows: Sequence[Row], statistic: Statistic) -> Figure:
        return row_interval(rows, statistic, boot, "no utterance has a token")

    figures = {f"ued_{name}": figure(tally.rows, _ued([name])) for name in noises}
    if missing:  # a mean of fewer noises would pass for the published one
        figures |= {f"ued_{name}": Figure.missing(reason) for name, reason in missing.items()}
        whole = ("ued_mean",) if first is None else ("ued_mean", "ued_difference")
        return figures | dict.fromkeys(whole, Figure.missing(f"it is of all noises, and {_reasons(missing)}"))
    figures["ued_mean"] = figure(tally.rows, _ued(noises))
    if first is not None:
        # Both in one row: a resample has the same utterances for both, and what makes one hard for both cancels.
        both = [
            mine | {f"first_{name}": value for name, value in theirs.items()}
            for mine, theirs in zip(tally.rows, first.rows, strict=True)
        ]
        mine, theirs = _ued(noises), _ued(noises, "first_")
        figures["ued_difference"] = figure(both, lambda columns: mine(columns) - theirs(columns))
    return figures


def _own_noise(suite: SpeechSuite, wave: Tensor, vectors: Vectors | None, number: int) -> dict[str, Tensor]:
    """Return an utterance (1, samples) in each noise that is made for a tokenizer, by its name."""
    if suite.adversarial is None or vectors is None:
        return {}
    seed = derive_seed(suite.seed, number, len(fields(NoiseLevels)))
    found = suite.adversarial.disturbed(wave, vectors, seed)
    return {name: each[None] for name, each in zip(suite.adversarial.names, found, strict=True)}


def _own_distances(tally: _Tally, suite: SpeechSuite) -> dict[str, Figure]:
    """Return the unit edit distances in noise made for a tokenizer."""
    wanted = () if suite.adversarial is None else suite.adversarial.names
    return {
        f"ued_{name}": row_interval(tally.rows, _ued([name]), suite.bootstrap, "no utterance has a token")
        if any(name in row for row in tally.rows)
        else Figure.missing(NO_GRADIENTS)
        for name in wanted
    }


def _ued(noises: Sequence[str], prefix: str = "") -> Statistic:
    """Return the mean over noises of the mean over groups of edits a token, in percent, as `unit_edit_distance`."""

    def of(columns: Columns) -> float:
        groups, tokens = columns[f"{prefix}group"].astype(np.int64), columns[f"{prefix}tokens"]
        totals = np.bincount(groups, tokens)
        seen = totals > 0  # a resample may lack a group
        edits = sum(columns[f"{prefix}{name}"] for name in noises)
        return 100 * float((np.bincount(groups, edits)[seen] / totals[seen]).mean()) / len(noises)

    return of


def _usage(tally: _Tally, tokenizer: Tokenizer, seconds: float) -> dict[str, Figure]:
    """Return what clean speech uses of a codebook, in the mean of all codebooks, and what its tokens cost."""
    ids = torch.cat(tally.ids)
    used, perplexities = [], []
    for book in ids.reshape(len(ids), -1).T:
        counts = book.unique(return_counts=True)[1].double()
        used.append(len(counts) / tokenizer.spec.require_codebook())
        perplexities.append(float(torch.special.entr(counts / counts.sum()).sum().exp()))
    tally_bits = len(ids) * tokenizer.spec.num_codebooks * math.log2(tokenizer.spec.require_codebook())
    return {
        "usage": Figure(float(np.mean(used))),
        "perplexity": Figure(float(np.mean(perplexities))),
        "tokens": Figure(len(ids)),
        "tokens_per_second": Figure(len(ids) / seconds),
        "bits_per_second": Figure(tally_bits / seconds),
    }


def _reasons(missing: Mapping[str, str]) -> str:
    return "; ".join(dict.fromkeys(missing.values()))


def _protocol(suite: SpeechSuite, languages: Sequence[str], missing: Mapping[str, str]) -> str:
    levels = suite.noises
    over = f" of a language, mean of {len(languages)} languages" if languages else ""
    return (
        "UED: edit distance of the ids in noise to the clean ones, in percent of these, over all utterances"
        f"{over}. Gaussian noise at {levels.gaussian:g} dB, pink {levels.pink:g}, brown {levels.brown:g}, real "
        f"{levels.real:g} and {levels.real_ood:g}, amplitudes of {levels.bit_crush:g} bits; intervals of "
        f"{suite.bootstrap.confidence:.0%} from resampling utterances."
        + ("" if suite.adversarial is None else f" {suite.adversarial.protocol.strip()}")
        + (f" Not measured: {', '.join(missing)} ({_reasons(missing)})." if missing else "")
    )


def _more_columns(report: Report) -> Sequence[Column]:
    wanted = report.data.get("adversarial") or {"snr": ()}
    return [
        Column(f"ued_adversarial {snr:g}", f"UED %, adversarial noise at {snr:g} dB", "{:.2f}") for snr in wanted["snr"]
    ]


SPEECH = SuiteKind(SpeechSuite, measure, _COLUMNS, more_columns=_more_columns)
