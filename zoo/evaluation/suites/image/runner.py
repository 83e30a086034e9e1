"""Runs a suite of images: every system makes every picture, and every judge looks at it.

A picture is a unit of the bootstrap. Figures of a group of pictures have its name after theirs, those of the first
tokens of an ordered tokenizer their number.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConfigError, InputError
from zoo.evaluation.items import balanced
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Figure, Report
from zoo.evaluation.suite import environment
from zoo.evaluation.suites.image.codecs import CODECS, Codec
from zoo.evaluation.suites.image.columns import COLUMNS, more_columns
from zoo.evaluation.suites.image.config import ImageSuite
from zoo.evaluation.suites.image.gallery import Gallery
from zoo.evaluation.suites.image.judges import OF_FEATURES, Judged, Judges
from zoo.evaluation.suites.image.page import write_page
from zoo.evaluation.suites.image.photos import photos_in
from zoo.evaluation.suites.image.systems import Made, OfTokenizer, Peer, RoundTrip, System, systems
from zoo.evaluation.suites.image.tally import Quality, Tally
from zoo.metrics.image import MAX_PSNR

__all__ = ["IMAGE", "Run", "measure", "size_of", "tell"]

_ANY_SIZE = 256


def measure(suite: ImageSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run a suite of images. See `zoo.evaluation.run`; models may also be `module:function`."""
    progress("reading models", 0, 1)
    makers = systems(suite, models)
    size = size_of(suite, makers)
    is_own = not suite.data.sha256
    found = photos_in(path, suite.data.test)
    photos = balanced(found, lambda photo: photo.source, lambda photo: photo.key, suite.max_items)
    judges = Judges(suite, size)
    run = Run(suite, makers, judges, Gallery(photos, suite.num_examples))
    run.prepare(photos[0].read(photos[0].content(), size)[None])

    digest = hashlib.sha256()
    for start in range(0, len(photos), suite.batch_size):
        batch = photos[start : start + suite.batch_size]
        contents = [photo.content() for photo in batch]
        for content in contents:
            digest.update(hashlib.sha256(content).digest())
        originals = torch.stack([photo.read(content, size) for photo, content in zip(batch, contents, strict=True)])
        run.batch(originals, start, partial(tell, progress, start, len(photos)))
    progress("resampling pictures", len(photos), len(photos))

    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=_protocol(suite, judges, size, len(photos), len(found)),
        data={
            "file": path.resolve().name if is_own else suite.data.file,
            "sha256": digest.hexdigest(),
            "is_reference": digest.hexdigest() == suite.data.sha256,
            "made_by": "" if is_own else suite.data.made_by,
            "size": list(size),
            "pictures": len(photos),
            "sources": dict(sorted(Counter(photo.source for photo in photos).items())),
            "groups": {group.name: list(group.sources) for group in suite.groups},
            "prefixes": {name: list(tally.prefixes) for name, tally in run.tallies.items() if tally.prefixes},
            "networks": judges.networks,
            "not_measured": judges.missing,
            "suite": {"seed": suite.seed, "decode": suite.decode, "bootstrap": asdict(suite.bootstrap)},
        },
        environment=environment(),
        pictures=run.gallery.pictures({name: tally.quality.rows for name, tally in run.tallies.items()}),
    )
    sources = [photo.source for photo in photos]
    measured: list[System | Peer] = [*makers, *run.peers]
    for system in measured:
        spec = system.tokenizer.spec if isinstance(system, RoundTrip) else None
        tally = run.tallies[system.name]
        if reason := run.failed.get(system.name):
            report.models[system.name] = {name: Figure.missing(reason) for name in suite.measures}
        else:
            report.models[system.name] = tally.figures(
                judges, suite.bootstrap, suite.groups, sources, size[0] * size[1], spec
            )
        report.settings[system.name] = system.settings
    return report


