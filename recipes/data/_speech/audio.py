"""Read, normalise, pack and write audio: 16 kHz, mono, 16 bits, FLAC."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16_000
LEVEL_DB = -24.0  # RMS of the part that is not silent
PEAK = 0.9
FRAME = RATE // 40  # 25 ms, in which silence is judged
SILENCE_DB = 40.0  # below the loudest frame
GAP = RATE // 4  # silence between joined clips
FADE = RATE // 100  # at both ends, or a clip that does not start at zero would click
SHORTEST, FULL, TARGET, LONGEST = 0.3, 5.0, 8.0, 15.0  # seconds
END_MARKS = ".!?…。;:"


@dataclass(frozen=True)
class Clip:
    """One recording before it is joined with others of its speaker."""

    path: str  # of the file below the folder of all sources; voice and text where it is synthesised
    key: str  # what decides the split
    source: str
    speaker: str
    lang: str
    text: str = ""
    min_seconds: float = SHORTEST
    single: bool = False  # stays alone
    split: str = ""  # only if not decided by the key


def number(key: str) -> int:
    """Return an integer that depends on a string only, the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def split_of(key: str) -> str:
    """Return the split of a key: 90 % train, 3 % val, 7 % test."""
    place = number(f"split {key}") % 1000
    return "train" if place < 900 else "val" if place < 930 else "test"


def read(path: Path) -> np.ndarray:
    """Return a file's samples as one channel at 16 kHz."""
    if path.suffix == ".gsm":
        samples, rate = soundfile.read(
            path, format="RAW", subtype="GSM610", samplerate=8000, channels=1, always_2d=True
        )
    else:
        samples, rate = soundfile.read(path, always_2d=True)
    return resample(samples.mean(axis=1), rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return samples at 16 kHz in double precision."""
    return soxr.resample(samples.astype(np.float64), rate, RATE, quality="VHQ")


def normalise(samples: np.ndarray) -> np.ndarray | None:
    """Bring the RMS of what is not silent to one level and return 16-bit samples, or None where all is silent."""
    samples = samples - samples.mean() if len(samples) else samples
    count = math.ceil(len(samples) / FRAME)
    if not count:
        return None
    frames = np.pad(samples, (0, count * FRAME - len(samples))).reshape(count, FRAME)
    power = (frames**2).mean(axis=1)
    loudest = power.max()
    if loudest < 1e-7:
        return None
    rms = math.sqrt(power[power > loudest * 10 ** (-SILENCE_DB / 10)].mean())
    gain = min(10 ** (LEVEL_DB / 20) / rms, PEAK / np.abs(samples).max())
    fade = min(FADE, len(samples) // 2)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade, endpoint=False)) ** 2
    samples[:fade] *= ramp
    samples[len(samples) - fade :] *= ramp[::-1]
    return np.rint(samples * gain * 32767).astype(np.int16)


def groups(items: list[tuple[Clip, np.ndarray]]) -> list[list[int]]:
    """Return which clips of one speaker and split are joined, as places in the list.

    Clips are taken in an order that a hash shuffles; to one that is short is added the next that fits into the target
    length, or else the shortest, until the item is long enough. The last items may stay short.
    """
    order = sorted(range(len(items)), key=lambda place: number(f"order {items[place][0].path}"))
    seconds = [len(samples) / RATE for _, samples in items]
    result = []
    while order:
        group = [order.pop(0)]
        length = seconds[group[0]]
        while length < FULL and order and not items[group[0]][0].single:
            totals = [length + GAP / RATE + seconds[place] for place in order]
            if min(totals) > LONGEST:
                break
            fits = (n for n, total in enumerate(totals) if total <= TARGET)
            group.append(order.pop(next(fits, totals.index(min(totals)))))
            length += GAP / RATE + seconds[group[-1]]
        result.append(group)
    return result


def pack(items: list[tuple[Clip, np.ndarray]], folder: Path) -> list[dict]:
    """Join clips of the same speaker and split, write them below the folder, and return their manifest lines."""
    speakers = defaultdict(list)
    for clip, samples in items:
        split = clip.split or split_of(clip.key)
        speakers[clip.source, clip.speaker, clip.lang, split, bool(clip.text)].append((clip, samples))
    lines = []
    for (source, speaker, lang, split, texted), members in sorted(speakers.items(), key=lambda entry: entry[0]):
        for place, group in enumerate(groups(members)):
            parts = [members[n][1] for n in group]
            samples = np.concatenate([piece for part in parts for piece in (part, np.zeros(GAP, np.int16))][:-1])
            voice = speaker.removeprefix(f"{source}-").replace("+", "_")
            name = f"audio/{source}/{voice}-{split}{'' if texted else '-untexted'}-{place:04}.flac"
            write(folder / name, samples)
            lines.append(
                {
                    "audio_filepath": name,
                    "duration": round(len(samples) / RATE, 4),
                    "text": " ".join(sentence(members[n][0].text) for n in group) if texted else "",
                    "lang": lang,
                    "speaker": speaker,
                    "source": source,
                    "split": split,
                }
            )
    return lines


def sentence(text: str) -> str:
    """Return a text that ends with a mark."""
    return text if text.rstrip("\"'”’»)")[-1:] in tuple(END_MARKS) else text + "."


def write(path: Path, samples: np.ndarray) -> None:
    """Write 16-bit samples as FLAC, so that a file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    soundfile.write(part, samples, RATE, subtype="PCM_16", format="FLAC")
    part.replace(path)
