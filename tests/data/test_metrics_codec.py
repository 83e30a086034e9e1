"""Opus as a disturbance: aligned, the same twice, better with more bits."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.data.perturbations.opus import Opus
from zoo.errors import ConfigError


def speech(seconds=1.5, rate=16000):
    t = torch.arange(int(seconds * rate)) / rate
    tone = 0.3 * torch.sin(2 * math.pi * 200 * t) * torch.sin(5 * t) ** 2
    return tone + 0.1 * torch.sin(2 * math.pi * (300 * t + 400 * t * t))


def snr(wave, other):
    return 10 * math.log10(float(wave.square().mean() / (wave - other).square().mean()))


def test_the_result_is_aligned_and_as_long():
    wave = speech()
    decoded = Opus(24000)(wave)
    lags = {lag: float((decoded[500 + lag : 20000 + lag] * wave[500:20000]).sum()) for lag in range(-80, 81)}
    assert max(lags, key=lags.get) == 0
    for samples in (7, 320, len(wave) - 123):
        assert len(Opus(24000)(wave[:samples])) == samples


def test_more_bits_keep_more_and_nothing_is_random():
    wave = speech()
    kept = [snr(wave, Opus(rate)(wave)) for rate in (6000, 24000, 96000)]
    assert kept == sorted(kept)
    assert kept[0] < kept[2] - 6
    assert torch.equal(Opus(24000)(wave), Opus(24000)(wave))


def test_silence_stays_and_full_scale_is_clipped():
    assert not Opus(24000)(torch.zeros(4000)).any()
    assert Opus(24000)(10 * speech()).abs().max() < 1.6


@pytest.mark.parametrize(("bits", "rate"), [(100, 16000), (math.nan, 16000), (24000, 22050)])
def test_what_opus_does_not_have_is_refused(bits, rate):
    with pytest.raises(ConfigError, match="Opus takes"):
        Opus(bits, rate)
