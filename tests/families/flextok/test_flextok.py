"""FlexTok: the published sizes, registers in order, prefixes, guided decoding, bounds on the error, bad arguments."""

import dataclasses

import pytest
import torch
from tiny_flextok import CONFIG, make, picture

import zoo
from zoo.components.flow import Adaptive
from zoo.errors import ConfigError, InputError, TokenError
from zoo.families.flextok import FlexTokConfig, FlexTokTokenizer, TrunkConfig

UNTRAINED = "was not trained to decode"


@pytest.fixture(scope="module")
def tokenizer():
    return make()


@pytest.fixture(scope="module")
def images():
    return torch.stack([picture(seed) for seed in range(4)])


@pytest.mark.parametrize(
    ("depths", "parameters", "keys"),
    [((12, 12), 341_651_737, 462), ((18, 18), 949_734_553, 558), ((18, 28), 2_540_882_841, 648)],
    ids=["d12_d12", "d18_d18", "d18_d28"],
)
def test_sizes_are_the_published_ones(depths, parameters, keys):
    encoder, decoder = (TrunkConfig(depth=depth, width=64 * depth) for depth in depths)
    with torch.device("meta"):
        tokenizer = FlexTokTokenizer(FlexTokConfig(encoder=encoder, decoder=decoder))
    state = tokenizer.state_dict()
    assert (sum(tensor.numel() for tensor in state.values()), len(state)) == (parameters, keys)
    assert tokenizer.encoder.resampler.registers.transformer.config.block.mlp_size == int(encoder.width * 8 / 3)


def test_spec(tokenizer):
    spec = tokenizer.spec
    assert (spec.codebook_size, spec.num_tokens, spec.is_ordered) == (64000, 8, True)
    assert spec.trained_lengths == (1, 2, 4, 8)
    assert spec.to_dict()["trained_lengths"] == [1, 2, 4, 8]
    assert make(dataclasses.replace(CONFIG, nested_dropout="uniform")).spec.trained_lengths is None


def test_registers_see_patches_and_the_registers_before_them(tokenizer, images):
    resampler = tokenizer.encoder.resampler
    before = tokenizer.encode_latents(images).values
    place = 5
    with torch.no_grad():
        kept = resampler.registers.queries.clone()
        resampler.registers.queries[place] += torch.linspace(-1, 1, kept.shape[1])  # a constant, the norm would hide
        after = tokenizer.encode_latents(images).values
        resampler.registers.queries.copy_(kept)
    assert torch.equal(before[:, :place], after[:, :place])
    assert (before[:, place:] - after[:, place:]).abs().amax((0, 2)).min() > 1e-4


def test_the_posterior_s_mean_is_taken_and_scaled(tokenizer, images):
    moments = tokenizer.encoder.autoencoder(2 * images - 1)
    assert torch.equal(tokenizer.encoder.latents(2 * images - 1), moments[:, :3] * 0.7)


