"""LARP: the published sizes, holistic tokens, short clips, drawn ids, fast mode, bad arguments."""

from dataclasses import replace

import pytest
import torch
from tiny_larp import CONFIG, clip, make

import zoo
from zoo.components.quantizers import FSQConfig, LFQConfig, ResidualConfig, VQConfig, parse
from zoo.errors import ConfigError, InputError, TokenError
from zoo.families.larp import LARPConfig, LARPTokenizer, TrunkConfig
from zoo.families.larp.official.settings import values
from zoo.tokens import Tokens


@pytest.fixture(scope="module")
def tokenizer():
    return make()


@pytest.fixture(scope="module")
def clips():
    return torch.stack([clip(seed) for seed in range(4)])


def ids_of(tokenizer, video):
    return tokenizer.encode(video).tolist()[0]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_are_the_published_ones():
    with torch.device("meta"):
        made = LARPTokenizer(LARPConfig())
    encoder, decoder = made.encoder, made.decoder
    assert count(made) == 172_179_984
    assert count(encoder.queries.transformer) == 85_026_816
    assert count(decoder.patches.transformer) - 768 == 85_026_816
    assert decoder.patches.transformer.types["queries"].shape == (768,)
    assert count(encoder.embed) == 590_592
    assert count(made.quantizer) + count(encoder.queries.project) + count(decoder.patches.embed) == 156_432
    assert count(decoder.patches.norm) + count(decoder.patches.project) == 592_128
    assert encoder.queries.queries.numel() == 786_432
    assert made.spec.num_tokens == 1024
    assert made.spec.input_size == (16, 128, 128)


def test_norms_add_what_timm_added_when_it_was_trained(tokenizer):
    norms = {name: part.eps for name, part in tokenizer.named_modules() if isinstance(part, torch.nn.LayerNorm)}
    assert norms.pop("decoder.patches.norm") == 1e-6
    assert set(norms.values()) == {1e-5}


def test_the_first_reconstruction_is_zero(clips):
    torch.manual_seed(0)
    fresh = LARPTokenizer(CONFIG).eval()
    assert not fresh.decode(fresh.encode(clips)).any()
    bound = (6 / (12 + 36)) ** 0.5
    qkv = fresh.decoder.patches.transformer.layers[0].mlp.up.weight
    assert 0.9 * (6 / (12 + 48)) ** 0.5 < qkv.abs().max() <= (6 / (12 + 48)) ** 0.5 < bound
    assert not fresh.encoder.embed.linear.bias.any()
    assert 0.015 < fresh.encoder.queries.queries.std() < 0.025


def test_every_token_may_hold_something_of_every_place(tokenizer):
    x = clip(0)[None].requires_grad_()
    vectors = tokenizer.vectors(x)
    for token in (0, 5):
        (gradient,) = torch.autograd.grad(vectors[0, token].square().sum(), x, retain_graph=True)
        assert gradient.abs().amin() > 0


