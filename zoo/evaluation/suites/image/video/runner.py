"""Runs a suite of videos: every system makes every clip, and every judge looks at it.

A clip is a unit of the bootstrap. Figures of a group of clips have its name after theirs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from zoo.evaluation.items import balanced
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Figure, Report
from zoo.evaluation.suite import environment
from zoo.evaluation.suites.image.columns import more_columns
from zoo.evaluation.suites.image.judges import OF_FEATURES
from zoo.evaluation.suites.image.runner import Run, size_of, tell
from zoo.evaluation.suites.image.systems import Peer, RoundTrip, System, systems
from zoo.evaluation.suites.image.video.clips import clips_in
from zoo.evaluation.suites.image.video.codecs import CODECS
from zoo.evaluation.suites.image.video.columns import COLUMNS
from zoo.evaluation.suites.image.video.config import VideoSuite
from zoo.evaluation.suites.image.video.judges import ClipJudges
from zoo.evaluation.suites.image.video.page import ClipGallery, write_page
from zoo.evaluation.suites.image.video.systems import frame_systems
from zoo.metrics.image import MAX_PSNR

__all__ = ["VIDEO", "measure"]


def measure(suite: VideoSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run a suite of videos. See `zoo.evaluation.run`; models may also be `module:function`."""
    progress("reading models", 0, 1)
    own = systems(suite, models)
    size = size_of(suite, own)
    makers: list[System] = [*own, *frame_systems(suite)]
    is_own = not suite.data.sha256
    found, too_short = clips_in(path, suite.data.test, suite.num_frames, suite.frame_rate, suite.stride)
    clips = balanced(found, lambda clip: clip.source, lambda clip: clip.key, suite.max_items)
    judges = ClipJudges(suite, size)
    run = Run(suite, makers, judges, ClipGallery([*clips], suite.num_examples, suite.frame_rate), CODECS)
    run.prepare(clips[0].read(suite.num_frames, suite.frame_rate, size)[None])

    digest = hashlib.sha256()
    for start in range(0, len(clips), suite.batch_size):
        batch = clips[start : start + suite.batch_size]
        for clip in batch:
            digest.update(clip.digest())
        originals = torch.stack([clip.read(suite.num_frames, suite.frame_rate, size) for clip in batch])
        run.batch(originals, start, partial(tell, progress, start, len(clips)))
    progress("resampling clips", len(clips), len(clips))

    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=_protocol(suite, judges, size, len(clips), len(found), too_short),
        data={
            "file": path.resolve().name if is_own else suite.data.file,
            "sha256": digest.hexdigest(),
            "is_reference": digest.hexdigest() == suite.data.sha256,
            "made_by": "" if is_own else suite.data.made_by,
            "size": list(size),
            "num_frames": suite.num_frames,
            "frame_rate": suite.frame_rate,
            "clips": len(clips),
            "sources": dict(sorted(Counter(clip.source for clip in clips).items())),
            "groups": {group.name: list(group.sources) for group in suite.groups},
            "prefixes": {name: list(tally.prefixes) for name, tally in run.tallies.items() if tally.prefixes},
            "networks": judges.networks,
            "not_measured": judges.missing,
            "suite": {"seed": suite.seed, "decode": suite.decode, "bootstrap": asdict(suite.bootstrap)},
        },
        environment=environment(),
        pictures=run.gallery.pictures({name: tally.quality.rows for name, tally in run.tallies.items()}),
    )
    sources = [clip.source for clip in clips]
    pixels = suite.num_frames * size[0] * size[1]
    seconds = sum(suite.num_frames / clip.rate for clip in clips) / len(clips)
    measured: list[System | Peer] = [*makers, *run.peers]
    for system in measured:
        report.settings[system.name] = system.settings
        if reason := run.failed.get(system.name):
            report.models[system.name] = {name: Figure.missing(reason) for name in suite.measures}
            continue
        spec = system.tokenizer.spec if isinstance(system, RoundTrip) else None
        figures = run.tallies[system.name].figures(judges, suite.bootstrap, suite.groups, sources, pixels, spec)
        if "bits" in figures:
            figures["bits_per_second"] = Figure(figures["bits"].estimate / seconds)
        report.models[system.name] = figures
    return report


def _protocol(
    suite: VideoSuite, judges: ClipJudges, size: tuple[int, int], count: int, total: int, too_short: int
) -> str:
    boot = suite.bootstrap
    rate = "the frame rates of the files" if suite.frame_rate is None else f"{suite.frame_rate:g} frames a second"
    text = (
        f"Means over {count} clips of {suite.num_frames} frames at {rate}, scaled to cover {size[0]} × {size[1]} and "
        f"cut in the middle; intervals of {boot.confidence:.0%} from resampling clips. PSNR, SSIM and ST-LPIPS are "
        "means over frames. Flicker is the mean absolute error of the differences of consecutive frames, over the mean "
        f"absolute difference itself. A frame that equals its original has a PSNR of {MAX_PSNR:g} dB."
    )
    if "st_lpips" in judges.networks:
        facts = judges.networks["st_lpips"]
        text += f" ST-LPIPS, which is not LPIPS, has weights of SHA-256 {facts['sha256'][:16]}…."
    if facts := next((judges.networks[name] for name in OF_FEATURES if name in judges.networks), {}):
        text += (
            f" Distances of features are those of {facts['name']}, {', '.join(facts['layers'])}, of single frames, "
            f"averaged over a clip, SHA-256 {facts['sha256'][:16]}…: neither is FVD or rFVD, whose network sees motion."
        )
    if suite.peers:
        text += (
            " H.264 (x264) has at most the bits of the tokens, clip by clip, each at the size and quality with the "
            "best PSNR; start codes, and what x264 writes of itself, are not counted as bits."
        )
    text += f" Seconds are of batches of {suite.batch_size} on {suite.device}, {torch.get_num_threads()} thread(s)."
    if too_short:
        text += f" {too_short} shots are shorter than a clip, and have none."
    if count < total:
        text += f" {count} of the data's {total} clips were measured, since the suite says max_items."
    reasons = {why: [name for name, other in judges.missing.items() if other == why] for why in judges.missing.values()}
    if reasons:
        told = "; ".join(f"{', '.join(names)} ({why.rstrip('.')})" for why, names in reasons.items())
        text += f" Not measured: {told}."
    return text


VIDEO = SuiteKind(VideoSuite, measure, COLUMNS, page=write_page, more_columns=more_columns)
