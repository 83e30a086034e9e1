"""The StableToken that ships, on a real sentence."""

from pathlib import Path

import pytest
import torch

import zoo
from zoo.data.media import read_audio
from zoo.data.perturbations.noise import perturbation

SAMPLE = Path(__file__).parents[3] / "zoo/data/samples/austen.flac"


@pytest.fixture(scope="module")
def tokenizer():
    return zoo.load("stabletoken")


@pytest.fixture(scope="module")
def wave():
    return read_audio(SAMPLE)[0][0]


def test_it_ships_small(tokenizer):
    entry = zoo.registry.model("stabletoken")
    assert all(path.stat().st_size < 10_000_000 for path in entry.folder.iterdir())
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
    clean, changed = tokenizer.encode(wave).ids, {}
    for kind, intensity in (("gaussian", 25.0), ("pink", 22.0), ("brown", 16.0), ("bit_crush", 10.0)):
        noisy = perturbation(kind, intensity)(wave, torch.Generator().manual_seed(0))
        changed[kind] = (tokenizer.encode(noisy).ids != clean).float().mean().item()
    assert min(changed.values()) > 0
    assert max(changed.values()) < 0.6, changed
    assert sum(changed.values()) / 4 < 0.4, changed


@pytest.mark.parametrize(("tokens", "most"), [(1, 0.1), (25, 0.1), (250, 0.1)])
def test_silence_before_changes_few_of_them(tokenizer, wave, tokens, most):
    """Shipped before, a model with a position table changed half of them after 40 ms, and five of six after 1 s."""
    later = tokenizer.encode(torch.cat([torch.zeros(640 * tokens), wave])).ids[:, tokens:]
    assert (later != tokenizer.encode(wave).ids).float().mean() < most


def test_halves_are_much_the_same_alone(tokenizer, wave):
    half = len(wave) // 1280 * 640
    apart = torch.cat([tokenizer.encode(part).ids[0] for part in (wave[:half], wave[half:])])
    assert (apart != tokenizer.encode(wave).ids[0]).float().mean() < 0.2


def test_other_speech_is_other_tokens(tokenizer, wave):
    ids = tokenizer.encode(wave).ids
    assert (ids != tokenizer.encode(wave.flip(0)).ids).float().mean() > 0.9


def test_tokens_become_speech_again(wave):
    tokenizer = zoo.load("stabletoken")
    tokens = tokenizer.encode(wave)
    spoken = tokenizer.decode(tokens)[0]
    assert spoken.shape == wave.shape
    assert 0.05 < spoken.abs().max() <= 1
    # What was loud is loud: the rise and fall of syllables is in the tokens, and it is of this sentence.
    assert _correlation(spoken, wave) > 0.6
    assert _correlation(spoken, wave) > _correlation(spoken.flip(0), wave) + 0.2
    # The vocoder alone keeps far more.
    copied = tokenizer.vocode(wave)
    assert _correlation(copied, wave[: len(copied)]) > 0.9


def _correlation(first, second):
    """Of the loudness of two waves, in dB, every 40 ms."""
    count = len(first) // 640 * 640
    loudness = [x[:count].view(-1, 640).square().mean(1).add(1e-6).log() for x in (first, second)]
    return torch.corrcoef(torch.stack(loudness))[0, 1].item()
