"""Mel bands against torchaudio's, and Whisper's released table."""

import pytest
import torch
from torchaudio.functional import melscale_fbanks

from zoo.components.audio import mel
from zoo.components.audio.mel import MelSpectrum, mel_filters, mel_magnitudes
from zoo.errors import ConfigError


def test_whispers_table():
    filters = mel_filters(80, 400, 16000)
    assert filters.shape == (80, 201)
    # The first of the table that Whisper is released with, and the area of a band, 1.
    assert filters[0, 1] == pytest.approx(0.024862593, abs=1e-8)
    torch.testing.assert_close(filters[60:].sum(1) * 40, torch.ones(20, dtype=torch.float64), rtol=0.05, atol=0)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("equal_area", [True, False])
@pytest.mark.parametrize("highest", [None, 3000.0])
def test_filters_are_those_of_torchaudio(rate, equal_area, highest):
    ours = mel_filters(40, 1024, rate, highest=highest, equal_area=equal_area).float()
    norm = "slaney" if equal_area else None
    theirs = melscale_fbanks(513, 0.0, highest or rate / 2, 40, rate, norm, "slaney").T
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_filters_do_not_depend_on_the_default_dtype():
    expected = mel_filters(13, 256, 8000)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        mel._table.cache_clear()
        assert torch.equal(mel_filters(13, 256, 8000), expected)
        spectrum = MelSpectrum(20, 22050, 256)
        assert spectrum(torch.zeros(1, 1024)).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("is_centred", [True, False])
def test_magnitudes_are_those_of_plain_frames(power, is_centred):
    wave = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    found = mel_magnitudes(
        wave, 8000, num_mel=10, n_fft=128, hop_length=50, power=power, is_centred=is_centred, highest=3000.0
    )
    mirrored = torch.nn.functional.pad(wave[None], (64, 64), mode="reflect")[0] if is_centred else wave
    frames = mirrored.unfold(0, 128, 50) * torch.hann_window(128)
    spectrum = torch.fft.rfft(frames).abs() ** power
    expected = mel_filters(10, 128, 8000, highest=3000.0).float() @ spectrum.T
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rate", "hop", "message"), [(8000, 256, "16000 Hz"), (22050, 255, "even"), (22050, 2048, "most")]
)
def test_unusable_spectra(rate, hop, message):
    with pytest.raises(ConfigError, match=message):
        MelSpectrum(80, rate, hop)
