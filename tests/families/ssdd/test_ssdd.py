"""SSDD: published sizes, what the decoder knows and what not, its sampler, ids, and bad input."""

from dataclasses import replace

import pytest
import torch
from ssdd_counts import DECODERS, ENCODERS, PAIRS
from tiny_ssdd import CONTINUOUS, DECODER, ENCODER, FSQ, fill, make

import zoo
from zoo.components.flow import Power, Solver, sample
from zoo.components.layers.modulation import AdaGN
from zoo.components.quantizers import GaussianConfig, parse
from zoo.errors import ConfigError, InputError, TokenError
from zoo.families.ssdd import SIZES, DecoderConfig, SSDDConfig, SSDDTokenizer
from zoo.families.ssdd.config import encoder_config
from zoo.families.ssdd.decoder import PATH
from zoo.families.ssdd.unet import ConditionedBlock, PixelUNet
from zoo.process.fresh import fresh

HEADS = {"XS": 4, "S": 4, "B": 4, "M": 4, "L": 6, "XL": 8, "H": 12, "XH": 16, "G": 16}


def pictures(count, height=16, width=16, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


def network(config=DECODER, channels=3, seed=0):
    torch.manual_seed(seed)
    made = PixelUNet(config, channels).eval()
    fill(made)
    return made


class TestSizes:
    @pytest.mark.parametrize(("factor", "channels"), PAIRS)
    def test_pairs(self, factor, channels):
        config = SSDDConfig(None, encoder_config(factor), channels, GaussianConfig(channels))
        with fresh("meta"):
            encoder = SSDDTokenizer(config, decoder=False).num_parameters
            found = {size: encoder + count(PixelUNet(SIZES[size], channels)) for size in PAIRS[factor, channels]}
            assert SSDDTokenizer(config).num_parameters == found["S"]
        assert found == PAIRS[factor, channels]

    @pytest.mark.parametrize("size", ["XS", "H", "XH", "G"])
    def test_decoders_that_are_in_no_pair(self, size):
        with fresh("meta"):
            assert count(PixelUNet(DecoderConfig.of_size(size), 4)) == DECODERS[size]

    @pytest.mark.parametrize(("factor", "channels"), ENCODERS)
    def test_encoders(self, factor, channels):
        config = SSDDConfig(None, encoder_config(factor), channels, GaussianConfig(channels))
        with fresh("meta"):
            assert SSDDTokenizer(config, decoder=False).num_parameters == ENCODERS[factor, channels]

    def test_decoders_of_pairs(self):
        decoders = {size: count - ENCODERS[8, 4] for size, count in PAIRS[8, 4].items()}
        assert decoders == {size: DECODERS[size] for size in decoders}

    def test_widths_are_rounded_up(self):
        assert SIZES["S"].widths == (64, 96, 160, 160)
        assert SIZES["S"].window == 8
        assert {size: config.heads for size, config in SIZES.items()} == HEADS
        with pytest.raises(ConfigError, match="no size 'XXL'"):
            DecoderConfig.of_size("XXL")


class TestNetwork:
    def test_what_it_starts_from(self):
        torch.manual_seed(0)
        made = PixelUNet(DECODER, 3)
        blocks = [module for module in made.modules() if isinstance(module, ConditionedBlock)]
        assert len(blocks) == 3 * (1 + 2)
        for block in blocks:
            x = torch.randn(1, block.conv1.in_channels, 4, 4)
            branch = block(x, torch.randn(1, 8, 2, 2), torch.randn(1, 32))
            assert torch.equal(branch, block.conv_shortcut(x))
        for layer in made.middle.layers:
            assert not layer.block.mlp(torch.randn(2, 16)).any()
            assert not layer.bias.table.any()
            # One map of 8D rows in the authors' code: Xavier's bound is that of both halves together.
            assert 0.9 < layer.block.mlp.up.weight.abs().max() / (6 / (9 * 16)) ** 0.5 <= 1

    def test_epsilons(self):
        made = PixelUNet(DECODER, 3)
        assert made.middle.norm.eps == 1e-6
        assert made.norm_out.eps == 1e-5
        assert {module.norm.eps for module in made.modules() if isinstance(module, AdaGN)} == {1e-5}
        layer = made.middle.layers[0].block
        assert layer.attention_norm.eps == layer.mlp_norm.eps == 1e-5
        assert make().encoder.conv.conv_norm_out.eps == 1e-6

    def test_scales_come_before_shifts_in_convolutions_and_after_them_in_the_transformer(self):
        made = network()
        block = made.down[0].blocks[0]
        x, context = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 2, 2)
        for norm, condition in ((block.norm1, context), (block.norm2, torch.randn(1, 32))):
            scale, shift = norm.projection(condition).chunk(2, 1)
            if scale.ndim == 4:
                scale, shift = (part.repeat_interleave(2, 2).repeat_interleave(2, 3) for part in (scale, shift))
            else:
                scale, shift = scale[..., None, None], shift[..., None, None]
            assert torch.allclose(norm(x, condition), norm.norm(x) * (1 + scale) + shift, atol=1e-6)
        modulation = made.middle.layers[0].block.modulation
        cell = torch.randn(1, 5, 8)
        shift, scale = modulation.linear(torch.nn.functional.silu(cell)).chunk(2, -1)
        parts = modulation(cell)
        assert torch.equal(parts["shift_attention"], shift)
        assert torch.equal(parts["scale_attention"], scale)

    def test_times_are_cosines_first(self):
        made, seen = network(), []
        made.time.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        made(torch.zeros(1, 3, 16, 16), torch.tensor([0.3]), torch.zeros(1, 3, 4, 4))
        rates = torch.tensor([10_000.0 ** (-i / 4) for i in range(4)])
        expected = torch.cat([(300 * rates).cos(), (300 * rates).sin()])
        assert torch.allclose(seen[0][0], expected, atol=1e-4)

    def test_the_transformer_knows_latents_and_no_time(self):
        made, parts = network(), []
        made.middle.layers[1].block.modulation.register_forward_hook(lambda _, __, output: parts.append(output))
        x, latents = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 4, 4)
        first = made(x, torch.tensor([0.2]), latents)
        later = made(x, torch.tensor([0.8]), latents)
        other = made(x, torch.tensor([0.2]), latents + 0.1)
        assert not torch.allclose(first, later)
        assert not torch.allclose(first, other)
        assert torch.equal(parts[0]["shift_attention"], parts[1]["shift_attention"])
        assert not torch.allclose(parts[0]["shift_attention"], parts[2]["shift_attention"])

    def test_tokens_past_the_window_do_not_see_each_other(self):
        torch.manual_seed(0)
        layer = network(replace(DECODER, window=8)).middle.layers[0]
        y = torch.randn(1, 20 * 3, 16)
        moved = y.clone()
        moved[:, 30] += 1.0  # row 10, column 0
        changed = (layer(y, (20, 3)) != layer(moved, (20, 3))).any(2).view(20, 3).any(1)
        assert changed.tolist() == [3 <= row <= 17 for row in range(20)]

    def test_a_table_that_changed_counts_at_once(self):
        made = network()
        arguments = torch.randn(1, 3, 16, 16), torch.tensor([0.5]), torch.randn(1, 3, 4, 4)
        before = made(*arguments)
        with torch.no_grad():
            made.middle.layers[0].bias.table += torch.randn(5, 5, 2)
        assert not torch.allclose(before, made(*arguments))

    @pytest.mark.parametrize("factor", [4, 8, 16])  # the tiny transformer has a token for 4 × 4 pixels
    @pytest.mark.parametrize("size", [(16, 16), (48, 16), (32, 64)])
    def test_latents_of_any_grid(self, factor, size):
        made, seen = network(), []
        latents = torch.randn(1, 3, size[0] // factor, size[1] // factor)
        made.middle.layers[0].block.register_forward_hook(lambda *_: None)
        made.middle.proj_in.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
        assert made(torch.randn(1, 3, *size), torch.tensor([0.5]), latents).shape == (1, 3, *size)
        assert seen == [size[0] * size[1] // 16]

    def test_states_are_those_of_the_layer(self):
        made = network()
        arguments = torch.randn(1, 3, 16, 16), torch.tensor([0.5]), torch.randn(1, 3, 4, 4)
        expected = []
        made.middle.layers[1].register_forward_hook(lambda _, __, output: expected.append(output))
        velocity, states = made.with_states(*arguments, 1)
        assert torch.equal(states, expected[0])
        assert torch.equal(velocity, made(*arguments))
        assert SIZES["S"].aligned_layer == SIZES["L"].aligned_layer == 4
        assert DECODER.aligned_layer == 1


def test_the_encoder_starts_as_published():
    weights = SSDDTokenizer(CONTINUOUS).encoder.conv.mid_block.resnets[0].conv1.weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_exact_velocities_give_the_picture(steps, power):
    data, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    made = sample(lambda x, t: data - noise, noise, PATH, Solver(steps, warp=Power(power)))
    assert torch.allclose(made, data, atol=1e-5)
    t = torch.tensor([0.3, 0.9])
    x = PATH.at(data, noise, t)
    assert torch.allclose(x, (1 - t.view(2, 1, 1, 1)) * data + t.view(2, 1, 1, 1) * noise)
    assert torch.equal(PATH.velocity(data, noise), data - noise)
    assert torch.allclose(x + t.view(2, 1, 1, 1) * (data - noise), data, atol=1e-6)


class TestDecoding:
    def test_steps_are_eulers_at_powers(self):
        tokenizer = make()
        latents, noise = tokenizer.encode_latents(pictures(2)), torch.randn(2, 3, 16, 16)
        x = noise
        with torch.no_grad():
            for now, later in ((1.0, 4 / 9), (4 / 9, 1 / 9), (1 / 9, 0.0)):
                x = x + (now - later) * tokenizer.decoder.unet(x, torch.full((2,), now), latents.maps)
        found = tokenizer.decode_latents(latents, steps=3, noise=noise, clamp=False)
        assert torch.allclose(found, (x + 1) / 2, atol=1e-5)

    def test_a_picture_does_not_depend_on_its_neighbours(self):
        tokenizer = make(FSQ)
        tokens = tokenizer.encode(pictures(3))
        whole = tokenizer.decode(tokens)
        assert torch.allclose(tokenizer.decode(tokens[2]), whole[2:], atol=1e-5)
        assert not torch.allclose(tokenizer.decode(tokens, seed=1), whole, atol=1e-3)
        drawn = tokenizer.decode(tokens, generator=torch.Generator().manual_seed(5))
        assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)

    def test_many_are_decoded_in_parts(self, monkeypatch):
        tokenizer = make()
        latents = tokenizer.encode_latents(pictures(3))
        whole = tokenizer.decode_latents(latents)
        monkeypatch.setattr("zoo.families.ssdd.decoder._PIXELS_TOGETHER", 2 * 16 * 16)
        assert torch.allclose(tokenizer.decode_latents(latents), whole, atol=1e-5)

    def test_latents_are_quantized_where_there_is_a_codebook(self):
        tokenizer, x = make(FSQ), pictures(2)
        expected = tokenizer.decode(tokenizer.encode(x), steps=1)
        assert torch.equal(tokenizer.decode_latents(tokenizer.encode_latents(x), steps=1), expected)

    def test_latents_may_be_normalised(self):
        mean, std = (0.5, -1.0, 0.25), (2.0, 0.5, 1.5)
        plain, torch_state = make(), make().state_dict()
        config = replace(CONTINUOUS, decoder=replace(DECODER, latent_mean=mean, latent_std=std))
        normalising = SSDDTokenizer(config).eval()
        normalising.load_state_dict(torch_state)
        maps = torch.randn(1, 3, 4, 4)
        moved = maps * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
        assert torch.allclose(normalising.decode_latents(moved), plain.decode_latents(maps), atol=1e-5)

    @pytest.mark.parametrize(
        "quantizer", [{"kind": "vq", "codebook_size": 16, "dim": 5}, {"kind": "lfq", "num_bits": 4}]
    )
    def test_any_quantizer_fits(self, quantizer):
        tokenizer = make(replace(FSQ, quantizer=parse(quantizer)))
        tokens = tokenizer.encode(pictures(2))
        assert tokens.grid == (4, 4)
        assert tokenizer.decode(tokens, steps=1).shape == (2, 3, 16, 16)

    def test_a_kept_encoder_gives_its_means_to_a_quantizer(self):
        continuous = make()
        tokenizer = make(replace(FSQ, quantizer=parse({"kind": "fsq", "levels": [5, 5]}), is_variational=True))
        tokenizer.encoder.conv.load_state_dict(continuous.encoder.conv.state_dict())
        x = pictures(1)
        means = continuous.encode_latents(x).maps
        rows = tokenizer.encoder.project(means).flatten(2).transpose(1, 2)
        assert torch.allclose(tokenizer.encode_latents(x).values, rows, atol=1e-6)


class TestAnySize:
    @pytest.fixture
    def free(self):
        return make(replace(FSQ, image_size=None))

    def test_rectangles(self, free):
        tokens = free.encode(pictures(2, 8, 20))
        assert tokens.grid == (2, 5)
        assert free.spec.num_tokens is None
        assert free.decode(tokens, steps=1).shape == (2, 3, 8, 20)
        latents = free.encode_latents(pictures(2, 8, 20))
        assert torch.equal(free.decode_latents(latents.maps), free.decode_latents(latents))

    def test_sides_must_fit(self, free):
        with pytest.raises(InputError, match="multiples of 4"):
            free.encode(pictures(1, 10, 16))

    def test_bare_positions_have_no_grid(self, free):
        latents = free.encode_latents(pictures(1, 8, 16))
        with pytest.raises(TokenError, match="any grid"):
            free.decode_latents(latents.values)
        with pytest.raises(TokenError, match="any grid"):
            free.decode(torch.zeros(1, 8, dtype=torch.int64))


def test_ids_are_the_items_own_over_many_pictures():
    tokenizer, x = make(FSQ), pictures(60)
    ids = tokenizer.encode(x).ids
    assert ids.unique().numel() > 5
    order = torch.randperm(60)
    assert torch.equal(torch.cat([tokenizer.encode(part).ids for part in x[order].split(7)]), ids[order])


def test_fast_mode_computes_in_half_precision(tmp_path):
    exact, x = make(FSQ), pictures(4)
    fast = zoo.load(zoo.save(exact, tmp_path / "x"), exact=False, dtype=torch.bfloat16)
    assert fast.decoder.unet.conv_in.weight.dtype == torch.bfloat16
    tokens = exact.encode(x)
    assert (fast.encode(x).ids == tokens.ids).float().mean() > 0.7
    made = fast.decode(tokens, steps=1)
    assert made.dtype == torch.float32
    assert (made - exact.decode(tokens, steps=1)).abs().mean() < 0.02


def test_a_continuous_one_says_what_to_use():
    with pytest.raises(ConfigError, match="use encode_latents"):
        make().encode(pictures(1))


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"steps": 0}, ConfigError, "steps must be"),
            ({"steps": 1.0}, ConfigError, "steps must be"),
            ({"noise": torch.zeros(1, 3, 8, 8)}, InputError, "noise for 1 items"),
            ({"noise": 0.0}, InputError, "noise for 1 items"),
            ({"generator": 3}, InputError, "torch.Generator"),
            ({"seed": -1}, InputError, "seed must be"),
            (
                {"noise": torch.zeros(1, 3, 16, 16), "generator": torch.Generator()},
                InputError,
                "pass no generator",
            ),
        ],
    )
    def test_options(self, options, error, message):
        tokenizer = make(FSQ)
        tokens = tokenizer.encode(pictures(1))
        with pytest.raises(error, match=message):
            tokenizer.decode(tokens, **options)
        with pytest.raises(error, match=message):
            tokenizer.decode_latents(tokenizer.encode_latents(pictures(1)), **options)

    def test_parts_of_pictures(self):
        tokenizer = make(FSQ)
        ids = tokenizer.encode(pictures(2)).ids
        with pytest.raises(TokenError, match="whole pictures"):
            tokenizer.decode(ids, torch.tensor([16, 3]))
        with pytest.raises(TokenError, match="grid of 4 × 4"):
            tokenizer.decode(ids[:, :8])
        with pytest.raises(TokenError, match="maps"):
            tokenizer.decode_latents(torch.zeros(1, 16, 4))

    def test_without_a_decoder(self, tmp_path):
        tokenizer = make(FSQ)
        zoo.save(tokenizer, tmp_path / "x")
        half = zoo.load(tmp_path / "x", decoder=False)
        assert torch.equal(half.encode(pictures(1)).ids, tokenizer.encode(pictures(1)).ids)
        with pytest.raises(TokenError, match="without its decoder"):
            half.decode(half.encode(pictures(1)))

    @pytest.mark.parametrize(
        ("make_config", "message"),
        [
            (lambda: SSDDConfig(encoder=encoder_config(4)), "no finer than its tokens"),
            (lambda: replace(CONTINUOUS, image_size=(16, 18)), "image_size must be multiples of 4"),
            (lambda: replace(CONTINUOUS, latent_channels=4), "a gaussian has the encoder's latents"),
            (lambda: replace(CONTINUOUS, steps=0), "steps must be"),
            (lambda: replace(CONTINUOUS, time_power=0.0), "time_power"),
            (lambda: replace(CONTINUOUS, encoder=replace(ENCODER, image_channels=1)), "3 channels"),
            (lambda: replace(DECODER, multipliers=(1,)), "multipliers"),
            (lambda: replace(DECODER, channels=9000), "channels must be"),
            (lambda: replace(DECODER, num_heads=3), "3 heads do not divide"),
            (lambda: replace(DECODER, latent_mean=(1.0,)), "as many channels"),
            (lambda: replace(DECODER, latent_mean=(1.0,), latent_std=(0.0,)), "positive"),
            (lambda: replace(DECODER, norm_groups=1, channels=9), "first even"),
            (lambda: encoder_config(12), "power of two"),
        ],
    )
    def test_configs(self, make_config, message):
        with pytest.raises(ConfigError, match=message):
            make_config()

    def test_normalisation_of_other_widths(self):
        config = replace(CONTINUOUS, decoder=replace(DECODER, latent_mean=(0.0,), latent_std=(1.0,)))
        with pytest.raises(ConfigError, match="of 1 channels, and it is given 3"):
            SSDDTokenizer(config)
