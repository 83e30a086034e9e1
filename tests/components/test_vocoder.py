"""A vocoder takes long spectra in pieces, and nobody hears where they meet."""

import pytest
import torch

from zoo.components.vocoder.config import VocoderConfig
from zoo.components.vocoder.source import HarmonicSource, harmonic_turns
from zoo.components.vocoder.vocoder import Vocoder

SIZES = [
    VocoderConfig(channels=16, pitch_channels=8),
    VocoderConfig(
        channels=16,
        pitch_channels=4,
        upsample_rates=(4, 2),
        upsample_kernels=(8, 2),
        n_fft=8,
        hop_length=2,
        kernels=(3,),
        dilations=((1, 2),),
        source_kernels=(3, 5),
        source_dilations=((1,), (2, 3)),
    ),
    VocoderConfig(
        channels=8,
        pitch_channels=4,
        upsample_rates=(8,),
        upsample_kernels=(16,),
        n_fft=128,
        hop_length=32,
        kernels=(3, 7),
        dilations=((1, 3), (1, 3)),
        source_kernels=(3,),
        source_dilations=((1, 3),),
    ),
]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make(config, pitch=150.0):
    torch.manual_seed(0)
    vocoder = Vocoder(6, 22050, config).eval()
    with torch.no_grad():
        vocoder.pitch.out.bias.fill_(pitch)
        vocoder.pitch.out.weight.mul_(30)
        vocoder.source.merge.weight.mul_(5)
    return vocoder


@pytest.mark.parametrize("config", SIZES)
@pytest.mark.parametrize("over", [1, 17, 40])
@torch.no_grad()
def test_pieces_make_the_wave_that_their_source_makes_at_once(config, over):
    vocoder = make(config)
    vocoder.piece_frames = 2 * vocoder.reach + 7
    frames = 2 * vocoder.piece_frames + over
    mel = torch.randn(2, 6, frames, generator=seeded(1))
    size = vocoder.piece_frames
    pitches = [vocoder._pitch(mel, start, min(start + size, frames)) for start in range(0, frames, size)]
    torch.testing.assert_close(torch.cat(pitches, 1), vocoder.pitch(mel), rtol=1e-4, atol=1e-3)
    source = torch.cat(list(vocoder.source.stretches(pitches, seeded(2))), 1)
    whole = vocoder.filter(mel, source)
    wave = vocoder(mel, seeded(2))
    assert wave.shape == whole.shape
    assert wave.std() > 0
    torch.testing.assert_close(wave, whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_reach_is_what_a_sample_depends_on():
    """Whatever happens further away changes nothing; what happens near by does."""
    vocoder = make(SIZES[0])
    frames, here = 4 * vocoder.reach + 1, 2 * vocoder.reach
    mel, source = torch.randn(1, 6, frames), torch.randn(1, frames * 256)
    other, changed = mel.clone(), source.clone()
    away = (torch.arange(frames) - here).abs() > vocoder.reach
    other[:, :, away] += 1
    changed[:, away.repeat_interleave(256)] += 1
    place = slice(here * 256, (here + 1) * 256)
    before, after = vocoder.filter(mel, source)[:, place], vocoder.filter(other, changed)[:, place]
    torch.testing.assert_close(after, before)
    other[:, :, here + 1] += 1
    assert not torch.allclose(vocoder.filter(other, changed)[:, place], before, atol=1e-4)


@torch.no_grad()
def test_short_spectra_are_one_piece():
    vocoder = make(SIZES[0])
    mel = torch.randn(1, 6, 50, generator=seeded(3))
    expected = vocoder.filter(mel, vocoder.source(vocoder.pitch(mel), seeded(4)))
    assert torch.equal(vocoder(mel, seeded(4)), expected)


@torch.no_grad()
def test_a_tone_is_as_clean_after_an_hour_as_at_the_start():
    """The sum of turns of an hour has no digits left for where in its turn a sine is; carried on it needs none."""
    source = HarmonicSource(VocoderConfig(num_harmonics=1), 22050)
    source.merge.weight.copy_(torch.tensor([[1.0, 0.0]]))
    source.merge.bias.zero_()
    pitch = torch.full((1, 86), 200.3)
    hour = torch.tensor(200.3 * 3600).float() % 1
    turns = harmonic_turns(pitch.repeat_interleave(256, 1), 1, 22050, hour.reshape(1, 1, 1))
    start = harmonic_turns(pitch.repeat_interleave(256, 1), 1, 22050)
    apart = (turns - start - hour + 0.5) % 1 - 0.5
    assert apart.abs().max() < 1e-4
    made = list(source.stretches([pitch] * 5, seeded(0)))
    joined, once = torch.cat(made, 1)[0], source(pitch.repeat(1, 5), seeded(0))[0]
    # The noise is drawn otherwise, and is three hundredths of the sines.
    assert (joined - once).abs().max() < 0.05
    borders = torch.arange(1, 5) * 86 * 256
    steps = joined.diff().abs()
    assert steps[borders - 1].max() <= steps.max()
    assert steps.max() < 0.05
