"""What every family promises (`zoo.testing`), over all of them: a family contributes a tokenizer and signals."""

import pytest
import torch
from tiny_flextok import make as make_flextok
from tiny_flextok import picture
from tiny_larp import clip
from tiny_larp import make as make_larp
from tiny_ssdd import FSQ
from tiny_ssdd import make as make_ssdd
from tiny_ssdd_decoder import make as make_ssdd_decoder
from tiny_stabletoken import TINY_DECODER, speech
from tiny_stabletoken import make as make_stabletoken
from tiny_textok import make as make_textok

import zoo
from zoo import registry
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import parse
from zoo.errors import TokenError
from zoo.families.autoencoder_kl import AutoencoderKLConfig, AutoencoderKLTokenizer
from zoo.spec import NoOptions, option_names
from zoo.testing import CHECKS
from zoo.tokens import Latents


def _motion(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, 4, generator=generator).cumsum(0).mul(0.05).clamp(-1, 1)


def _autoencoder(**quantizer):
    torch.manual_seed(0)
    conv = ConvConfig(block_channels=(8, 12), layers_per_block=1, norm_groups=4)
    return AutoencoderKLTokenizer(AutoencoderKLConfig(16, conv, parse(quantizer))).eval()


# A tokenizer, a maker of one item of a length, or of a seed where items are of one size, and some that are worth a try.
FAMILIES = {
    "autoencoder_kl": (lambda: _autoencoder(kind="fsq", levels=[8, 5, 5]), picture, (0, 1, 2)),
    "beast": (lambda: zoo.load("beast"), _motion, (20, 1, 47, 60)),
    "binning": (lambda: zoo.load("binning"), _motion, (20, 1, 47, 60)),
    "fast": (lambda: zoo.load("fast"), _motion, (20, 1, 47, 60)),
    "flextok": (make_flextok, picture, (0, 1, 2)),
    "larp": (make_larp, clip, (0, 1, 2)),
    "ssdd": (lambda: make_ssdd(FSQ), picture, (0, 1, 2)),
    "ssdd_decoder": (make_ssdd_decoder, picture, (0, 1, 2)),
    "stabletoken": (lambda: make_stabletoken(decoder=TINY_DECODER), speech, (3000, 641, 1, 1280)),
    "textok": (make_textok, picture, (0, 1, 2)),
}


CASES = FAMILIES | {
    "continuous": (lambda: _autoencoder(kind="gaussian", dim=3), picture, (0, 1, 2)),
    "continuous ssdd": (make_ssdd, picture, (0, 1, 2)),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request):
    make, signal, lengths = CASES[request.param]
    return make(), [signal(length) for length in lengths]


def test_every_family_is_here():
    assert set(FAMILIES) == set(registry._BUILT_IN)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(case, check, tmp_path):
    check(*case, tmp_path)


def test_nothing_is_an_option_of_what_has_none():
    assert option_names(NoOptions) == frozenset()


class TestLatents:
    def test_another_tokenizers_are_refused(self):
        beast = zoo.load("beast")
        latents = beast.encode_latents(_motion(20)[None])
        assert torch.equal(beast.decode_latents(latents), beast.decode_latents(latents.values))
        with pytest.raises(TokenError, match=r"made by 'other\.x'"):
            beast.decode_latents(Latents(latents.values, latents.lengths, "other.x"))

    def test_speech_is_quantized_from_them(self):
        tokenizer = make_stabletoken()
        waves = [speech(3000), speech(700)]
        latents = tokenizer.encode_latents(waves)
        tokens = tokenizer.encode(waves)
        assert torch.equal(latents.lengths, tokens.lengths)
        assert torch.equal(latents.signal_lengths, tokens.signal_lengths)
        rows = [row[None, :length] for row, length in zip(latents.values, (5, 2), strict=True)]
        found = [tokenizer.quantizer.ids(row)[0].tolist() for row in rows]
        assert found == tokens.tolist()
