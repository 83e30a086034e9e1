"""Cut a film where its picture changes at once, and write each shot as a small file."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from _video.sources import Film

CUT = 35.0  # mean absolute difference of two consecutive frames, of 255, above which there is a cut
LEAST_FRAMES = 17  # of a shot, at the rate that is kept; shorter ones are left out
STILL = 0.15  # mean absolute difference below which nothing moves
GROUP = 6  # neighbouring shots of a film show one scene, as a rule, and are in one split
TEST_SHARE, VAL_SHARE = 0.15, 0.10  # of the groups


def make(root: Path, out: Path, film: Film, short_side: int) -> tuple[list[dict], dict[str, int]]:
    """Write the shots of a film; return their lines of a manifest, and how many were left out, why."""
    lines, left_out = [], {"too short": 0, "still": 0}
    (out / film.source).mkdir(parents=True, exist_ok=True)
    for number, (first, frames, rate) in enumerate(shots(film.find(root), short_side)):
        kept = frames[:: film.every]
        if len(kept) < LEAST_FRAMES:
            left_out["too short"] += 1
            continue
        if motion(kept) < STILL:
            left_out["still"] += 1
            continue
        target = out / film.source / f"{number:03d}.mov"
        write(target, kept, rate / film.every)
        lines.append(
            {
                "video_filepath": str(target.relative_to(out)),
                "duration": round(float(len(kept) * film.every / rate), 6),
                "num_frames": len(kept),
                "frame_rate": round(float(rate / film.every), 6),
                "width": kept[0].shape[1],
                "height": kept[0].shape[0],
                "source": film.source,
                "shot": number,
                "begins": round(float(first / rate), 3),
                "package": film.package,
                "licence": film.licence,
                "credit": film.credit,
            }
        )
    return lines, left_out


def shots(path: Path, short_side: int) -> Iterator[tuple[int, list[np.ndarray], Fraction]]:
    """Yield number of the first frame, frames (H, W, 3) uint8 and frames a second of each shot of a file."""
    shot: list[np.ndarray] = []
    first = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = Fraction(stream.average_rate).limit_denominator(1001)
        scale = short_side / min(stream.width, stream.height)
        width, height = (2 * round(side * scale / 2) for side in (stream.width, stream.height))
        for number, frame in enumerate(container.decode(stream)):
            small = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
            if shot and np.abs(small.astype(np.int16) - shot[-1]).mean() > CUT:
                yield first, shot, rate
                shot, first = [], number
            shot.append(small)
    yield first, shot, rate


def motion(frames: list[np.ndarray]) -> float:
    """Return the mean absolute difference of consecutive frames, of 255."""
    return float(np.mean([np.abs(a.astype(np.int16) - b).mean() for a, b in itertools.pairwise(frames)]))


def write(path: Path, frames: list[np.ndarray], rate: Fraction) -> None:
    """Write frames as they are: a training step reads a clip of 16 frames in 5 ms, of H.264 it would take 40."""
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mov") as container:
        stream = container.add_stream("rawvideo", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    part.replace(path)


def split(film: Film, lines: list[dict]) -> list[str]:
    """Return the split of each shot of a film."""
    if film.splits is not None:
        return [film.splits[place % len(film.splits)] for place in range(len(lines))]
    groups = sorted({line["shot"] // GROUP for line in lines}, key=lambda group: _shuffled(film.source, group))
    test, val = round(TEST_SHARE * len(groups)), round(VAL_SHARE * len(groups))
    of = {group: "test" if n < test else "val" if n < test + val else "train" for n, group in enumerate(groups)}
    return [of[line["shot"] // GROUP] for line in lines]


def _shuffled(source: str, group: int) -> str:
    return hashlib.sha256(f"video {source} {group}".encode()).hexdigest()
