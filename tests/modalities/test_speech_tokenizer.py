"""What a speech family gets from its base: counts, lengths, and options of reading that do what they say."""

import numpy as np
import pytest
import torch
import toy
from tiny_stabletoken import make, speech

from zoo.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def tokenizer():
    return make()


@pytest.fixture
def stereo():
    return torch.stack([speech(2000), speech(2000, seed=1)])


class TestChannels:
    def test_s4_channels_of_a_bare_tensor_are_refused_with_the_remedy(self, tokenizer, stereo):
        with pytest.raises(InputError, match=r"pass \(wave, rate\)"):
            tokenizer.encode(stereo, mix_down=True)
        mixed = tokenizer.encode((stereo, 16000), mix_down=True)
        assert mixed.equal(tokenizer.encode(stereo.mean(0)))
        assert len(tokenizer.encode(stereo)) == 2

    @pytest.mark.parametrize(
        "form",
        [lambda x: x.numpy(), lambda x: (x * 32767).to(torch.int16), lambda x: [x], lambda x: x.numpy().astype(">f4")],
        ids=["array", "PCM", "in a list", "foreign byte order"],
    )
    def test_s4_of_every_form(self, tokenizer, stereo, form):
        with pytest.raises(InputError, match=r"pass \(wave, rate\)"):
            tokenizer.encode(form(stereo), mix_down=True)

    def test_s4_of_latents(self, tokenizer, stereo):
        with pytest.raises(InputError, match=r"pass \(wave, rate\)"):
            tokenizer.encode_latents(stereo, mix_down=True)

    def test_s4_a_batch_with_lengths_has_no_channels_either(self, tokenizer, stereo):
        with pytest.raises(InputError, match="leave mix_down out"):
            tokenizer.encode(stereo, torch.tensor([2000, 900]), mix_down=True)

    def test_what_has_one_row_needs_no_remedy(self, tokenizer, stereo):
        expected = tokenizer.encode(stereo[0])
        for x in (stereo[0], stereo[:1], [stereo[0]], (np.asarray(stereo[0]), 16000)):
            assert tokenizer.encode(x, mix_down=True).equal(expected)


class TestCounts:
    def test_tokens_and_samples(self):
        tok = toy.make("speech")
        assert tok.token_samples == 4
        assert [tok.num_tokens(length) for length in (1, 4, 5)] == [1, 1, 2]
        tokens = tok.encode([torch.zeros(5), torch.zeros(8)])
        assert tok.output_lengths(tokens).tolist() == [5, 8]
        assert tok.output_lengths(tokens, 24000).tolist() == [8, 12]
        with pytest.raises(ConfigError, match="whole number of Hz"):
            tok.output_lengths(tokens, 0)

    def test_a_segment_is_not_all_overlap(self, tokenizer):
        longest = tokenizer.segment_tokens / 25
        with pytest.raises(ConfigError, match="overlap must be at most"):
            tokenizer.encode(speech(2000), overlap=longest)