@dataclass
class Run:
    """Everything that a batch passes through.

    Args:
        suite: What to measure.
        makers: What makes pictures.
        judges: What looks at them.
        gallery: What is kept for the page.
        codecs: By name in the suite.
        peers: Codecs, as they are compared with.
        tallies: What was counted, by the system's name.
        failed: Why a codec has no figures, by its name.
    """

    suite: Any
    makers: Sequence[System]
    judges: Judges
    gallery: Gallery
    codecs: Mapping[str, Codec] = field(default_factory=lambda: CODECS)
    peers: list[Peer] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def prepare(self, picture: Tensor) -> None:
        """Call everything once, untimed, since weights may be read then; find out which codecs are compared with."""
        by_bits: dict[int | str, list[str]] = {}
        for system in self.makers:
            made = system(picture)
            if isinstance(system, RoundTrip):
                system.begin()
            self.tallies[system.name] = Tally()
            if "bits" in made.facts[0]:
                is_fixed = isinstance(system, OfTokenizer) and system.tokenizer.spec.is_fixed_length
                fixed = made.facts[0]["bits"] if is_fixed else None
                by_bits.setdefault(system.name if fixed is None else math.floor(fixed), []).append(system.name)
            if made.tokens is not None and isinstance(system, RoundTrip) and system.tokenizer.spec.is_ordered:
                lengths = system.lengths(made.tokens.ids.shape[1], self.suite.prefixes)
                self.tallies[system.name].prefixes = {length: Quality() for length in lengths}
                system.begin_prefixes(lengths)
        for bits, names in by_bits.items():
            for codec in self.suite.peers:
                peer = Peer(self.codecs[codec], names, None if isinstance(bits, str) else bits)
                self.peers.append(peer)
                self.tallies[peer.name] = Tally()

    def batch(self, originals: Tensor, start: int, told: Callable[[str], None]) -> None:
        """Let everything make a batch of pictures or clips, and judge what came out."""
        judged = self.judges.against(originals.to(self.suite.device))
        self.gallery.add("original", start, originals)
        bits: dict[str, list[float]] = {}
        for system in self.makers:
            told(f"measuring {system.name}")
            tally = self.tallies[system.name]
            made = _with_memory(system, originals, tally)
            self._add(system.name, made, judged, start)
            if "bits" in made.facts[0]:
                bits[system.name] = [row["bits"] for row in made.facts]
            if made.tokens is not None and isinstance(system, RoundTrip):
                tally.add_tokens(made.tokens)
                self._prefixes(system, made, judged, start)
        for peer in self.peers:
            if peer.name in self.failed:
                continue
            told(f"measuring {peer.name}")
            try:
                self._add(peer.name, peer.make(originals, bits[peer.of[0]]), judged, start)
            except InputError as error:
                self.failed[peer.name] = str(error)

    def _add(self, name: str, made: Made, judged: Judged, start: int) -> None:
        tally = self.tallies[name]
        tally.quality.add(*judged(made.pictures))
        tally.facts += made.facts
        for what, seconds in made.seconds.items():
            tally.seconds[what] += seconds
        self.gallery.add(name, start, made.pictures)

    def _prefixes(self, system: RoundTrip, made: Made, judged: Judged, start: int) -> None:
        """Decode the first tokens of a batch."""
        most = self.suite.max_prefix_items
        count = len(made.pictures) if most is None else max(0, min(len(made.pictures), most - start))
        if made.tokens is None or not count:
            return
        size = (made.pictures.shape[-2], made.pictures.shape[-1])
        for length, quality in self.tallies[system.name].prefixes.items():
            if length < made.tokens.ids.shape[1]:
                pictures = system.decode_prefix(made.tokens[:count, :length], length, size)
            else:
                pictures = made.pictures[:count]
            quality.add(*judged.first(count)(pictures))
            self.gallery.add_prefix(system.name, length, start, pictures)


def tell(progress: Progress, done: int, total: int, text: str) -> None:
    """Tell what is being done, and how far it is."""
    progress(text, done, total)


def size_of(suite: ImageSuite, makers: Sequence[System]) -> tuple[int, int]:
    """Return height and width of the pictures.

    Raises:
        ConfigError: Models take several, and the suite says none.
    """
    if suite.size is not None:
        return suite.size, suite.size
    sizes = {system.size: system.name for system in makers if system.size is not None}
    if len(sizes) > 1:
        told = ", ".join(f"{name} takes {height} × {width}" for (height, width), name in sizes.items())
        raise ConfigError(
            f"{told}: measure them apart, or give the suite a size, which pictures are scaled from for each model, and "
            "back to."
        )
    return next(iter(sizes), (_ANY_SIZE, _ANY_SIZE))


def _with_memory(system: System, originals: Tensor, tally: Tally) -> Made:
    """Let a system make pictures; see how much of an accelerator's memory that took beside all weights."""
    if not torch.cuda.is_available():
        return system(originals)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    made = system(originals)
    if (peak := torch.cuda.max_memory_allocated() - before) > 0:
        tally.peak_memory = max(peak, tally.peak_memory or 0)
    return made


def _protocol(suite: ImageSuite, judges: Judges, size: tuple[int, int], count: int, total: int) -> str:
    boot = suite.bootstrap
    text = (
        f"Means over {count} pictures, scaled to cover {size[0]} × {size[1]} and cut in the middle; intervals of "
        f"{boot.confidence:.0%} from resampling pictures. One that equals its original has a PSNR of {MAX_PSNR:g} dB."
    )
    if "st_lpips" in judges.networks:
        facts = judges.networks["st_lpips"]
        text += f" ST-LPIPS, which is not LPIPS, has weights of SHA-256 {facts['sha256'][:16]}…."
    if facts := next((judges.networks[name] for name in OF_FEATURES if name in judges.networks), {}):
        text += (
            f" Feature distance: the mean square distance of a picture's features from its original's; the Fréchet "
            "distance is of all pictures' features as Gaussians, depends on the number of pictures, and has no "
            f"interval, as resampling overestimates it; features are {', '.join(facts['layers'])} of {facts['name']}, "
            f"SHA-256 {facts['sha256'][:16]}…: neither is FID or rFID."
        )
    if suite.peers:
        text += (
            " JPEG and WebP have at most the bits of the tokens, picture by picture, each at the size and quality with "
            "the best PSNR; of JPEG the tables, of both the containers are not counted as bits."
        )
    text += f" Seconds are of batches of {suite.batch_size} on {suite.device}, {torch.get_num_threads()} thread(s)."
    if suite.max_prefix_items is not None and suite.max_prefix_items < count:
        text += f" First tokens: of {suite.max_prefix_items} pictures."
    if count < total:
        text += f" {count} of the data's {total} pictures were measured, since the suite says max_items."
    reasons = {why: [name for name, other in judges.missing.items() if other == why] for why in judges.missing.values()}
    if reasons:
        told = "; ".join(f"{', '.join(names)} ({why.rstrip('.')})" for why, names in reasons.items())
        text += f" Not measured: {told}."
    return text


IMAGE = SuiteKind(ImageSuite, measure, COLUMNS, page=write_page, more_columns=more_columns)
