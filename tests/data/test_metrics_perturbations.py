"""Perturbations: exact SNR, the slopes, the grid of crushed amplitudes, noise clips, and what is drawn."""

from __future__ import annotations

import doctest
import json
import math
import pickle

import numpy as np
import pytest
import scipy.stats
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.perturbations import noise as perturbations
from zoo.data.perturbations.noise import (
    EVALUATION_VALUES,
    KINDS,
    TRAINING_RANGES,
    BitCrush,
    ColourNoise,
    NoiseBank,
    RandomPerturbation,
    RealNoise,
    perturbation,
)
from zoo.errors import ConfigError, InputError

SLOPES = {"gaussian": 0.0, "pink": -3.01, "brown": -6.02}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def speech(count=20_000, seed=0):
    t = torch.arange(count) / 16000
    return 0.3 * torch.sin(900 * t) * torch.sin(20 * t) + 0.01 * torch.randn(count, generator=seeded(seed))


def bank():
    return NoiseBank([torch.randn(3000, generator=seeded(1)), torch.randn(50_000, generator=seeded(2))])


def snr(wave, disturbed):
    noise = disturbed.double() - wave.double()
    return 10 * math.log10(float(wave.double().square().mean() / noise.square().mean()))


class TestAll:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bit_crush"])
    @pytest.mark.parametrize("wanted", [-5.0, 12.0, 16.0, 30.0])
    def test_the_snr_is_exact(self, kind, wanted):
        for count in (1, 127, 897, 898, 20_000):
            wave = speech(count, seed=3)
            assert snr(wave, perturbation(kind, wanted, bank())(wave, seeded())) == pytest.approx(wanted, abs=0.01)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_generator_decides_all(self, kind):
        change = perturbation(kind, EVALUATION_VALUES[kind], bank())
        wave = speech()
        kept = wave.clone()
        torch.manual_seed(5)
        first = change(wave, seeded(4))
        torch.manual_seed(6)
        torch.testing.assert_close(change(wave, seeded(4)), first, rtol=0, atol=0)
        torch.testing.assert_close(wave, kept, rtol=0, atol=0)
        assert (first.dtype, first.shape) == (torch.float32, wave.shape)
        assert torch.equal(change(wave, seeded(5)), first) == (kind == "bit_crush")

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_default_generator_is_torchs(self, kind):
        change = perturbation(kind, EVALUATION_VALUES[kind], bank())
        torch.manual_seed(7)
        first = change(speech())
        assert torch.equal(change(speech(), seeded(7)), first)

    def test_nothing_is_clipped(self):
        wave = 0.99 * torch.sign(speech())
        assert float(perturbation("gaussian", 10)(wave, seeded()).abs().max()) > 1.2

    @pytest.mark.parametrize("kind", KINDS)
    def test_silence_stays_silence(self, kind):
        wave = torch.zeros(100)
        disturbed = perturbation(kind, 12, bank())(wave, seeded())
        assert torch.equal(disturbed, wave)
        assert disturbed is not wave

    def test_precision_becomes_float32(self):
        disturbed = perturbation("pink", 16)(speech().double(), seeded())
        assert disturbed.dtype == torch.float32

    @pytest.mark.parametrize(
        ("wave", "message"),
        [
            (torch.zeros(0), "not empty"),
            (torch.zeros(2, 3), r"is \(samples,\)"),
            (torch.ones(3, dtype=torch.int16), "floating point"),
            (torch.tensor([0.0, math.nan]), "NaN"),
            (torch.tensor([0.0, math.inf]), "infinity"),
        ],
    )
    @pytest.mark.parametrize("kind", [*KINDS, "random"])
    def test_a_bad_wave_is_refused(self, kind, wave, message):
        change = RandomPerturbation(noise_bank=bank()) if kind == "random" else perturbation(kind, 12, bank())
        with pytest.raises(InputError, match=message):
            change(wave, seeded())

    def test_unknown_kinds_and_values_are_refused(self):
        with pytest.raises(ConfigError, match="did you mean 'brown'"):
            perturbation("browm", 16)
        with pytest.raises(ConfigError, match="give a noise_bank"):
            perturbation("real", 16)
        for kind in KINDS:
            with pytest.raises(ConfigError, match="must be a finite number"):
                perturbation(kind, math.nan, bank())

    def test_docstring_examples(self):
        result = doctest.testmod(perturbations)
        assert (result.attempted, result.failed) == (1, 0)


