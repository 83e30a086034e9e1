"""A StableToken that fits in a test, its decoder, and something to say."""

import dataclasses

import torch

from zoo.components.quantizers import VotingLFQConfig
from zoo.families.stabletoken import StableTokenConfig, StableTokenTokenizer
from zoo.families.stabletoken.decoder import ConformerConfig, DecoderConfig, UNetConfig, VocoderConfig
from zoo.families.stabletoken.decoder.speech import SpeechDecoder

TINY = StableTokenConfig(
    d_model=32,
    num_heads=2,
    ffn_size=64,
    num_layers=2,
    num_layers_after=1,
    num_mel=16,
    max_positions=100,
    pooling_position=2,
    quantizer=VotingLFQConfig(dim=32, num_bits=6),
)


def make(seed=0, **changes):
    torch.manual_seed(seed)
    return StableTokenTokenizer(dataclasses.replace(TINY, **changes)).eval()


def speech(count, seed=0):
    """Something with pitch, pauses and noise."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(count) / 16000
    pitches = 80 + 400 * torch.rand(4, generator=generator)
    tones = sum(torch.sin(2 * torch.pi * pitch * (1 + 0.2 * torch.sin(3 * t)) * t) for pitch in pitches)
    return 0.1 * tones * torch.sin(7 * t).abs() + 0.01 * torch.randn(count, generator=generator)


TINY_DECODER = DecoderConfig(
    codebook_size=64,
    num_mel=8,
    speaker_size=6,
    conformer=ConformerConfig(width=16, num_heads=2, ffn_size=24, num_blocks=2, block_size=4),
    unet=UNetConfig(channels=(16, 24), num_layers=1, num_middle=2, num_heads=3, head_size=4),
    vocoder=VocoderConfig(channels=16, pitch_channels=12),
)


def make_decoder(seed=0, pitch=120.0, **changes):
    """A decoder of random weights with a voice of some pitch in Hz."""
    torch.manual_seed(seed)
    decoder = SpeechDecoder(dataclasses.replace(TINY_DECODER, **changes)).eval()
    with torch.no_grad():
        decoder.vocoder.pitch.out.bias.fill_(pitch)
        decoder.vocoder.pitch.out.weight.mul_(50)
    return decoder


def some_ids(count, seed=0):
    return torch.randint(64, (count,), generator=torch.Generator().manual_seed(seed))


def seeded(seed):
    return torch.Generator().manual_seed(seed)
