"""Cards of tokenizers of pictures: continuous ones have no ids, ordered ones trained lengths, and none has a rate."""

import tiny_flextok
import toy

from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import FSQConfig, GaussianConfig
from zoo.families.autoencoder_kl.config import AutoencoderKLConfig
from zoo.families.autoencoder_kl.tokenizer import AutoencoderKLTokenizer
from zoo.hub.card import card_for, facts

CONV = ConvConfig(block_channels=(4, 8), layers_per_block=1, norm_groups=4)


def autoencoder(quantizer):
    return AutoencoderKLTokenizer(AutoencoderKLConfig(image_size=16, conv=CONV, quantizer=quantizer)).eval()


def test_a_continuous_tokenizer_has_latents_and_no_codebook():
    card = card_for(autoencoder(GaussianConfig(dim=5)))
    assert "| latents | 5 numbers each; there is no codebook |" in card
    assert "| latents for it | 64 |" in card
    assert 'latents = tok.encode_latents("picture.png")\nsignal = tok.decode_latents(latents)' in card
    assert "tok.encode(" not in card
    assert "codebook |" not in card.replace("no codebook |", "")


def test_pictures_have_bits_and_no_rates():
    found = facts(autoencoder(FSQConfig(levels=(4, 4))))
    assert "| bits for it | 256, 1 a pixel |" in found
    assert "| tokens for it | 64 |" in found
    assert "rate" not in found
    assert "bit rate" in facts(toy.make("speech"))


def test_trained_lengths_of_ordered_ones():
    assert "| first tokens that training kept | 1, 2, 4, 8 |" in facts(tiny_flextok.make())
