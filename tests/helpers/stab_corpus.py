"""A tiny corpus whose texts and speakers can be heard, and tokenizers of which is known what the suite must find.

A text is the pitch of a tone, a speaker its loudness. Both survive every disturbance of the suite, so that an oracle
can tell them from a disturbed wave.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
TONES = 350 * 1.7 ** np.arange(5)  # half a step is more than 1.25
LEVELS = (0.02, 0.08, 0.32)
PHONES = np.random.default_rng(0).integers(0, 32, (len(TONES), 40))


def heard(wave):
    """Return text and speaker of a wave."""
    spectrum = np.abs(np.fft.rfft(wave))
    frequencies = np.fft.rfftfreq(len(wave), 1 / RATE)
    powers = [(spectrum[(frequencies > tone / 1.3) & (frequencies < tone * 1.3)] ** 2).max(initial=0) for tone in TONES]
    level = np.sqrt(np.mean(wave**2)) * np.sqrt(2)
    return int(np.argmax(powers)), int(np.abs(np.log(np.array(LEVELS) / (level + 1e-9))).argmin())


def says(codebook_sizes, token_rate=50.0, hop=None, is_deterministic=True, **more):
    """Make a function state what the suite asks of it."""

    def mark(function):
        facts = {"codebook_sizes": codebook_sizes, "token_rate": token_rate, "hop": hop}
        for key, value in {**facts, "is_deterministic": is_deterministic, **more}.items():
            setattr(function, key, value)
        return function

    return mark


@says((64,), hop=320)
def constant(wave, sample_rate):
    return np.full((1, -(-len(wave) // 320)), 7)


_random = np.random.default_rng(1)


@says((1024,), hop=320, is_deterministic=False)
def random(wave, sample_rate):
    return _random.integers(0, 1024, (1, -(-len(wave) // 320)))


@says((32,))
def oracle(wave, sample_rate):
    return PHONES[heard(wave)[0]][None]


@says((96,))
def relabelled(wave, sample_rate):
    text, speaker = heard(wave)
    return PHONES[text][None] + 32 * speaker


@says((64,), hop=320)
def local(wave, sample_rate):
    """Hear every hop alone: whether its first samples are odd thousandths."""
    padded = np.pad(wave, (0, -len(wave) % 320)).reshape(-1, 320)
    return ((1000 * padded[:, :6]).astype(int) % 2 @ (1 << np.arange(6)))[None]


@says((10000,), hop=320)
def counting(wave, sample_rate):
    """Hear nothing but the place."""
    return np.arange(-(-len(wave) // 320))[None]


@says((2,), hop=320)
def whole(wave, sample_rate):
    """Say everywhere whether there is noise anywhere: much above 5 kHz, where tones have nothing."""
    high = np.abs(np.fft.rfft(wave))[np.fft.rfftfreq(len(wave), 1 / RATE) > 5000]
    return np.full((1, -(-len(wave) // 320)), int(np.sqrt(2 * np.sum(high**2)) / len(wave) > 0.02))


@says((64,), token_rate=100.0, hop=320)
def local_pairs(wave, sample_rate):
    return np.repeat(local(wave, sample_rate), 2, axis=1)


@says((32, 64))
def two(wave, sample_rate):
    """Give the oracle's ids in the first codebook, and in the second who speaks."""
    text, speaker = heard(wave)
    return np.stack([PHONES[text], np.full(40, speaker)])


@says((2**31, 2**31))
def large(wave, sample_rate):
    """Have more tuples than a table has places."""
    return two(wave, sample_rate) * 2**25


@says((2**32, 2**32))
def huge(wave, sample_rate):
    """Have more tuples than 63 bits."""
    return two(wave, sample_rate) * 2**26


class Learner:
    """Count what it is given to learn from, and say so in every token."""

    def fit(self, waves, sample_rate, seed):
        assert sample_rate == RATE
        assert all(wave.dtype == np.float32 for wave in waves)

        @says((64,), hop=320, remark="a learner", settings={"waves": len(waves)})
        def learned(wave, sample_rate):
            return np.full((1, -(-len(wave) // 320)), len(waves))

        return learned


learner = Learner()
number = 3


def silent_on_facts(wave, sample_rate):
    return [[0]]


@says((4,))
def flat(wave, sample_rate):
    return [0, 1]


@says((4,))
def outside(wave, sample_rate):
    return [[0, 4]]


@says((4,))
def moody(wave, sample_rate):
    return _random.integers(0, 4, (1, 50))


@says((4,), token_rate=33.0, hop=320)
def off_grid(wave, sample_rate):
    return [[0]]


def write_stab(folder):
    """Write a folder for the suite."""
    folder = Path(folder)
    rng = np.random.default_rng(0)
    lines = []

    def add(name, wave, parts, group, **labels):
        soundfile.write(folder / name, wave, RATE, subtype="PCM_16")
        lines.append({"audio_filepath": name, "parts": parts, "group": group, "source": "made", **labels})

    def tone(text, speaker, seconds):
        t = np.arange(int(seconds * RATE)) / RATE
        return LEVELS[speaker] * np.sin(2 * np.pi * TONES[text] * t + rng.uniform(0, 6))

    for text in range(len(TONES)):
        for speaker in range(len(LEVELS)):
            labels = {"speaker": f"s{speaker}", "lang": "en", "split": "test"}
            parts = ["speaker", "language"] if speaker == 1 else ["speaker"]
            add(f"en-{text}-{speaker}.wav", tone(text, speaker, 0.4 + 0.01 * text), parts, f"set:{text}", **labels)
        labels = {"speaker": "s2", "lang": "de", "split": "test"}
        add(f"de-{text}.wav", tone(text, 2, 0.4), ["language"], f"set:{text}", **labels)
    for number_ in range(3):
        add(f"long-{number_}.wav", tone(number_, number_, 1.6), ["long"], f"long:{number_}", speaker=f"s{number_}")
    for part, count, seconds in (("train", 18, 0.6), ("test", 3, 1.6)):
        for number_ in range(count):
            wave = tone(number_ % 5, number_ % 3, seconds)
            add(f"{part}-{number_}.wav", wave, [part], f"{part}:{number_}")
    for part in ("noise", "babble"):
        for number_ in range(2):
            add(f"{part}-{number_}.wav", 0.1 * rng.standard_normal(RATE), [part], f"{part}:{number_}")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "stab.jsonl").write_text(text, encoding="utf-8")
