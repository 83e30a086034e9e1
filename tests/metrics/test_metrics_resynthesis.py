"""Distances of spectra by hand, what judges say of speech as it gets worse, and what Whisper reads."""

from __future__ import annotations

import doctest
import importlib.util
import math
import sys

import pytest
import torch
from speech_corpus import write_whisper
from torch import Tensor

from zoo.cli.demo import SAMPLES
from zoo.data.media import read_audio
from zoo.errors import CheckpointError, InputError, MissingExtraError
from zoo.metrics.speech import resynthesis, speech_quality
from zoo.metrics.speech.resynthesis import (
    log_mel_distance,
    log_mel_spectrum,
    mel_cepstral_distortion,
)
from zoo.metrics.speech.speech_quality import (
    distill_mos,
    dnsmos,
    pesq,
    stoi,
)
from zoo.metrics.speech.transcription import Transcriber

RATE = 16000


def needs(*packages):
    """Skip where a package of the extra `eval`, or one beside it, is not installed."""
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(lacking), reason=f"{', '.join(lacking)} not installed: see eval/resynthesis.yaml")


@pytest.fixture(scope="module")
def sentence() -> Tensor:
    channels, rate = read_audio(SAMPLES / "austen.flac")
    assert rate == RATE
    return channels[0][: int(4.6 * RATE)]  # twice that is one window of DNSMOS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    write_whisper(folder)
    return folder


def noisy(wave: Tensor, decibels: float) -> Tensor:
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
    level = wave.square().mean().sqrt() * 10 ** (-decibels / 20)
    return (wave + level * noise).clamp(-1, 1)