class TestLengths:
    def test_short_clips_have_as_many_tokens_and_come_back_as_short(self, tokenizer):
        tokens = tokenizer.encode(clip(0, frames=2))
        assert tokens.ids.shape == (1, 6)
        assert tokenizer.output_lengths(tokens).tolist() == [2]
        made = tokenizer.decode(tokens, clamp=False)
        assert made.shape == (1, 3, 2, 8, 8)
        patches = tokenizer.decoder.positions(4)
        rows = tokenizer.decoder.patches(tokenizer.quantizer.codes(tokens.ids), queries=patches)
        assert torch.allclose(made[0, :, 0, 0, 0], rows[0, 0, :3], atol=1e-6)

    @pytest.mark.parametrize(("frames", "kept"), [(1, 2), (3, 4)])
    def test_frames_that_fill_no_patch_are_filled_up(self, tokenizer, frames, kept):
        tokens = tokenizer.encode(clip(0, frames))
        longer = torch.cat([clip(0, frames), clip(0, frames)[:, -1:]], 1)
        assert torch.equal(tokens.ids, tokenizer.encode(longer).ids)
        made = tokenizer.decode(tokens)
        assert made.shape[2] == frames
        assert torch.equal(made, tokenizer.decode(tokens, num_frames=kept)[:, :, :frames])
        latents = tokenizer.encode_latents(clip(0, frames))
        assert torch.allclose(tokenizer.decode_latents(latents), made, atol=1e-6)

    def test_long_videos_are_several_clips(self, tokenizer):
        video = torch.cat([clip(0), clip(1), clip(2, 2)], 1)
        tokens = tokenizer.encode(video)
        assert tokens.tolist()[0] == [id_ for part in (clip(0), clip(1), clip(2, 2)) for id_ in ids_of(tokenizer, part)]
        assert tokenizer.decode(tokens).shape == (1, 3, 10, 8, 8)

    def test_lengths_may_differ_in_a_batch_of_tokens(self, tokenizer):
        parts = [tokenizer.encode(clip(n, frames)) for n, frames in enumerate((2, 4, 2))]
        joined = Tokens.cat(parts)
        made = tokenizer.decode(joined)
        assert made.shape == (3, 3, 4, 8, 8)
        assert tokenizer.output_lengths(joined).tolist() == [2, 4, 2]
        for row, part in zip(made, parts, strict=True):
            one = tokenizer.decode(part)[0]
            assert torch.allclose(row[:, : one.shape[1]], one, atol=1e-6)
            assert not row[:, one.shape[1] :].any()

    def test_bare_ids_are_whole_clips_unless_it_is_said(self, tokenizer):
        ids = torch.zeros(2, 6, dtype=torch.int64)
        assert tokenizer.decode(ids).shape == (2, 3, 4, 8, 8)
        assert tokenizer.decode(ids, num_frames=3).shape == (2, 3, 3, 8, 8)

    @pytest.mark.parametrize("wrong", [0, 2.0, True, "2"])
    def test_there_is_no_such_number_of_frames(self, tokenizer, wrong):
        with pytest.raises(ConfigError, match="num_frames must be a number of frames"):
            tokenizer.decode(torch.zeros(1, 6, dtype=torch.int64), num_frames=wrong)
        with pytest.raises(TokenError, match="6 tokens of 5 frames"):
            tokenizer.decode(torch.zeros(1, 6, dtype=torch.int64), num_frames=5)

    def test_tokens_that_lie_about_their_frames_are_refused(self, tokenizer, clips):
        tokens = replace(tokenizer.encode(clips), signal_lengths=torch.tensor([4, 4, 99, 4]))
        with pytest.raises(TokenError, match="6 tokens of 99 frames"):
            tokenizer.decode(tokens)

    def test_a_picture_is_refused(self, tokenizer):
        with pytest.raises(InputError, match="a picture is a clip of one frame"):
            tokenizer.encode(clip(0)[:, 0])

    def test_half_the_tokens_are_no_clip(self, tokenizer, clips):
        with pytest.raises(TokenError, match="whole windows of 6 tokens"):
            tokenizer.decode(tokenizer.encode(clips)[:, :3])

    def test_patches_of_one_frame(self):
        tokenizer = make(replace(CONFIG, temporal_patch_size=1, num_frames=3))
        for frames in (1, 2, 3):
            tokens = tokenizer.encode(clip(0, frames))
            assert tokenizer.decode(tokens).shape[2] == frames