class TestColours:
    def power(self, kind, rounds):
        """Mean power spectrum of noises of 8 s at 16 kHz, in steps of 1/8 Hz."""
        power = torch.zeros(65_537, dtype=torch.float64)
        for seed in range(rounds):
            wave = torch.ones(131_072)
            noise = ColourNoise(0.0, SLOPES[kind])(wave, seeded(seed)) - wave
            power += torch.fft.rfft(noise.double()).abs().square()
        return power / power.sum()

    def test_white_is_flat(self):
        power = self.power("gaussian", 5)
        octaves = [float(power[start : 2 * start].mean()) for start in (2048, 4096, 8192, 16_384, 32_768)]
        assert max(octaves) / min(octaves) == pytest.approx(1, abs=0.05)

    @pytest.mark.parametrize("kind", ["pink", "brown"])
    def test_the_taps_have_the_slope_exactly(self, kind):
        for seed in range(5):
            gains = torch.fft.rfft(perturbations._draw_taps(SLOPES[kind], seeded(seed)).double()).abs()
            octaves = 20 * torch.log10(gains[[2, 4, 8, 16, 32]] / gains[[1, 2, 4, 8, 16]])
            torch.testing.assert_close(
                octaves, torch.full_like(octaves, SLOPES[kind]), rtol=0, atol=2e-3
            )  # brown's gains span 80 dB, in float32

    def test_shares_by_octave_are_those_of_audiomentations(self):
        """Measured with version 0.43.1: dB of the whole in 0, 62.5, 125, 250, … 8000 Hz, 300 noises of 6 s."""
        measured = {
            "pink": [-2.57, -8.44, -11.52, -12.47, -13.12, -13.50, -13.78, -13.85],
            "brown": [-1.34, -8.02, -12.82, -15.58, -18.62, -21.55, -24.21, -25.81],
        }
        edges = [0, 62.5, 125, 250, 500, 1000, 2000, 4000, 8000]
        for kind, wanted in measured.items():
            parts = self.power(kind, 60).tensor_split([int(edge * 8) for edge in edges[1:-1]])
            assert [10 * math.log10(float(part.sum())) for part in parts] == pytest.approx(wanted, abs=1.0)

    @given(count=st.integers(1, 3000), seed=st.integers(0, 9))
    @settings(max_examples=30, deadline=None)
    def test_filtering_by_blocks_is_convolution(self, count, seed):
        signal, taps = torch.randn(count + 127, generator=seeded(seed)), torch.randn(128, generator=seeded(seed + 10))
        wanted = np.convolve(signal.double().numpy(), taps.double().numpy(), "valid")
        found = perturbations._filter(signal, taps)
        assert found.numpy() == pytest.approx(wanted, abs=1e-4)


class TestBitCrush:
    @pytest.mark.parametrize("bits", [1, 4, 8, 9.5, 10, 13.25])
    def test_values_lie_on_the_grid_and_all_of_it_is_used(self, bits):
        wave = torch.linspace(-1, 1, 400_001)
        q = 2 ** (bits - 1) + 1
        crushed = BitCrush(bits)(wave)
        levels = crushed.double() * q
        assert float((levels - levels.round()).abs().max()) < 1e-3
        assert len(levels.round().unique()) == 2 * math.floor(q + 0.5) + 1
        assert float((crushed - wave).abs().max()) <= 0.5 / q + 1e-6

    @pytest.mark.parametrize("bits", [0.5, 25, -3])
    def test_depths_that_make_no_sense(self, bits):
        with pytest.raises(ConfigError, match="between 1 and 24"):
            BitCrush(bits)