class TestDistances:
    def test_equal_waves_are_at_no_distance(self, sentence):
        assert log_mel_distance(sentence, sentence, RATE) == 0
        assert mel_cepstral_distortion(sentence, sentence, RATE) == 0

    def test_frames_and_bands(self, sentence):
        spectrum = log_mel_spectrum(sentence, RATE)
        assert spectrum.shape == (80, 1 + math.ceil(len(sentence) / 256))
        tone = torch.sin(torch.arange(RATE) * (2 * math.pi * 1000 / RATE))
        found = log_mel_spectrum(tone, RATE)
        # Slaney's bands are 1/15 of a kHz apart below 1 kHz, there the last of 15, of 45.25 up to 8 kHz.
        steps = 15 + math.log(8) / (math.log(6.4) / 27)
        assert abs(int(found[:, 30].argmax()) + 1 - 15 / steps * 81) < 1
        # Double the amplitude is 6 dB more in every band.
        assert (log_mel_spectrum(2 * tone, RATE) - found)[:, 5:50].mean().item() == pytest.approx(6.0206, abs=1e-3)

    def test_level_counts_in_one_and_not_in_the_other(self):
        noise = 0.2 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
        assert log_mel_distance(noise / 2, noise, RATE) == pytest.approx(6.0206, abs=0.02)
        assert mel_cepstral_distortion(noise / 2, noise, RATE) < 0.02

    @pytest.mark.parametrize("order", [1, 7, 13])
    def test_distortion_is_the_rms_of_one_cosine(self, monkeypatch, order):
        places = (torch.arange(80) + 0.5) * (math.pi / 80)
        cosine = 4.0 * torch.cos(order * places)[:, None].expand(80, 9)
        level = 17.0 * torch.ones(80, 9)
        spectra = iter([cosine + level, torch.zeros(80, 9)])
        monkeypatch.setattr(resynthesis, "log_mel_spectrum", lambda wave, rate: next(spectra))
        wave = torch.ones(100)
        assert mel_cepstral_distortion(wave, wave, RATE) == pytest.approx(4 / math.sqrt(2), rel=1e-5)

    def test_cosines_beyond_the_thirteenth_are_smoothed_away(self, monkeypatch):
        places = (torch.arange(80) + 0.5) * (math.pi / 80)
        spectra = iter([torch.cos(14 * places)[:, None], torch.zeros(80, 1)])
        monkeypatch.setattr(resynthesis, "log_mel_spectrum", lambda wave, rate: next(spectra))
        assert mel_cepstral_distortion(torch.ones(9), torch.ones(9), RATE) < 1e-5

    def test_silence_is_no_farther_than_the_floor(self, sentence):
        silence = torch.zeros_like(sentence)
        spectrum = log_mel_spectrum(sentence, RATE)
        above = (spectrum - (spectrum.max() - 80)).clamp(min=0)
        assert log_mel_distance(silence, sentence, RATE) == pytest.approx(above.mean().item(), rel=1e-5)
        hum = sentence.clone()
        hum[: RATE // 2] = 0
        hiss = hum + 1e-6 * torch.sign(torch.sin(torch.arange(len(hum)) * 0.3))
        assert log_mel_distance(hiss, hum, RATE) < 0.2

    def test_noise_and_another_rate(self, sentence):
        rows = [
            (log_mel_distance(wave, sentence, RATE), mel_cepstral_distortion(wave, sentence, RATE))
            for wave in (noisy(sentence, decibels) for decibels in (40, 20, 0))
        ]
        for values in zip(*rows, strict=True):
            assert 0 < values[0] < values[1] < values[2]
        assert log_mel_distance(sentence, sentence, 8000) == 0

    def test_one_sample_is_a_clip(self):
        assert log_mel_distance(torch.ones(1), torch.ones(1), RATE) == 0
        assert math.isfinite(log_mel_distance(torch.zeros(1), torch.ones(1), RATE))

    @pytest.mark.parametrize(
        ("decoded", "recording", "rate", "message"),
        [
            (torch.zeros(5), torch.zeros(6), RATE, "sample by sample, got 5 and 6"),
            (torch.zeros(0), torch.zeros(0), RATE, "not empty"),
            (torch.zeros(1, 5), torch.zeros(1, 5), RATE, r"\(samples,\)"),
            (torch.zeros(5).short(), torch.zeros(5), RATE, "int16"),
            (torch.full((5,), math.nan), torch.zeros(5), RATE, "NaN"),
            (torch.zeros(5), torch.zeros(5), 0, "whole number of Hz"),
            (torch.zeros(5), torch.zeros(5), 16000.0, "whole number of Hz"),
        ],
    )
    @pytest.mark.parametrize("distance", [log_mel_distance, mel_cepstral_distortion, stoi])
    def test_what_is_no_pair_is_refused(self, distance, decoded, recording, rate, message):
        with pytest.raises(InputError, match=message):
            distance(decoded, recording, rate)


def test_doctests():
    assert doctest.testmod(resynthesis).failed == 0


class TestJudges:
    """Each judge falls with the noise."""

    def check(self, judge, sentence, best):
        clean, loud, louder = (judge(wave) for wave in (sentence, noisy(sentence, 20), noisy(sentence, 0)))
        assert clean == pytest.approx(best[0], abs=best[1])
        assert clean > loud > louder

    def test_stoi(self, sentence):
        self.check(lambda wave: stoi(wave, sentence, RATE), sentence, (1, 1e-6))
        noise = torch.randn(len(sentence), generator=torch.Generator().manual_seed(0))
        assert abs(stoi(noise, sentence, RATE)) < 0.5
        assert math.isnan(stoi(sentence[:4000], sentence[:4000], RATE))

    @needs("pesq")
    def test_pesq(self, sentence):
        self.check(lambda wave: pesq(wave, sentence, RATE), sentence, (4.64, 0.01))
        silence = torch.zeros_like(sentence)
        assert math.isnan(pesq(silence, sentence, RATE))
        assert math.isnan(pesq(sentence, silence, RATE))
        assert math.isnan(pesq(sentence[:1000], sentence[:1000], RATE))

    @needs("speechmos", "onnxruntime")
    def test_dnsmos(self, sentence):
        self.check(lambda wave: dnsmos(wave, RATE), sentence, (3.3, 0.7))
        with pytest.raises(InputError, match=r"samples in -1…1, got 2"):
            dnsmos(torch.full((RATE,), 2.0), RATE)

    @needs("distillmos", "xls_r_sqa")
    @pytest.mark.filterwarnings("ignore:enable_nested_tensor")
    def test_distill_mos(self, sentence, capsys):
        self.check(lambda wave: distill_mos(wave, RATE), sentence, (4.2, 0.3))
        assert distill_mos(sentence / 9, RATE) == pytest.approx(distill_mos(sentence, RATE), abs=0.01)
        assert not capsys.readouterr().out

    @pytest.mark.parametrize(
        "judge", [pesq, lambda a, b, rate: dnsmos(a, rate), lambda a, b, rate: distill_mos(a, rate)]
    )
    def test_other_rates_are_refused(self, judge):
        with pytest.raises(InputError, match="at 16000 Hz, got 8000 Hz: resample"):
            judge(torch.ones(8000), torch.ones(8000), 8000)

    @pytest.mark.parametrize(
        ("package", "judge", "remedy"),
        [
            ("pystoi", stoi, r"pip install 'tokenizer-zoo\[eval\]'"),
            ("pesq", pesq, "pip install pesq"),
            ("onnxruntime", lambda a, b, rate: dnsmos(a, rate), r"tokenizer-zoo\[eval\]"),
            ("distillmos", lambda a, b, rate: distill_mos(a, rate), "pip install --no-deps distillmos"),
        ],
    )
    def test_a_package_that_is_not_there_is_named(self, monkeypatch, package, judge, remedy):
        monkeypatch.setitem(sys.modules, package, None)
        for network in (speech_quality._dnsmos_network, speech_quality._distill_mos_network):
            network.cache_clear()
        with pytest.raises(MissingExtraError, match=rf"needs the package {package}: .*{remedy}"):
            judge(torch.ones(RATE), torch.ones(RATE), RATE)


class TestTranscriber:
    def test_it_reads_what_transformers_reads(self, folder):
        """Random weights say nonsense, but the same as another way of asking for it, one token at a time."""
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

        model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        read = Transcriber(folder, max_tokens=12)
        assert read.max_seconds == 2
        texts = set()
        for seed in range(3):
            wave = 0.3 * torch.randn(9000 + 7000 * seed, generator=torch.Generator().manual_seed(seed))
            extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=2)
            features = extractor(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_features
            ids = [tokenizer.token_to_id(name) for name in ("<|startoftranscript|>", "<|notimestamps|>")]
            with torch.no_grad():
                for _ in range(12):
                    logits = model(features, decoder_input_ids=torch.tensor([ids])).logits
                    ids.append(int(logits[0, -1].argmax()))
                    if ids[-1] == model.config.eos_token_id:
                        break
            expected = tokenizer.decode(ids, skip_special_tokens=True).strip()
            assert read(wave, RATE) == expected == read(wave.double(), RATE)
            texts.add(expected)
        assert len(texts) > 1

    def test_what_it_cannot_read_is_refused(self, folder, tmp_path):
        read = Transcriber(folder)
        for wave, rate, message in (
            (torch.zeros(0), RATE, "not empty"),
            (torch.full((9,), math.inf), RATE, "finite"),
            (torch.zeros(99), 8000, "at 16000 Hz, got 8000"),
            (torch.zeros(3 * RATE), RATE, "at most 2 s at once, got 3.0 s"),
        ):
            with pytest.raises(InputError, match=message):
                read(wave, rate)
        with pytest.raises(InputError, match="English alone, and the language is 'de'"):
            Transcriber(folder, "de")
        with pytest.raises(CheckpointError, match=r"config.json does not exist.*recipes/data/whisper"):
            Transcriber(tmp_path)

    def test_damaged_folders(self, folder, tmp_path):
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        for name in ("config.json", "tokenizer.json"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        lost = "model.encoder.layers.0.fc1.weight"
        save_file({name: tensor for name, tensor in tensors.items() if name != lost}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=lost):
            Transcriber(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
        with pytest.raises(CheckpointError, match="not a Whisper model that can be read"):
            Transcriber(tmp_path)

    def test_without_transformers(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match=r"tokenizer-zoo\[eval\]"):
            Transcriber(folder)
