"""Speak English sentences with flite and espeak-ng."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import numpy as np

from _speech.audio import Clip, number
from _speech.fetch import environment
from _speech.sources import clean, fillets_english, fold, tuxpaint, tuxpaint_english

FLITE = ("awb", "kal16", "rms", "slt")
ESPEAK = (
    "en-gb+f4",
    "en-gb+m3",
    "en-gb-scotland+m2",
    "en-gb-x-gbclan+f5",
    "en-gb-x-gbcwmd+m7",
    "en-gb-x-rp+f3",
    "en-029+m4",
    "en-us",
    "en-us+f2",
    "en-us-nyc+m1",
)
PLAIN = str.maketrans({"‘": "'", "’": "'", "”": '"', "“": '"', "…": "...", "–": "-", "—": ", "})
UNSPEAKABLE = re.compile(r"""[^A-Za-z '",.!?:;()-]""")  # numbers and signs, which voices read in different ways


@functools.cache
def sentences(root: Path) -> list[tuple[str, str]]:
    """Return different English sentences of the game and the captions, with the keys that they have there."""
    found: dict[str, tuple[str, str]] = {}
    for text, key in (*fillets_english(root), *tuxpaint_english(root, tuxpaint(root))):
        text = clean(text.translate(PLAIN))
        if len(re.findall("[A-Za-z]", text)) > 1 and not UNSPEAKABLE.search(text):
            found.setdefault(fold(text), (text, key))
    return list(found.values())


def flite(root: Path) -> list[Clip]:
    """Return each sentence in two of flite's voices."""
    clips = []
    for text, key in sentences(root):
        first = number(f"flite {text}") % 12
        pair = FLITE[first % 4], FLITE[(first % 4 + 1 + first // 4) % 4]
        clips += [Clip(f"flite {voice} {text}", key, "flite", f"flite-{voice}", "en", text) for voice in pair]
    return clips


def espeak(root: Path) -> list[Clip]:
    """Return each sentence in one of espeak-ng's English voices."""
    voices = [(ESPEAK[number(f"espeak {text}") % len(ESPEAK)], text, key) for text, key in sentences(root)]
    return [Clip(f"espeak {voice} {text}", key, "espeak", f"espeak-{voice}", "en", text) for voice, text, key in voices]


def speak(root: Path, clip: Clip) -> tuple[np.ndarray, int]:
    """Return the samples of a clip of flite or espeak-ng, and their rate."""
    voice = clip.path.split(" ", 2)[1]
    if clip.source == "flite":
        command = ["flite", "-voice", voice, "-t", clip.text, "-o", "/dev/stdout"]
    else:
        command = ["espeak-ng", "-v", voice, "--stdout", "--", clip.text]
    command[0] = str(root / "usr/bin" / command[0])
    done = subprocess.run(command, env=environment(root), capture_output=True, check=False)
    if done.returncode or len(done.stdout) < 100:
        raise RuntimeError(f"{Path(command[0]).name} failed on {clip.text!r}: {done.stderr.decode(errors='replace')}")
    # Into a pipe, the length in the header is not known: take what follows it.
    rate = int.from_bytes(done.stdout[24:28], "little")
    start = done.stdout.index(b"data") + 8
    samples = np.frombuffer(done.stdout[start : len(done.stdout) - (len(done.stdout) - start) % 2], "<i2")
    return samples / 32768, rate