class TestNoiseBank:
    def test_a_long_clip_is_cropped_everywhere(self):
        noises = NoiseBank([torch.arange(1.0, 11.0)])
        starts = set()
        for seed in range(100):
            part = noises.draw(4, seeded(seed))
            assert torch.equal(part.diff(), torch.ones(3))
            starts.add(int(part[0]))
        assert starts == set(range(1, 8))

    def test_a_short_clip_is_repeated_from_any_place(self):
        noises = NoiseBank([torch.arange(1.0, 4.0)])
        starts = set()
        for seed in range(40):
            part = noises.draw(8, seeded(seed))
            assert torch.equal((part - part[0]) % 3, torch.arange(8.0) % 3)
            starts.add(int(part[0]))
        assert starts == {1, 2, 3}

    def test_every_clip_is_drawn(self):
        noises = NoiseBank([torch.full((9,), float(value)) for value in range(1, 6)])
        drawn = [int(noises.draw(3, seeded(seed))[0]) for seed in range(1000)]
        assert scipy.stats.chisquare(np.bincount(drawn)[1:]).pvalue > 1e-3

    def test_files_equal_waves(self, tmp_path):
        waves = [
            (torch.rand(count, generator=seeded(count)) * 2 - 1).mul(32767).round() / 32768 for count in (500, 3000)
        ]
        lines = []
        (tmp_path / "audio").mkdir()
        for number, wave in enumerate(waves):
            soundfile.write(tmp_path / "audio" / f"{number}.flac", wave.numpy(), 16000, subtype="PCM_16")
            lines.append(json.dumps({"audio_filepath": f"audio/{number}.flac", "duration": len(wave) / 16000}))
        (tmp_path / "noise.jsonl").write_text("\n".join(lines) + "\n\n")
        files = pickle.loads(pickle.dumps(NoiseBank.from_manifest(tmp_path / "noise.jsonl")))
        assert len(files) == 2
        for seed in range(20):
            assert torch.equal(files.draw(1000, seeded(seed)), NoiseBank(waves).draw(1000, seeded(seed)))

    def test_a_silent_part_is_passed_over(self, tmp_path):
        clip = torch.zeros(5000)
        clip[1200:1300] = 0.5
        soundfile.write(tmp_path / "a.flac", clip.numpy(), 16000)
        for noises in (NoiseBank([clip]), NoiseBank([tmp_path / "a.flac"])):
            for seed in range(20):
                assert bool(noises.draw(50, seeded(seed)).any())

    def test_clips_that_cannot_be_used(self, tmp_path):
        with pytest.raises(InputError, match="at least one clip"):
            NoiseBank([])
        with pytest.raises(InputError, match="clip 1 must be"):
            NoiseBank([torch.ones(3), torch.ones(0)])
        with pytest.raises(InputError, match="is silent"):
            NoiseBank([torch.zeros(9)]).draw(3)
        with pytest.raises(InputError, match="NaN"):
            NoiseBank([torch.full((9,), math.nan)]).draw(3)
        with pytest.raises(InputError, match="cannot read the noise clip"):
            NoiseBank([tmp_path / "none.flac"]).draw(3)
        (tmp_path / "bad.flac").write_bytes(b"not sound")
        with pytest.raises(InputError, match="cannot read the noise clip"):
            NoiseBank([tmp_path / "bad.flac"]).draw(3)
        soundfile.write(tmp_path / "cut.flac", torch.randn(50_000, generator=seeded()).clamp(-1, 1).numpy(), 16000)
        (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:20_000])
        for seed in range(4):
            for count in (45_000, 60_000):
                with pytest.raises(InputError, match=r"is truncated|cannot read the noise clip"):
                    NoiseBank([tmp_path / "cut.flac"]).draw(count, seeded(seed))
        soundfile.write(tmp_path / "rate.wav", np.ones(9) / 2, 8000)
        with pytest.raises(InputError, match="at 8000 Hz: noise must be mono at 16000 Hz"):
            NoiseBank([tmp_path / "rate.wav"]).draw(3)
        soundfile.write(tmp_path / "stereo.wav", np.ones((9, 2)) / 2, 16000)
        with pytest.raises(InputError, match="2 channel"):
            NoiseBank([tmp_path / "stereo.wav"]).draw(3)
        soundfile.write(tmp_path / "empty.wav", np.ones(0), 16000)
        with pytest.raises(InputError, match="is empty"):
            NoiseBank([tmp_path / "empty.wav"]).draw(3)

    def test_manifests_that_cannot_be_used(self, tmp_path):
        path = tmp_path / "noise.jsonl"
        with pytest.raises(InputError, match="does not exist"):
            NoiseBank.from_manifest(path)
        path.write_text("\n")
        with pytest.raises(InputError, match="lists no clips"):
            NoiseBank.from_manifest(path)
        for line in ("{", '{"audio": 1}', "[1]", '{"audio_filepath": 1}'):
            path.write_text('{"audio_filepath": "a.flac"}\n' + line)
            with pytest.raises(InputError, match=r"line 2 (is not valid JSON|must)"):
                NoiseBank.from_manifest(path)


