"""Noise made for an encoder: as strong as it is told to be, and better at moving vectors than white noise."""

import pytest
import tiny_stabletoken as tiny
import torch

from zoo.data.perturbations.adversarial import AdversarialNoise
from zoo.errors import ConfigError


def seeded():
    return torch.Generator().manual_seed(0)


def test_it_has_the_snr_and_moves_the_vectors_further_than_white_noise():
    wave, vectors = tiny.speech(9000), tiny.make().vectors
    moved = {}
    for steps in (0, 3):
        noisy = AdversarialNoise(20.0, vectors, steps)(wave, seeded())
        noise = noisy - wave
        assert float(20 * (wave.norm() / noise.norm()).log10()) == pytest.approx(20, abs=1e-3)
        with torch.no_grad():
            moved[steps] = float((vectors(noisy) - vectors(wave)).norm())
        assert torch.equal(AdversarialNoise(20.0, vectors, steps)(wave, seeded()), noisy)
    assert moved[3] > 1.2 * moved[0]


def test_a_linear_encoder_is_moved_along_what_it_hears():
    """The most that |w · noise| can be is |w| |noise|."""
    wave = tiny.speech(400)
    weight = torch.randn(400, generator=seeded())
    noise = AdversarialNoise(10.0, lambda x: (weight @ x)[None], 40)(wave, seeded()) - wave
    assert float((weight @ noise).abs() / (weight.norm() * noise.norm())) > 0.99


def test_where_nothing_moves_the_noise_stays_white():
    wave = tiny.speech(400)
    deaf = AdversarialNoise(10.0, lambda x: 0 * x, 3)(wave, seeded())
    assert torch.equal(deaf, AdversarialNoise(10.0, lambda x: 0 * x, 0)(wave, seeded()))
    assert not AdversarialNoise(10.0, lambda x: x, 3)(torch.zeros(10), seeded()).any()


def test_what_cannot_be_is_refused():
    for wrong in ({"snr": float("nan")}, {"snr": 10.0, "steps": -1}):
        with pytest.raises(ConfigError):
            AdversarialNoise(**{"vectors": lambda x: x, **wrong})


def test_the_vectors_are_those_that_are_quantized():
    tokenizer, wave = tiny.make(max_positions=50), tiny.speech(2 * 16000 + 777)  # three segments
    torch.testing.assert_close(
        tokenizer.vectors(wave).detach(), tokenizer.encode_latents(wave).values[0], atol=1e-4, rtol=1e-4
    )