class TestDrawing:
    def test_a_clip_draws_the_same_whatever_is_beside_it(self, tokenizer, clips):
        drawn = tokenizer.encode(clips, sample=True, seed=3)
        for row in range(4):
            assert torch.equal(tokenizer.encode(clips[row : row + 1], sample=True, seed=3).ids[0], drawn.ids[row])
        assert torch.equal(tokenizer.encode(clips.flip(0), sample=True, seed=3).ids, drawn.ids.flip(0))
        assert len({tuple(tokenizer.encode(clips[:1], sample=True, seed=s).ids[0].tolist()) for s in range(8)}) > 1

    def test_ids_follow_the_probabilities(self, clips):
        tokenizer = make(replace(CONFIG, quantizer=replace(CONFIG.quantizer, temperature=0.5)))
        one = clips[:1].expand(400, -1, -1, -1, -1)
        generator = torch.Generator().manual_seed(0)
        vectors = tokenizer.encode_latents(clips[:1]).values[0]
        expected = torch.nn.functional.cosine_similarity(vectors[:, None], tokenizer.quantizer.codebook, dim=2) / 0.5
        expected = expected.softmax(1).sum(0) * 400
        tokenizer.is_exact = False  # which takes all clips together
        ids = tokenizer.encode(one, sample=True, generator=generator).ids
        found = torch.bincount(ids.flatten(), minlength=32)
        assert ((found - expected).abs() < 5 * expected.sqrt()).all()

    def test_a_stream_draws_what_the_whole_does(self, tokenizer):
        video = torch.cat([clip(0), clip(1)], 1)
        for source in (lambda: {"seed": 3}, lambda: {"generator": torch.Generator().manual_seed(0)}):
            whole, options = tokenizer.encode(video, sample=True, **source()), source()
            parts = [part.ids for part in tokenizer.encode_chunks(video, sample=True, **options)]
            assert torch.equal(torch.cat(parts, 1), whole.ids)

    def test_a_generator_for_all_or_one_for_each(self, tokenizer, clips):
        def seeded(seed):
            return torch.Generator().manual_seed(seed)

        one = tokenizer.encode(clips, sample=True, generator=seeded(0))
        assert torch.equal(one.ids, tokenizer.encode(clips, sample=True, generator=seeded(0)).ids)
        several = tokenizer.encode(clips, sample=True, generator=[seeded(n) for n in range(4)])
        assert torch.equal(several.ids[2:3], tokenizer.encode(clips[2:3], sample=True, generator=[seeded(2)]).ids)
        with pytest.raises(InputError, match="4 videos need one generator, or as many, got 1"):
            tokenizer.encode(clips, sample=True, generator=[seeded(0)])

    def test_without_being_asked_nothing_is_drawn(self, tokenizer, clips):
        with pytest.raises(ConfigError, match="sample=True"):
            tokenizer.encode(clips, generator=torch.Generator())
        assert tokenizer.encode(clips).equal(tokenizer.encode(clips))
        tokens = tokenizer.encode(clips)
        assert tokenizer.train().encode(clips).equal(tokens)  # encoding is a function, whatever the mode
        tokenizer.eval()

    def test_other_quantizers_do_not_draw(self, clips):
        with pytest.raises(ConfigError, match="kind 'fsq', which draws no ids"):
            make(replace(CONFIG, quantizer=FSQConfig((4, 4)))).encode(clips, sample=True)


@pytest.mark.parametrize(
    "quantizer",
    [
        FSQConfig((8, 5, 5)),
        LFQConfig(num_bits=5),
        VQConfig(16, 4),
        ResidualConfig(VQConfig(8, 4), 2),
        parse({"kind": "gaussian", "dim": 4}),
    ],
    ids=lambda config: config.kind,
)
def test_any_quantizer_can_stand_between(quantizer, clips):
    tokenizer = make(replace(CONFIG, quantizer=quantizer))
    latents = tokenizer.encode_latents(clips)
    made = tokenizer.decode_latents(latents)
    assert made.shape == clips.shape
    if not tokenizer.spec.is_continuous:
        assert torch.allclose(tokenizer.decode(tokenizer.encode(clips)), made, atol=1e-6)


def test_fast_mode_computes_in_half_precision(clips):
    exact = make()
    tokens = exact.encode(clips)
    fast = make()
    fast.is_exact = False
    assert torch.equal(fast.encode(clips).ids, tokens.ids)
    fast.to_dtype(torch.bfloat16)
    assert fast.encoder.positions.table.dtype == torch.bfloat16
    assert fast.quantizer.codebook.dtype == torch.float32
    assert (fast.encode(clips).ids == tokens.ids).float().mean() > 0.5
    made = fast.decode(tokens)
    assert made.dtype == torch.float32
    assert (made - exact.decode(tokens)).abs().max() < 0.2


