"""Stretches of long recordings, as manifests of NVIDIA NeMo select them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from zoo.data.audio import read_audio
from zoo.data.manifest import Utterance, read_manifest
from zoo.data.perturbations.noise import NoiseBank
from zoo.data.speech import SpeechData
from zoo.errors import InputError
from zoo.evaluation.suites.stab.config import StabFiles
from zoo.evaluation.suites.stab.corpus import read_corpus
from zoo.evaluation.utterances import choose, key

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recording of three parts of 3 s, of 0.1, 0.2 and 0.3."""
    path = tmp_path_factory.mktemp("long")
    for suffix in ("wav", "flac", "mp3"):
        soundfile.write(path / f"long.{suffix}", np.repeat([0.1, 0.2, 0.3], 3 * RATE), RATE)
    return path


def manifest(folder, *lines, name="train.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps({"audio_filepath": "long.wav"} | line) + "\n" for line in lines))
    return path


def items(folder, *lines):
    manifest(folder, *lines)
    return SpeechData(folder=str(folder), noise=False, batch_size=1).dataset("train")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_b1_offset_and_duration_select_a_stretch(folder, suffix):
    lines = [
        {"audio_filepath": f"long.{suffix}", "offset": 3.0 * part, "duration": 3.0, "text": f"part {part}"}
        for part in range(3)
    ]
    found = items(folder, *lines)
    for part in range(3):
        wave, _, text, *_ = found[part]
        assert text == f"part {part}"
        assert wave.tolist() == pytest.approx([0.1 * (part + 1)] * 3 * RATE, abs=1e-4)
        assert torch.equal(found.wave(part), wave)


def test_b1_stretches_of_a_lossy_file_are_those_of_the_whole(folder):
    lines = [{"audio_filepath": "long.mp3", "offset": at, "duration": 0.5} for at in (0.0, 2.75, 8.5)]
    whole = read_audio(folder / "long.mp3")[0][0]
    for (wave, *_), line in zip(items(folder, *lines), lines, strict=False):
        start = int(line["offset"] * RATE)
        assert torch.equal(wave, whole[start : start + RATE // 2])


@pytest.mark.parametrize(
    ("line", "first", "count"),
    [
        ({}, 0.1, 9 * RATE),
        ({"duration": None, "offset": None}, 0.1, 9 * RATE),
        ({"duration": 9.0}, 0.1, 9 * RATE),
        ({"duration": 8.996}, 0.1, 9 * RATE),  # rounded down, and up
        ({"duration": 9.004}, 0.1, 9 * RATE),
        ({"duration": 4}, 0.1, 4 * RATE),
        ({"offset": 3}, 0.2, 6 * RATE),
        ({"offset": 6, "duration": 3.004}, 0.3, 3 * RATE),
        ({"offset": 6, "duration": 2.996}, 0.3, round(2.996 * RATE)),
        ({"offset": 5.99999, "duration": 1}, 0.3, RATE),
    ],
)
def test_b1_what_is_left_out_and_what_is_rounded(folder, line, first, count):
    wave = items(folder, line)[0][0]
    assert len(wave) == count
    assert float(wave[0]) == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize("line", [{"offset": 9.0}, {"offset": 10}, {"offset": 8, "duration": 2}, {"duration": 9.5}])
def test_b1_a_stretch_that_leaves_the_file(folder, line):
    found = items(folder, {"duration": 1}, line)
    with pytest.raises(
        InputError, match=r"train\.jsonl', line 2: .*long\.wav.*not within the sound, which is 9 s long"
    ):
        found[1]


def test_b1_evaluation_hears_the_stretch(folder):
    utterances = read_manifest(manifest(folder, {"offset": 3, "duration": 1}, {"offset": 6, "duration": 1}))
    assert [float(u.read_mono(RATE)[0]) for u in utterances] == pytest.approx([0.2, 0.3], abs=1e-4)
    # One file, and yet two utterances, with noise and an order of their own; a whole file's are what they were.
    assert len({key(utterance, folder) for utterance in utterances}) == 2
    assert key(Utterance(folder / "long.wav", 9.0), folder) == key(Utterance(folder / "long.wav"), folder)
    assert choose(utterances, folder, None) == choose(utterances[::-1], folder, None)
    assert [u.seconds() for u in read_manifest(manifest(folder, {}, {"offset": 2}, {"duration": 4}))] == [9, 7, 4]


def test_b1_a_corpus_of_stretches(folder):
    lines = [{"offset": 3.0 * part, "duration": 3.0, "parts": ["long"], "group": "g"} for part in range(3)]
    files = StabFiles("x", "0" * 64, "nothing", manifest=manifest(folder, *lines, name="stab.jsonl").name)
    waves = [recording.wave for recording in read_corpus(files, folder).recordings]
    assert [len(wave) for wave in waves] == [3 * RATE] * 3
    assert [float(wave[0]) for wave in waves] == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)


@pytest.mark.parametrize("length", [100, 16000, 60000])
def test_b1_noise_of_a_stretch(folder, length):
    bank = NoiseBank.from_manifest(manifest(folder, {"offset": 3, "duration": 3}, name="noise.jsonl"))
    for seed in range(5):
        drawn = bank.draw(length, torch.Generator().manual_seed(seed))
        assert drawn.tolist() == pytest.approx([0.2] * length, abs=1e-4)
    with pytest.raises(InputError, match=r"noise\.jsonl', line 1: .* not within the sound"):
        NoiseBank.from_manifest(manifest(folder, {"offset": 8, "duration": 3}, name="noise.jsonl")).draw(10)


@pytest.mark.parametrize(
    "line",
    [
        {"offset": -1},
        {"offset": "3"},
        {"offset": True},
        {"offset": float("inf")},
        {"offset": 10**400},
        {"duration": 10**400},
        {"duration": 0},
        {"duration": -1.0},
        {"duration": [1]},
        {"audio_filepath": ""},
        {"audio_filepath": None},
        {"audio_filepath": 7},
    ],
)
def test_unusable_values_name_the_line(folder, line):
    path = manifest(folder, {}, line)
    with pytest.raises(InputError, match=r"line 2.*(offset|duration|audio_filepath)"):
        read_manifest(path)
    with pytest.raises(InputError, match="line 2"):
        NoiseBank.from_manifest(path)