class TestRandom:
    def test_kinds_and_intensities_are_uniform(self):
        random = RandomPerturbation(noise_bank=bank())
        generator = seeded()
        drawn = {kind: [] for kind in KINDS}
        names = {slope: kind for kind, slope in SLOPES.items()}
        for _ in range(3000):
            change = random.draw(generator)
            if isinstance(change, ColourNoise):
                drawn[names[change.slope]].append(change.snr)
            elif isinstance(change, BitCrush):
                drawn["bit_crush"].append(change.bits)
            else:
                assert isinstance(change, RealNoise)
                drawn["real"].append(change.snr)
        assert scipy.stats.chisquare([len(values) for values in drawn.values()]).pvalue > 1e-3
        for kind, values in drawn.items():
            low, high = TRAINING_RANGES[kind]
            assert low <= min(values) <= max(values) <= high
            assert scipy.stats.kstest(values, scipy.stats.uniform(low, high - low).cdf).pvalue > 1e-3

    def test_it_applies_what_it_draws(self):
        random = RandomPerturbation(("brown", "real"), {"brown": (20, 20), "real": (10, 10)}, bank())
        wave = speech()
        found = {round(snr(wave, random(wave, seeded(seed))), 2) for seed in range(20)}
        assert found == {10.0, 20.0}
        torch.manual_seed(3)
        first = random(wave)
        assert torch.equal(first, random(wave, seeded(3)))

    def test_it_can_be_pickled(self):
        random = RandomPerturbation(noise_bank=bank())
        wave = speech()
        assert torch.equal(pickle.loads(pickle.dumps(random))(wave, seeded(1)), random(wave, seeded(1)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kinds": ()}, "at least one kind"),
            ({"kinds": ("grey",)}, "no perturbation 'grey'"),
            ({"kinds": ("real",)}, "give a noise_bank"),
            ({"kinds": ("pink",), "ranges": {}}, "says nothing of 'pink'"),
            ({"kinds": ("pink",), "ranges": {"pink": (3, 2)}}, "upside down"),
            ({"kinds": ("bit_crush",), "ranges": {"bit_crush": (0, 2)}}, "between 1 and 24"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ConfigError, match=message):
            RandomPerturbation(**arguments)


def test_the_papers_values():
    assert TRAINING_RANGES == {
        "gaussian": (16, 30),
        "pink": (16, 24),
        "brown": (12, 24),
        "bit_crush": (8, 14),
        "real": (12, 24),
    }
    assert EVALUATION_VALUES == {"gaussian": 25, "pink": 22, "brown": 16, "bit_crush": 10, "real": 16, "real_ood": 16}