def test_what_overshoots_is_clamped_on_request(tokenizer, clips):
    tokens = tokenizer.encode(clips)
    raw = tokenizer.decode(tokens, clamp=False)
    assert raw.min() < 0
    assert torch.equal(tokenizer.decode(tokens), raw.clamp(0, 1))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"learns_patch_positions": True}, {f"encoder.positions.{axis}" for axis in ("times", "rows", "columns")}),
        ({"learns_patch_queries": True}, {f"decoder.positions.{axis}" for axis in ("times", "rows", "columns")}),
        ({"learns_latent_positions": True}, {"decoder.patches.positions"}),
        ({"has_patch_type": True}, {"encoder.queries.transformer.types.patches"}),
        ({"has_query_type": True}, {"encoder.queries.transformer.types.queries"}),
        ({"has_latent_type": True}, {"decoder.patches.transformer.types.latents"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_of_positions_are_parameters(changes, names):
    usual = dict(LARPTokenizer(CONFIG).named_parameters())
    torch.manual_seed(0)
    changed = dict(LARPTokenizer(replace(CONFIG, **changes)).named_parameters())
    assert changed.keys() - usual.keys() == names
    assert all(tensor.any() for name, tensor in changed.items() if name in names)


def test_fixed_queries_are_a_table():
    tokenizer = LARPTokenizer(replace(CONFIG, learns_queries=False))
    assert "encoder.queries.queries" not in dict(tokenizer.named_parameters())
    started = LARPTokenizer(replace(CONFIG, query_start="sincos"))
    assert torch.equal(tokenizer.state_dict()["encoder.queries.queries"], started.encoder.queries.queries)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 5}, "multiple of temporal_patch_size"),
        ({"image_size": 10}, "multiple of patch_size"),
        ({"num_tokens": 0}, "num_tokens must be"),
        ({"num_frames": 4096, "image_size": 8192, "temporal_patch_size": 1, "patch_size": 1}, "too large"),
        ({"query_std": -1.0}, "query_std"),
        ({"latent_period": 1.0}, "latent_period"),
        ({"query_start": "zeros"}, "query_start"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)


@pytest.mark.parametrize("values", [{"depth": 0}, {"width": 6}, {"num_heads": 5}, {"width": 2**20}], ids=str)
def test_bad_sizes_are_refused(values):
    with pytest.raises(ConfigError, match="larp"):
        TrunkConfig(**values)


class TestLatentNorm:
    def test_vectors_of_a_fresh_encoder_are_told_apart(self, clips):
        torch.manual_seed(0)
        plain = LARPTokenizer(CONFIG).train()
        torch.manual_seed(0)
        normed = LARPTokenizer(replace(CONFIG, latent_norm="batch")).train()
        vectors = normed.encoder(clips)
        assert torch.allclose(vectors.flatten(0, 1).mean(0), torch.zeros(vectors.shape[2]), atol=1e-5)
        assert torch.allclose(vectors.flatten(0, 1).var(0, unbiased=False), torch.ones(vectors.shape[2]), atol=1e-2)
        rows = [each.detach().flatten(0, 1) for each in (plain.encoder(clips), vectors)]
        alike, apart = (float(torch.nn.functional.normalize(each, dim=1).mean(0).norm()) for each in rows)
        assert apart < 0.5 * alike

    def test_in_use_a_clip_is_encoded_alone_and_the_averages_are_kept(self, clips, tmp_path):
        torch.manual_seed(0)
        made = LARPTokenizer(replace(CONFIG, latent_norm="batch")).train()
        for _ in range(20):
            made.encoder(clips)
        tokens = made.eval().encode(clips)
        assert len(tokens.ids.unique()) > 2
        assert all(made.encode(each[None]).equal(tokens[number]) for number, each in enumerate(clips))
        loaded = zoo.load(zoo.save(made, tmp_path / "x", name="larp.normed"))
        assert loaded.encode(clips).ids.equal(tokens.ids)

    def test_the_released_layout_has_none(self):
        with pytest.raises(ConfigError, match="without a norm of latents"):
            values(replace(CONFIG, latent_norm="batch"))
