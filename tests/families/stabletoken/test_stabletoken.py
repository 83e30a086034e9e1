"""StableToken: sizes, counts, features, the encoder, the vote."""

import dataclasses

import numpy as np
import pytest
import stabletoken_reference as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_stabletoken import make, speech

import zoo
from zoo import registry
from zoo.components.exact.one_by_one import canonical
from zoo.components.quantizers import VotingLFQConfig
from zoo.families.stabletoken import PRESETS, StableTokenTokenizer


class TestSizes:
    @pytest.mark.parametrize(
        ("voters", "expected"), [(1, 320_261_120), (3, 320_294_400), (5, 320_327_680), (7, 320_360_960)]
    )
    def test_published_parameter_counts(self, voters, expected):
        # Table 12 of the paper, which counts neither the fixed positions nor the norm behind the quantizer.
        voting = VotingLFQConfig(dim=1280, num_voters=voters, num_clean=voters // 2 + 1)
        config = dataclasses.replace(PRESETS["large"], quantizer=voting)
        with torch.device("meta"):
            assert StableTokenTokenizer(config).num_parameters == expected

    def test_spec(self):
        with torch.device("meta"):
            tokenizer = StableTokenTokenizer(PRESETS["large"])
        spec = tokenizer.spec
        assert (spec.codebook_size, spec.num_codebooks, spec.token_rate, spec.sample_rate) == (8192, 1, 25, 16000)
        assert spec.bits_per_token == 13
        assert spec.bit_rate == 325
        assert not spec.is_fixed_length

    def test_nano_is_half_of_whisper_tiny(self):
        config = PRESETS["nano"]
        assert (config.d_model, config.num_heads, config.num_mel) == (384, 6, 80)
        assert (config.num_layers, config.num_layers_after) == (2, 2)
        with torch.device("meta"):
            assert StableTokenTokenizer(config).num_parameters == 4_113_408

    def test_family_is_registered(self):
        assert registry.family("stabletoken") is StableTokenTokenizer


class TestCounts:
    def test_every_length(self):
        tokenizer = make(max_positions=1500)
        segment = 480_000
        for length in [*range(1, 200_001), segment - 1, segment, segment + 1, 3 * segment + 641]:
            whole, rest = divmod(length, segment)
            assert tokenizer.num_tokens(length) == 750 * whole + (rest + 639) // 640

    @pytest.mark.parametrize(("length", "count"), [(1, 1), (640, 1), (641, 2), (16000, 25), (16001, 26)])
    def test_published_counts(self, length, count):
        tokenizer = make(max_positions=1500)
        assert tokenizer.num_tokens(length) == count
        assert tokenizer.encode(speech(length)).ids.shape == (1, count)

    def test_thirty_seconds(self):
        tokenizer = make(max_positions=1500)
        assert tokenizer.encode(speech(480_000)).lengths.tolist() == [750]

    @given(length=st.integers(1, 80_000), kernel=st.sampled_from([1, 2, 4]), causal=st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_encode_agrees_with_num_tokens(self, length, kernel, causal):
        tokenizer = make(pooling_kernel=kernel, causal_convolution=causal)
        tokens = tokenizer.encode(speech(length))
        assert tokens.lengths.tolist() == [tokenizer.num_tokens(length)]
        assert tokens.ids.shape == (1, tokenizer.num_tokens(length))
        assert tokenizer.output_lengths(tokens).tolist() == [length]
        assert 0 <= int(tokens.ids.min()) <= int(tokens.ids.max()) < 64

    def test_a_hundredth_of_a_second(self):
        assert make().encode(speech(160)).lengths.tolist() == [1]

    def test_long_speech_is_cut_into_segments(self):
        tokenizer = make()
        wave, segment = speech(100_001), 32_000
        whole = tokenizer.encode(wave).tolist()[0]
        parts = [tokenizer.encode(wave[start : start + segment]).tolist()[0] for start in range(0, len(wave), segment)]
        assert whole == [number for part in parts for number in part]
        assert len(parts[0]) == 50
        assert len(parts) == 4

    def test_output_lengths_without_the_signal(self):
        tokenizer = make()
        tokens = zoo.Tokens.from_ids([[1, 2, 3], [4]], codebook_size=64)
        assert tokenizer.output_lengths(tokens).tolist() == [1920, 640]


class TestFeatures:
    @pytest.mark.parametrize("count", [1, 160, 639, 640, 641, 5000, 40_000])
    def test_whisper_log_mel(self, count):
        tokenizer = make(num_mel=80)
        wave = speech(count)
        mel = tokenizer.features.alone(wave)[0]
        expected = reference.log_mel(wave.numpy(), 80)
        assert mel.shape == expected.shape
        assert np.abs(mel.numpy() - expected).max() < 2e-4  # of float32 sums, near the floor of eight decades

    def test_silence_is_at_the_floor(self):
        assert make().features.alone(torch.zeros(1000)).unique().tolist() == [-1.5]

    def test_batches_do_not_mix(self):
        features = make().features
        waves = torch.rand(3, 5000) * 2 - 1
        lengths = torch.tensor([5000, 161, 640])
        mel, frames = features(waves, lengths)
        assert mel.shape == (3, 16, 32)
        assert frames.tolist() == [32, 2, 4]
        for row, wave, length in zip(mel, waves, lengths.tolist(), strict=True):
            own = features.alone(wave[:length])[0]
            assert torch.equal(row[:, : own.shape[1]], own)
            assert not row[:, own.shape[1] :].any()

    def test_positions(self):
        table = make(d_model=384, max_positions=1500, quantizer=VotingLFQConfig(dim=384, num_bits=6)).encoder.positions
        assert table.shape == (1500, 384)
        assert table[0].unique().tolist() == [0, 1]
        assert table[7, 0] == pytest.approx(np.sin(7))
        assert table[1499, 383] == pytest.approx(np.cos(0.1499))
        assert table[100, 192 + 10] == pytest.approx(np.cos(100 * 10_000 ** (-10 / 191)), abs=1e-6)


class TestEncoder:
    @pytest.mark.parametrize("causal", [False, True])
    @pytest.mark.parametrize("pooling_position", [1, 2])
    def test_padded_batches_agree_with_items_alone(self, causal, pooling_position):
        tokenizer = make(causal_convolution=causal, pooling_position=pooling_position)
        lengths = torch.tensor([32_000, 1, 641, 17_000, 320, 321])
        mel, frames = tokenizer.features(torch.stack([speech(32_000, seed) for seed in range(6)]), lengths)
        garbage = mel + torch.rand_like(mel) * (torch.arange(mel.shape[2]) >= (-(-frames // 4) * 4)[:, None])[:, None]
        with torch.no_grad():
            x, mask = tokenizer.encoder(garbage, frames)
            items = [m[None, :, : -(-f // 4) * 4] for m, f in zip(mel, frames.tolist(), strict=True)]
            alone = canonical(torch.device("cpu"), 2, lambda run: tokenizer.encoder.apart(items, frames.tolist(), run))
        assert mask.sum(1).tolist() == [-(-length // 640) for length in lengths.tolist()]
        for row, own_mask, own in zip(x, mask, alone, strict=True):
            assert torch.allclose(row[own_mask], own[0], atol=1e-5)

    def test_causal_convolutions_do_not_look_ahead(self):
        encoder = make(causal_convolution=True).encoder
        mel = torch.randn(1, 16, 40)
        later = mel.clone()
        later[:, :, 21:] += 1
        with torch.no_grad():
            first, second = encoder.stem(mel), encoder.stem(later)
        assert torch.equal(first[:, :11], second[:, :11])
        assert not torch.equal(first[:, 11], second[:, 11])

    def test_gradients_reach_every_parameter_before_the_quantizer(self):
        encoder = make().encoder
        encoder(torch.randn(2, 16, 8), torch.tensor([8, 5]))[0].square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


class TestVote:
    @pytest.mark.parametrize(
        ("votes", "expected"),
        [
            ([5533, 5517, 5517, 5517, 5533], 5517),
            ([3485, 3517, 3517, 3485, 3357], 3485),
            ([2920, 2920, 2912, 2920, 2920], 2920),
            ([6939, 6939, 6943, 7003, 6939], 6939),
        ],
    )
    def test_published_votes(self, tmp_path, votes, expected):
        # Table 6 of the paper, through the released layout: branch i reads its own 13 of 66 inputs.
        config = reference.RELEASED | {"d_model": 66, "quantize_vocab_size": 8192}
        tensors = reference.random_tensors(config)
        z = torch.zeros(1, 66)
        for i, vote in enumerate(votes):
            weight = torch.zeros(13, 66)
            weight[torch.arange(13), 13 * i + torch.arange(13)] = 1
            tensors[f"quantizer.project_in.{i}.weight"] = weight
            z[0, 13 * i : 13 * i + 13] = torch.tensor([1.0 if vote >> j & 1 else -1.0 for j in range(13)])
        tokenizer = zoo.load(reference.write(tmp_path / "x", config, tensors))
        assert tokenizer.quantizer.ids(z).tolist() == [expected]
