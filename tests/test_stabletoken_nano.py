"""The StableToken that ships, on a real sentence."""

from pathlib import Path

import pytest
import torch

import zoo
from zoo.data.media import read_audio
from zoo.errors import TokenError
from zoo.metrics.perturbations import perturbation

SAMPLE = Path(__file__).parents[1] / "zoo/data/samples/austen.flac"


@pytest.fixture(scope="module")
def tokenizer():
    return zoo.load("stabletoken")


@pytest.fixture(scope="module")
def wave():
    return read_audio(SAMPLE)[0][0]


def test_it_ships_small(tokenizer):
    entry = zoo.registry.model("stabletoken")
    assert sum(path.stat().st_size for path in entry.folder.iterdir()) < 10_000_000
    assert tokenizer.num_parameters == entry.num_parameters
    assert tokenizer.spec.token_rate == 25
    assert tokenizer.spec.codebook_size == 8192


def test_a_file_becomes_tokens(tokenizer, wave):
    tokens = tokenizer.encode(SAMPLE)
    assert tokens.lengths.tolist() == [133]
    # A trained encoder says many things, and a pause is one thing.
    assert tokens.ids.unique().numel() > 60
    assert tokens.equal(tokenizer.encode(wave))
    padded = torch.randn(3, 100_000).clamp(-1, 1)
    padded[1, : len(wave)] = wave
    batch = tokenizer.encode(padded, torch.tensor([90_000, len(wave), 30_000]))
    assert batch[1].tolist() == tokens.tolist()


def test_noise_changes_few_of_them(tokenizer, wave):
    clean = tokenizer.encode(wave).ids
    for kind, intensity in (("gaussian", 25.0), ("pink", 22.0), ("brown", 16.0), ("bit_crush", 10.0)):
        noisy = perturbation(kind, intensity)(wave, torch.Generator().manual_seed(0))
        changed = (tokenizer.encode(noisy).ids != clean).float().mean().item()
        assert 0 < changed < 0.5, kind


def test_other_speech_is_other_tokens(tokenizer, wave):
    ids = tokenizer.encode(wave).ids
    assert (ids != tokenizer.encode(wave.flip(0)).ids).float().mean() > 0.9


def test_there_is_no_way_back_yet(tokenizer, wave):
    with pytest.raises(TokenError, match="no waveform decoder"):
        tokenizer.decode(tokenizer.encode(wave))