class TestPrefixes:
    def test_what_is_cut_off_does_not_matter(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        other = dataclasses.replace(tokens, ids=tokens.ids.roll(1, 0))
        mixed = torch.cat([tokens.ids[:, :4], other.ids[:, 4:]], 1)
        assert torch.equal(tokenizer.decode(tokens[:, :4]), tokenizer.decode(mixed, torch.full((4,), 4)))
        assert not torch.equal(tokenizer.decode(tokens), tokenizer.decode(mixed))

    def test_a_masked_token_stands_in_place_and_has_no_position(self, tokenizer):
        flow = tokenizer.decoder.flow
        made = flow.registers(torch.zeros(2, 8, 6), torch.tensor([2, 8]))
        assert torch.equal(made[0, 2:], flow.mask_token.expand(6, -1))
        assert torch.equal(made[0, :2], made[1, :2])
        assert torch.equal(flow.registers(torch.zeros(1, 2, 6), torch.tensor([2]))[0], made[0])

    def test_lengths_may_differ_in_a_batch(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        mixed = tokenizer.decode(tokens.truncate([1, 8, 2, 4]))
        alone = [tokenizer.decode(tokens[row : row + 1].truncate([n]))[0] for row, n in enumerate((1, 8, 2, 4))]
        torch.testing.assert_close(mixed, torch.stack(alone))

    def test_num_tokens_is_a_slice(self, tokenizer, images):
        assert tokenizer.encode(images, num_tokens=2).equal(tokenizer.encode(images)[:, :2])

    def test_a_length_that_was_not_trained_warns_once(self, images):
        tokenizer = make()
        tokens = tokenizer.encode(images)
        with pytest.warns(UserWarning, match=f"{UNTRAINED} 3 tokens.*trained on 1, 2, 4, 8"):
            tokenizer.decode(tokens[:, :3])
        tokenizer.decode(tokens[:, :5])

    def test_the_shortest_that_is_good_enough(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        errors = torch.stack([(tokenizer.decode(tokens[:, :n]) - images).square().mean((1, 2, 3)) for n in (1, 2, 4)])
        bound = errors.flatten().median().item()
        expected = [next((n for n, e in zip((1, 2, 4), column, strict=True) if e <= bound), 8) for column in errors.T]
        assert len(set(expected)) > 1
        with pytest.warns(UserWarning, match="keep 8 tokens"):
            found = tokenizer.encode(images, max_error=bound)
        assert found.lengths.tolist() == expected
        assert found.equal(tokens.truncate(expected))
        assert tokenizer.encode(images, max_error=9).lengths.tolist() == [1] * 4

    def test_error_need_not_fall_with_the_length(self, tokenizer, images):
        # 2 tokens are bad, 1 and 4 are good: the search says 1, whatever comes after.
        found = tokenizer.encode(images, num_tokens=4, max_error=0.5, measure=lambda made, x: x.new_zeros(len(x)))
        assert found.lengths.tolist() == [1] * 4

    def test_a_bound_counts_for_the_decoding_that_is_named(self, tokenizer, images):
        calls = []

        def measure(made, original):
            calls.append(made)
            return original.new_ones(len(original))

        with pytest.warns(UserWarning, match="4 of 4 images"):
            tokenizer.encode(images, num_tokens=1, max_error=0.1, measure=measure, decoding={"steps": 1, "seed": 3})
        assert torch.equal(calls[0], tokenizer.decode(tokenizer.encode(images)[:, :1], steps=1, seed=3))


class TestDecoding:
    def test_noise_is_the_image_s_own(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        torch.testing.assert_close(tokenizer.decode(tokens)[2:3], tokenizer.decode(tokens[2:3]))
        noise = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
        given = tokenizer.decode(tokens, noise=noise)
        drawn = tokenizer.decode(tokens, generator=torch.Generator().manual_seed(5))
        assert not torch.equal(given, tokenizer.decode(tokens))
        singly = torch.Generator().manual_seed(5)
        one_by_one = torch.stack([torch.randn(3, 8, 8, generator=singly) for _ in range(4)])
        assert torch.equal(drawn, tokenizer.decode(tokens, noise=one_by_one))

    def test_no_guidance_is_a_scale_of_one(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        assert torch.equal(tokenizer.decode(tokens, guidance=1), tokenizer.decode(tokens, guidance=lambda t: 1.0))
        assert not torch.equal(tokenizer.decode(tokens, guidance=1), tokenizer.decode(tokens))

    def test_constants_of_adaptive_guidance(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        plain = tokenizer.decode(tokens, guidance=4, adaptive_guidance=False)
        adaptive = tokenizer.decode(tokens, guidance=4, adaptive_guidance=True)
        same = {"momentum": -0.5, "threshold": 2.5, "parallel": 0.0}
        assert torch.equal(tokenizer.decode(tokens, guidance=4, adaptive_guidance=same), adaptive)
        assert torch.equal(tokenizer.decode(tokens, guidance=4, adaptive_guidance=Adaptive()), adaptive)
        assert not torch.equal(adaptive, plain)
        nothing = Adaptive(momentum=0.0, threshold=None, parallel=1.0)
        torch.testing.assert_close(tokenizer.decode(tokens, guidance=4, adaptive_guidance=nothing), plain)

    def test_the_null_pass_ignores_tokens(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        nothing = {"guidance": 0.0, "adaptive_guidance": False}
        made = tokenizer.decode(tokens, **nothing)
        torch.testing.assert_close(made, tokenizer.decode(tokens[:1], **nothing).expand_as(made))

    def test_latents_decode_as_their_tokens(self, tokenizer, images):
        latents = tokenizer.encode_latents(images)
        torch.testing.assert_close(tokenizer.decode_latents(latents), tokenizer.decode(tokenizer.encode(images)))

    def test_an_autocast_changes_nothing(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        with torch.autocast("cpu", torch.bfloat16):
            assert tokenizer.encode(images).equal(tokens)
            assert torch.equal(tokenizer.decode(tokens), tokenizer.decode(tokens))
        with torch.autocast("cpu", torch.bfloat16):
            inside = tokenizer.decode(tokens)
        assert torch.equal(inside, tokenizer.decode(tokens))


class TestFast:
    def test_the_autoencoder_stays_in_float32(self, images, tmp_path):
        zoo.save(make(), tmp_path / "x")
        fast = zoo.load(tmp_path / "x", exact=False, dtype=torch.bfloat16)
        assert fast.encoder.autoencoder.conv_in.weight.dtype == torch.float32
        assert fast.decoder.flow.project.weight.dtype == torch.bfloat16
        exact = zoo.load(tmp_path / "x")
        decoded = fast.decode(exact.encode(images).ids)
        assert decoded.dtype == torch.float32
        assert (decoded - exact.decode(exact.encode(images))).abs().mean() < 0.05
        assert fast.encode(images).ids.shape == (4, 8)


def test_it_encodes_without_its_decoder(images, tmp_path):
    zoo.save(make(), tmp_path / "x")
    half = zoo.load(tmp_path / "x", decoder=False)
    assert half.encode(images).equal(zoo.load(tmp_path / "x").encode(images))
    for call in (lambda: half.decode(half.encode(images)), lambda: half.encode(images, max_error=0.1)):
        with pytest.raises(TokenError, match="without its decoder"):
            call()


BAD_DECODING = {
    "steps of none": ({"steps": 0}, ConfigError, "num_steps"),
    "half a step": ({"steps": 2.5}, ConfigError, "whole number"),
    "guidance of words": ({"guidance": "much"}, ConfigError, "guidance must be a number"),
    "guidance of NaN": ({"guidance": float("nan")}, ConfigError, "guidance must be a number"),
    "adaptive words": ({"adaptive_guidance": "yes"}, ConfigError, "its constants"),
    "an unknown constant": ({"adaptive_guidance": {"eta": 1}}, ConfigError, "eta"),
    "noise of another size": ({"noise": torch.zeros(4, 3, 4, 4)}, InputError, r"\(4, 3, 8, 8\)"),
    "noise and a generator": (
        {"noise": torch.zeros(4, 3, 8, 8), "generator": torch.Generator()},
        InputError,
        "pass no generator",
    ),
    "too few generators": ({"generator": [torch.Generator()]}, InputError, "got 1 for 4"),
}


@pytest.mark.parametrize("case", BAD_DECODING)
def test_bad_decoding_is_refused(tokenizer, images, case):
    options, error, message = BAD_DECODING[case]
    with pytest.raises(error, match=message):
        tokenizer.decode(tokenizer.encode(images), **options)


BAD_ENCODING = {
    "no tokens": ({"num_tokens": 0}, TokenError, "1 to 8"),
    "too many": ({"num_tokens": 9}, TokenError, "1 to 8"),
    "a negative bound": ({"max_error": -1.0}, ConfigError, "at least 0"),
    "a bound of NaN": ({"max_error": float("nan")}, ConfigError, "at least 0"),
    "an unknown measure": ({"max_error": 0.1, "measure": "mes"}, ConfigError, "mse"),
    "unknown decoding": ({"max_error": 0.1, "decoding": {"step": 3}}, ConfigError, "steps"),
    "a mean over the batch": ({"max_error": 0.1, "measure": lambda a, b: (a - b).mean()}, ConfigError, "an error an"),
}


@pytest.mark.parametrize("case", BAD_ENCODING)
def test_bad_encoding_is_refused(tokenizer, images, case):
    options, error, message = BAD_ENCODING[case]
    with pytest.raises(error, match=message):
        tokenizer.encode(images, **options)


def test_too_many_tokens_are_refused(tokenizer):
    with pytest.raises(TokenError, match="1 to 8 tokens"):
        tokenizer.decode(torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(TokenError, match="1 to 8 tokens"):
        tokenizer.decode(torch.zeros(2, 8, dtype=torch.int64), torch.tensor([8, 0]))


def test_its_autoencoder_can_be_had_alone(tokenizer, images):
    latents = tokenizer.encoder.latents(2 * images - 1)
    made = tokenizer.autoencode(images)
    assert made.shape == images.shape
    with torch.no_grad():
        torch.testing.assert_close(made, ((tokenizer.decoder.pixels(latents) + 1) / 2).clamp(0, 1))
    assert tokenizer.has_autoencoder


BAD_CONFIGS = {
    "a size that patches do not fill": ({"image_size": 18}, "multiple of 4"),
    "no tokens": ({"num_tokens": 0}, "num_tokens"),
    "a scale of nothing": ({"scaling_factor": 0.0}, "scaling_factor"),
    "a dropout of its own": ({"nested_dropout": "pow3"}, "nested_dropout"),
    "grey": ({"autoencoder": {"block_channels": [8, 12], "norm_groups": 4, "image_channels": 1}}, "3 channels"),
    "heads that do not divide": ({"encoder": {"width": 24, "head_dim": 5}}, "head_dim"),
    "an odd width": ({"decoder": {"width": 30, "head_dim": 5}}, "multiple of 4"),
    "no layers": ({"decoder": {"depth": 0}}, "depth"),
    "an MLP of nothing": ({"decoder": {"mlp_ratio": 0.0}}, "mlp_ratio"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_config_is_refused(case):
    changes, message = BAD_CONFIGS[case]
    with pytest.raises(ConfigError, match=message):
        zoo.config.from_dict(FlexTokConfig, zoo.config.to_dict(CONFIG) | changes, "config")


def test_equal_registers_are_one_that_counts_as_many(tokenizer, images):
    flow = tokenizer.decoder.flow
    codes = tokenizer.quantizer.codes(tokenizer.encode(images).ids)
    t, x = torch.rand(4), torch.randn(4, 3, 8, 8)
    for lengths in ([1, 1, 1, 1], [3, 1, 2, 5], [8, 8, 8, 8], [7, 8, 1, 7]):
        counts = torch.tensor(lengths)
        (registers, copies), (null, none) = flow.condition(codes, counts)
        assert registers.shape[1] == min(max(lengths) + 1, 8)
        assert copies.sum(1).tolist() == [8] * 4
        plain = flow(x, t, flow.registers(codes, counts))
        torch.testing.assert_close(flow(x, t, registers, copies), plain, rtol=1e-4, atol=1e-5)
        unconditional = flow(x, t, null.expand_as(registers), none.expand_as(copies))
        torch.testing.assert_close(unconditional, flow(x, t, null.expand(4, 8, -1)), rtol=1e-4, atol=1e-5)
