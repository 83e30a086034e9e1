"""Make one source of the corpus: read its clips in several processes, join them, and write them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from _speech import kokoro, sources, synthesis
from _speech.audio import LONGEST, RATE, Clip, normalise, number, pack, read, resample, write

LISTS: dict[str, Callable[[Path], list[Clip]]] = {
    "tuxpaint": sources.tuxpaint,
    "fillets": sources.fillets,
    "asterisk": sources.asterisk,
    "hedgewars": sources.hedgewars,
    "librivox": sources.librivox,
    "flite": synthesis.flite,
    "espeak": synthesis.espeak,
    "kokoro": kokoro.clips,
}
VOICES: dict[str, Callable[[Path, Clip], tuple[np.ndarray, int]]] = {
    "flite": synthesis.speak,
    "espeak": synthesis.speak,
    "kokoro": kokoro.speak,
}
NOISE_PIECE = 10.0  # seconds
NOISE_PIECES = 4  # of a long file


def make(source: str, root: Path, out: Path, workers: int) -> tuple[list[dict], str]:
    """Write the audio of a source and return its manifest lines, and a remark on what was left out."""
    lines, remark = make_noise(root, out) if source == "noise" else make_speech(source, root, out, workers)
    written = {line["audio_filepath"] for line in lines}
    for path in (out / ("noise" if source == "noise" else f"audio/{source}")).rglob("*.flac*"):
        if str(path.relative_to(out)) not in written:  # of an earlier version of this script, or cut off
            path.unlink()
    return lines, remark


def make_speech(source: str, root: Path, out: Path, workers: int) -> tuple[list[dict], str]:
    """Write the items of one source of speech."""
    clips = LISTS[source](root)
    different = clips if source in VOICES else drop_copies(root, clips)
    with ProcessPoolExecutor(workers) as pool:
        loaded = list(pool.map(partial(load, root), different, chunksize=8))
    kept, counts = [], {"short": 0, "long": 0, "silent": 0}
    for clip, samples in zip(different, loaded, strict=True):
        if samples is None:
            counts["silent"] += 1
        elif len(samples) < clip.min_seconds * RATE:
            counts["short"] += 1
        elif len(samples) > LONGEST * RATE:
            counts["long"] += 1
        else:
            kept.append((clip, samples))
    counts["copies"] = len(clips) - len(different)
    left_out = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
    return pack(kept, out), f"from {len(kept)} clips; left out: {left_out or 'none'}"


def drop_copies(root: Path, clips: list[Clip]) -> list[Clip]:
    """Return clips without those whose file has the same bytes as an earlier one."""
    first: dict[str, Clip] = {}
    for clip in clips:
        first.setdefault(hashlib.sha256((root / clip.path).read_bytes()).hexdigest(), clip)
    return list(first.values())


def load(root: Path, clip: Clip) -> np.ndarray | None:
    """Return a clip's samples at the level and rate of the corpus, or None where all is silent."""
    speak = VOICES.get(clip.source)
    return normalise(resample(*speak(root, clip)) if speak else read(root / clip.path))


def make_noise(root: Path, out: Path) -> tuple[list[dict], str]:
    """Write pieces of at most 10 seconds of the noises, split by file."""
    lines, seen, copies = [], set(), 0
    for source, paths in sources.noises(root).items():
        for path in paths:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest in seen:
                copies += 1
                continue
            seen.add(digest)
            name = str(path.relative_to(root))
            split = "train" if number(f"noise {name}") % 100 < 80 else "test"
            if source in sources.NEVER_TRAINED:
                split = "ood"
            for place, samples in enumerate(pieces(read(path))):
                if (piece := normalise(samples)) is None or len(piece) < RATE // 4:
                    continue
                target = f"noise/{source}/{path.stem.lower()}-{digest[:6]}-{place}.flac"
                write(out / target, piece)
                line = {"audio_filepath": target, "duration": round(len(piece) / RATE, 4), "source": source}
                lines.append({**line, "split": f"noise-{split}"})
    return lines, f"left out: {copies} copies"


def pieces(samples: np.ndarray) -> list[np.ndarray]:
    """Return a short sound whole, and pieces from all over a long one."""
    size = int(NOISE_PIECE * RATE)
    count = min(NOISE_PIECES, max(1, len(samples) // size))
    step = size + max(0, len(samples) - count * size) // count
    return [samples[start : start + size] for start in range((step - size) // 2, count * step, step)]
