"""Pitch, speed, rooms, bands and babble: what STAB's specification (section 10) says of them, and their spectra."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.perturbations import room as acoustics
from zoo.data.perturbations.noise import BitCrush, ColourNoise, NoiseBank
from zoo.data.perturbations.room import (
    ACOUSTIC_KINDS,
    GRID,
    Babble,
    BandLimit,
    PitchShift,
    Reverb,
    Speed,
    Tempo,
    acoustic_perturbation,
)
from zoo.errors import ConfigError, InputError

RATE = 16000
NONE = {
    "pitch": PitchShift(0),
    "speed": Speed(1),
    "tempo": Tempo(1),
    "reverb": Reverb(0),
    "band": BandLimit(0, RATE / 2),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sine(hertz, count=RATE):
    return 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(count) / RATE)


def noise(count=RATE, seed=0):
    return 0.1 * torch.randn(count, generator=seeded(seed))


def peak(wave):
    """Frequency of the strongest partial, in Hz, to the width of a bin."""
    return float(torch.fft.rfft(wave * torch.hann_window(len(wave))).abs().argmax()) * RATE / len(wave)


def rms(wave):
    return float(wave.double().square().mean().sqrt())


def bank():
    return NoiseBank([noise(3000, 1), noise(50_000, 2)])


def make(kind):
    return acoustic_perturbation(kind, GRID[kind][0] if kind in GRID else 12, RATE, bank())


class TestAll:
    @pytest.mark.parametrize("kind", NONE)
    def test_no_strength_changes_nothing(self, kind):
        wave = noise(5000)
        changed = NONE[kind](wave, seeded())
        assert torch.equal(changed, wave)
        assert changed is not wave

    @pytest.mark.parametrize("kind", [kind for kind in ACOUSTIC_KINDS if kind not in ("speed", "tempo")])
    def test_the_duration_is_kept(self, kind):
        for count in (1, 700, 5000):
            changed = make(kind)(noise(count), seeded())
            assert (changed.dtype, changed.shape) == (torch.float32, (count,))
            assert bool(changed.isfinite().all())
        assert torch.equal(make(kind)(torch.zeros(900), seeded()), torch.zeros(900))

    @pytest.mark.parametrize("kind", ACOUSTIC_KINDS)
    def test_the_generator_decides_all(self, kind):
        wave, change = noise(2000), make(kind)
        kept = wave.clone()
        first = change(wave, seeded(3))
        assert torch.equal(change(wave, seeded(3)), first)
        assert torch.equal(wave, kept)
        is_random = kind in ("gaussian", "pink", "brown", "real", "babble", "reverb")
        assert torch.equal(change(wave, seeded(4)), first) != is_random

    @pytest.mark.parametrize("kind", ACOUSTIC_KINDS)
    def test_a_bad_wave_is_refused(self, kind):
        for wave in (torch.zeros(0), torch.ones(2, 3), torch.tensor([math.nan])):
            with pytest.raises(InputError):
                make(kind)(wave, seeded())

    @pytest.mark.parametrize("kind", ["gaussian", "pink", "real", "babble"])
    @pytest.mark.parametrize("snr", GRID["gaussian"])
    def test_the_snr_is_exact(self, kind, snr):
        wave = noise(8000, 9).double()
        disturbed = acoustic_perturbation(kind, snr, RATE, bank())(wave, seeded()).double()
        measured = 20 * math.log10(rms(wave) / rms(disturbed - wave.float().double()))
        assert measured == pytest.approx(snr, abs=1e-4)

    def test_names(self):
        assert set(GRID) < set(ACOUSTIC_KINDS)
        assert make("bit_crush") == BitCrush(8)
        assert make("pink") == ColourNoise(30, -3.01)
        assert make("band") == BandLimit(300, 3400, RATE)
        assert make("babble").num_voices == 6
        with pytest.raises(ConfigError, match="did you mean 'pitch'"):
            acoustic_perturbation("pich", 1)
        with pytest.raises(ConfigError, match="needs recordings of speech"):
            acoustic_perturbation("babble", 1)

    @pytest.mark.parametrize(
        ("kind", "strength"),
        [
            ("pitch", 25),
            ("pitch", math.nan),
            ("speed", 0),
            ("tempo", 5),
            ("reverb", -1),
            ("band", 0),
            ("babble", math.inf),
        ],
    )
    def test_strengths_that_make_no_sense(self, kind, strength):
        with pytest.raises(ConfigError, match="must"):
            acoustic_perturbation(kind, strength, RATE, bank())

    def test_voices_there_must_be(self):
        with pytest.raises(ConfigError, match="num_voices"):
            Babble(3, bank(), 0)


class TestPitch:
    @pytest.mark.parametrize("semitones", [12, *GRID["pitch"]])
    def test_a_sine_moves_by_as_much(self, semitones):
        wave = sine(440)
        shifted = PitchShift(semitones)(wave)
        assert len(shifted) == len(wave)
        assert peak(shifted) == pytest.approx(440 * 2 ** (semitones / 12), abs=1)
        assert rms(shifted) == pytest.approx(rms(wave), rel=1e-4)

    def test_a_clip_too_short_for_a_window(self):
        assert rms(PitchShift(2)(noise(300))) == pytest.approx(rms(noise(300)), rel=1e-4)


class TestPlayback:
    @given(rate=st.floats(0.25, 4), count=st.integers(1, 3000))
    @settings(max_examples=15, deadline=None)
    def test_the_duration_changes_by_the_rate(self, rate, count):
        for change in (Speed(rate), Tempo(rate)):
            assert len(change(noise(count))) == max(1, round(count / rate))
            assert len(change(torch.zeros(count))) == max(1, round(count / rate))

    @pytest.mark.parametrize("rate", GRID["speed"])
    def test_the_pitch_moves_with_the_tape_only(self, rate):
        faster = {change: change(sine(440)) for change in (Speed(rate), Tempo(rate))}
        assert peak(faster[Speed(rate)]) == pytest.approx(440 * rate, abs=1.5)
        assert peak(faster[Tempo(rate)]) == pytest.approx(440, abs=1.5)
        for wave in faster.values():
            assert rms(wave) == pytest.approx(rms(sine(440)), rel=0.05)

    @pytest.mark.parametrize("change", [Speed(1.25), Tempo(0.8), Tempo(1.25)])
    def test_what_happens_happens_earlier_or_later(self, change):
        """A burst in the middle of silence stays in the middle, to 20 ms: a phase vocoder smears it."""
        wave = torch.zeros(RATE)
        wave[7500:8500] = sine(500, 1000)
        power = change(wave).square()
        centre = float((torch.arange(len(power)) * power).sum() / power.sum())
        assert centre == pytest.approx(len(power) / 2, abs=320)


class TestRoom:
    def test_echoes_decay_by_sixty_decibels_in_the_time(self):
        """A click's answer: the energy of its tail falls in a straight line, here by 30 dB in half the time."""
        click = torch.zeros(RATE)
        click[0] = 1
        power = torch.stack([Reverb(0.4, RATE)(click, seeded(n)).double().square() for n in range(30)]).mean(0)
        start, middle = (float(power[at : at + 400].mean()) for at in (1, 1 + round(0.2 * RATE)))
        assert 10 * math.log10(start / middle) == pytest.approx(30, abs=1)
        assert bool((power[round(0.4 * RATE) + 1 :] < 1e-12 * power[0]).all())

    @pytest.mark.parametrize("direct", [-6.0, 0.0, 12.0])
    def test_direct_sound(self, direct):
        click = torch.zeros(RATE)
        click[0] = 1
        power = Reverb(0.3, RATE, direct)(click, seeded()).double().square()
        assert 10 * math.log10(float(power[0] / power[1:].sum())) == pytest.approx(direct, abs=0.01)

    def test_loudness_is_kept(self):
        assert rms(Reverb(0.3)(noise(), seeded())) == pytest.approx(rms(noise()), rel=1e-4)


class TestBand:
    def test_inside_outside_and_at_the_edges(self):
        change = BandLimit(300, 3400, RATE)
        loudness = {hertz: rms(change(sine(hertz))) / rms(sine(hertz)) for hertz in (100, 600, 1000, 3000, 4000, 7000)}
        for hertz in (600, 1000, 3000):
            assert loudness[hertz] == pytest.approx(1, abs=0.02), hertz
        for hertz in (100, 4000, 7000):
            assert loudness[hertz] < 0.05, hertz

    def test_nothing_is_delayed(self):
        wave = sine(1000) * torch.hann_window(RATE)
        torch.testing.assert_close(BandLimit()(wave), wave, rtol=0, atol=1e-3)

    def test_one_end_only(self):
        wave = sine(100) + sine(7000)
        torch.testing.assert_close(BandLimit(0, 3400)(wave)[300:-300], sine(100)[300:-300], rtol=0, atol=2e-3)
        torch.testing.assert_close(BandLimit(3400, 9000)(wave)[300:-300], sine(7000)[300:-300], rtol=0, atol=2e-3)


def test_docstring_examples():
    result = doctest.testmod(acoustics)
    assert (result.attempted, result.failed) == (1, 0)
