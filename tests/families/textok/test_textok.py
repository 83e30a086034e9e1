"""TexTok: what sees the caption and what does not, what is counted, and what is refused."""

from dataclasses import replace

import pytest
import torch
from textok_plain import Plain
from tiny_textok import CONFIG, DIM, WordStates, make, picture

import zoo
from zoo import tokenfile
from zoo.cli import main
from zoo.components.quantizers import GaussianConfig, IdentityConfig, LFQConfig, VQConfig
from zoo.components.text import KnownCaptions, TextStates
from zoo.data.media import read_image, write_png
from zoo.errors import CheckpointError, ConfigError, InputError, TokenError
from zoo.families.textok import PRESETS, TexTokConfig, TexTokTokenizer, TrunkConfig
from zoo.families.textok import text as textok_text
from zoo.tokens import Latents, Tokens

CAPTIONS = ["a red ball", "", "two small boats"]


def pictures(count=3):
    return torch.stack([picture(seed) for seed in range(count)])


def count(config):
    with torch.device("meta"):
        tokenizer = TexTokTokenizer(config)
    return sum(p.numel() for part in (tokenizer.encoder, tokenizer.decoder) for p in part.parameters())


class TestCounts:
    def test_published_sizes(self):
        """Section 11.1 of the specification: 175-177 M without the text encoder."""
        assert count(TexTokConfig()) == 175_435_976
        assert count(TexTokConfig(positions="all")) == 176_419_016
        assert 175e6 < count(PRESETS["256-32"]) < 177e6
        assert 178e6 < count(PRESETS["512-256"]) < 181e6
        assert {config.grid for config in PRESETS.values()} == {(32, 32)}

    def test_other_widths_of_text(self):
        """A text encoder 1024 wide gives 174.6 to 175.1 M with tables on both sides."""
        text = replace(TexTokConfig().text, dim=1024)
        for tokens, expected in ((32, 174.6e6), (256, 175.1e6)):
            found = count(TexTokConfig(num_tokens=tokens, text=text, positions="all"))
            assert abs(found - expected) < 0.1e6

    def test_the_baseline_has_no_text_at_all(self):
        made = make(text_in="none")
        assert not [name for name, _ in made.named_parameters() if "text" in name]
        both, projection = make(text_in="both"), sum(width * (DIM + 2) for width in (16, 12))  # weight, bias, null
        assert both.num_parameters - made.num_parameters == projection
        halves = [make(text_in=side).num_parameters for side in ("encoder", "decoder")]
        assert sum(halves) - 2 * made.num_parameters == projection


@pytest.mark.parametrize("size", [(256, 8), (512, 16)])
@pytest.mark.parametrize("tokens", [32, 64, 128, 256])
def test_shapes(size, tokens):
    """Section 11.3, with narrow transformers."""
    trunk = TrunkConfig(1, 8, 1, 1.0)
    made = make(image_size=size[0], patch_size=size[1], num_tokens=tokens, encoder=trunk, decoder=trunk)
    assert made.config.grid == (32, 32)
    with torch.device("meta"):
        same = TexTokTokenizer(made.config)
        codes = same.quantizer.dim
        text = TextStates(torch.zeros(1, 3, DIM), torch.ones(1, 3, dtype=torch.bool))
        same.encoder.text.forward = same.decoder.text.forward = lambda given: (torch.zeros(1, 3, 8), None)
        assert same.moments(torch.zeros(1, 3, size[0], size[0]), text).shape == (1, tokens, codes)
        assert same.images(torch.zeros(1, tokens, codes), text).shape == (1, 3, size[0], size[0])


def test_both_networks_are_the_formulas():
    """Section 2, with captions of unequal lengths and without one."""
    tokenizer = make(quantizer=IdentityConfig(4))
    rows = [torch.randn(count, DIM) for count in (5, 0, 3)]
    text = tokenizer.text_of(rows)
    plain = Plain(tokenizer.config, tokenizer.state_dict())
    with torch.no_grad():
        codes = plain.encode(pictures(), *text)
        torch.testing.assert_close(tokenizer.moments(pictures(), text), codes, atol=1e-5, rtol=1e-5)
        made = plain.decode(codes, *text)
        torch.testing.assert_close(tokenizer.images(codes, text), made, atol=1e-5, rtol=1e-5)
        assert (made - plain.decode(codes, text.states.flip(0), text.mask)).abs().max() > 1e-3


class TestCaptions:
    def test_real_text_matters_and_padding_does_not(self):
        """Section 11.4."""
        tokenizer = make(quantizer=IdentityConfig(4))
        states = torch.randn(1, 6, DIM)
        mask = torch.tensor([[True, True, True, False, False, False]])
        noise = states.clone()
        noise[:, 3:] = 1e3
        x = pictures(1)
        expected = tokenizer.encode_latents(x, states=states, mask=mask)
        for other, how in ((noise, mask), (states[:, :3], None), (states[:, :4], mask[:, :4])):
            found = tokenizer.encode_latents(x, states=other, mask=how)
            assert torch.equal(found.values, expected.values), "bit for bit"
            torch.testing.assert_close(tokenizer.decode_latents(found), tokenizer.decode_latents(expected))
        changed = states.clone()
        changed[:, 1] += 1
        other = tokenizer.encode_latents(x, states=changed, mask=mask)
        assert (other.values - expected.values).abs().max() > 1e-3
        made = [tokenizer.decode_latents(expected.values, states=each, mask=mask) for each in (states, changed)]
        assert (made[0] - made[1]).abs().max() > 1e-3

    def test_padding_is_attended_to_on_request(self):
        tokenizer, hidden = make(mask_padding=False), make()
        x = pictures(1)
        values = [made.encode_latents(x, caption="a b").values for made in (tokenizer, hidden)]
        assert not torch.equal(*values)
        batch = tokenizer.encode(pictures(), caption=CAPTIONS)
        alone = [tokenizer.encode(picture(i)[None], caption=CAPTIONS[i]).tolist()[0] for i in range(3)]
        assert batch.tolist() == alone
        absent = [made.encode(x).tolist() for made in (tokenizer, hidden)]
        assert absent[0] == absent[1], "without a caption there is one token and no padding"

    @pytest.mark.parametrize("side", ["encoder", "decoder"])
    def test_one_side_alone_sees_the_caption(self, side):
        """Section 11.5, and its mirror image."""
        tokenizer = make(text_in=side)
        x = pictures(2)
        tokens = [tokenizer.encode(x, caption=caption) for caption in ("a red ball", "a blue box")]
        assert (tokens[0].tolist() == tokens[1].tolist()) == (side == "decoder")
        made = [tokenizer.decode(tokens[0], caption=caption) for caption in (None, "a blue box", "")]
        for other in made[1:]:
            assert torch.equal(made[0], other) == (side == "encoder")

    def test_without_text_captions_are_refused(self):
        """Section 11.6."""
        tokenizer = make(text_in="none")
        tokens = tokenizer.encode(pictures())
        assert tokens.conditions is None
        for call in (tokenizer.encode, tokenizer.encode_latents):
            with pytest.raises(ConfigError, match="was made without text"):
                call(pictures(), caption="a cat")
        with pytest.raises(ConfigError, match="pass no captions"):
            tokenizer.decode(tokens, states=torch.zeros(3, 2, DIM))

    def test_ids_are_those_of_image_and_caption_alone(self):
        tokenizer = make()
        x = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        texts = [CAPTIONS[i % 3] + " x" * (i % 4) for i in range(24)]
        expected = tokenizer.encode(x, caption=texts).tolist()
        for size in (1, 7):
            parts = [
                row
                for first in range(0, 24, size)
                for row in tokenizer.encode(x[first : first + size], caption=texts[first : first + size]).tolist()
            ]
            assert parts == expected
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            assert tokenizer.encode(x, caption=texts).tolist() == expected
        finally:
            torch.set_num_threads(threads)
        padded = tokenizer.text_encoder.encode(texts)
        found = tokenizer.encode(x, states=padded.states, mask=padded.mask & torch.tensor([[bool(t)] for t in texts]))
        assert found.tolist() == expected, "states are as good as captions"

    def test_no_caption_is_the_learned_one(self):
        tokenizer = make()
        x = pictures(1)
        expected = tokenizer.encode_latents(x).values
        assert torch.equal(tokenizer.encode_latents(x, caption="").values, expected)
        assert torch.equal(tokenizer.encode_latents(x, states=[torch.zeros(0, DIM)]).values, expected)
        assert not torch.equal(tokenizer.encode_latents(x, caption="a cat").values, expected)
        with torch.no_grad():
            tokenizer.encoder.text.null += 1
        assert not torch.equal(tokenizer.encode_latents(x).values, expected)

    def test_where_none_is_learned_an_empty_text_stands_for_it(self):
        tokenizer = make(null_rate=0.0)
        assert tokenizer.encoder.text.null is None
        with pytest.warns(UserWarning, match="without one it is given that of an empty text"):
            found = tokenizer.encode(pictures(1))
        states = WordStates().encode([""]).states
        assert tokenizer.encode(pictures(1), states=states).tolist() == found.tolist()  # and warns no more
        with pytest.raises(InputError, match="every item needs states"):
            tokenizer.encode(pictures(1), states=[torch.zeros(0, DIM)])

    def test_too_long_ones_are_refused_or_cut(self):
        tokenizer = make()
        long = "one two three four five six seven"
        with pytest.raises(InputError, match="has 9 tokens, and at most 8"):
            tokenizer.encode(pictures(1), caption=long)
        tokens = tokenizer.encode(pictures(1), caption=long, cut=True)
        assert tokens.conditions.captions == ("one two three four five six",)
        assert tokens.equal(tokenizer.encode(pictures(1), caption="one two three four five six"))
        made = tokenizer.decode(tokens)
        assert torch.equal(tokenizer.decode(tokens, caption=long, cut=True), made)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"caption": ["a", "b"]},
            {"caption": 3},
            {"caption": ["a", "b", None]},
            {"caption": "a", "states": torch.zeros(3, 1, DIM)},
            {"states": torch.zeros(3, 1, DIM + 1)},
            {"states": torch.zeros(2, 1, DIM)},
            {"states": torch.zeros(3, 9, DIM)},
            {"states": torch.full((3, 1, DIM), torch.nan)},
            {"states": torch.zeros(3, 1, DIM), "mask": torch.ones(3, 2, dtype=torch.bool)},
            {"states": torch.zeros(3, 1, DIM), "mask": torch.ones(3, 1)},
            {"states": [torch.zeros(1, DIM)] * 2},
            {"states": [torch.zeros(DIM)] * 3},
            {"states": "a"},
            {"mask": torch.ones(3, 1, dtype=torch.bool)},
        ],
    )
    def test_bad_ones_are_refused(self, wrong):
        tokenizer = make()
        tokens = tokenizer.encode(pictures())
        with pytest.raises(InputError):
            tokenizer.encode(pictures(), **wrong)
        with pytest.raises(InputError):
            tokenizer.decode(tokens, **wrong)


class TestConditions:
    """What tokens were encoded with goes with them."""

    def test_through_slices_and_batches(self):
        tokenizer = make()
        tokens = tokenizer.encode(pictures(), caption=CAPTIONS)
        made = tokenizer.decode(tokens)
        assert tokens[2].conditions.captions == ("two small boats",)
        picked = Tokens.cat([tokens[2], tokens[:1]])
        torch.testing.assert_close(tokenizer.decode(picked), made[[2, 0]])
        by_states = tokenizer.encode(pictures(), states=tokenizer.text_encoder.encode(CAPTIONS[:1] * 3).states)
        assert by_states[1:].conditions.states.shape == (2, 5, DIM)

    def test_through_files(self, tmp_path):
        tokenizer = make()
        for options in ({"caption": CAPTIONS}, {"states": torch.randn(3, 4, DIM)}):
            tokens = tokenizer.encode(pictures(), **options)
            path = tokenfile.save(tmp_path / "x.zoo", tokens, tokenizer, overwrite=True)
            back = tokenfile.load(path).tokens
            assert back.equal(tokens)
            torch.testing.assert_close(tokenizer.decode(back), tokenizer.decode(tokens))

    def test_of_latents(self):
        tokenizer = make(quantizer=IdentityConfig(4))
        latents = tokenizer.encode_latents(pictures(), caption=CAPTIONS)
        made = tokenizer.decode_latents(latents)
        swapped = Latents.cat([latents[2], latents[0:2]])
        assert swapped.conditions.captions == ("two small boats", "a red ball", "")
        torch.testing.assert_close(tokenizer.decode_latents(swapped), made[[2, 0, 1]])
        assert not torch.equal(tokenizer.decode_latents(latents.values), made), "bare values carry no caption"
        torch.testing.assert_close(tokenizer.decode_latents(latents.values, caption=CAPTIONS), made)

    def test_another_caption_may_be_decoded_with(self):
        tokenizer = make()
        tokens = tokenizer.encode(pictures(1), caption="a red ball")
        own = tokenizer.decode(tokens)
        assert torch.equal(tokenizer.decode(tokens, caption="a red ball"), own)
        assert not torch.equal(tokenizer.decode(tokens, caption="a blue ball"), own)
        assert not torch.equal(tokenizer.decode(tokens, caption=""), own)


class TestQuantizers:
    @pytest.mark.parametrize(
        "quantizer", [VQConfig(64, 4, cosine=True), LFQConfig(6), CONFIG.quantizer], ids=lambda config: config.kind
    )
    def test_any_codebook(self, quantizer):
        """Section 11.8."""
        tokenizer = make(quantizer=quantizer)
        tokens = tokenizer.encode(pictures(), caption=CAPTIONS)
        assert tokens.ids.shape == (3, 5)
        assert 0 <= int(tokens.ids.min()) <= int(tokens.ids.max()) < tokens.codebook_size
        every = tokenizer.quantizer.codes(torch.arange(tokens.codebook_size))
        codes = tokenizer.quantizer.codes(tokens.ids)
        assert torch.equal(torch.cdist(codes.flatten(0, 1), every).argmin(1), tokens.ids.flatten())
        losses = tokenizer.quantizer.train()(torch.randn(2, 5, tokenizer.quantizer.input_dim)).losses
        assert "commitment" not in losses or losses["commitment"] > 0
        tokenizer.quantizer.eval()
        latents = tokenizer.encode_latents(pictures(), caption=CAPTIONS)
        torch.testing.assert_close(tokenizer.decode_latents(latents), tokenizer.decode(tokens))

    def test_continuous(self):
        plain, kl = make(quantizer=IdentityConfig(4)), make(quantizer=GaussianConfig(4))
        for tokenizer in (plain, kl):
            assert tokenizer.spec.latent_dim == 4
            latents = tokenizer.encode_latents(pictures(), caption=CAPTIONS)
            assert latents.values.shape == (3, 5, 4)
            assert tokenizer.decode_latents(latents).shape == (3, 3, 16, 16)
            with pytest.raises(ConfigError, match="continuous"):
                tokenizer.encode(pictures())
        made = kl.quantizer.train()(torch.randn(2, 5, 8))
        assert made.losses["kl"] > 0

    def test_parts_of_an_item_are_refused(self):
        tokenizer = make()
        tokens = tokenizer.encode(pictures(1))
        with pytest.raises(TokenError, match="whole items of 5 tokens"):
            tokenizer.decode(tokens[:, :3])


class TestOptions:
    @pytest.mark.parametrize(
        "changes",
        [
            {"positions": "all"},
            {"positions": "none"},
            {"has_types": True},
            {"text_norm": True},
            {"output": "tanh"},
            {"output": "clamp"},
            {"token_std": 1.0},
            {"text_len": 12},
        ],
        ids=str,
    )
    def test_each_does_something(self, changes):
        """Section 12: all that is unknown is an option."""
        tokenizer = make(**changes)
        tokens = tokenizer.encode(pictures(1), caption="a red ball")
        made = tokenizer.decode(tokens, clamp=False)
        assert torch.isfinite(made).all()
        if changes.get("output"):
            assert made.min() >= 0 <= 1 <= made.max() + 1
            assert bool(((made >= 0) & (made <= 1)).all())
        names = {name for name, _ in tokenizer.named_parameters()}
        plain = {name for name, _ in make().named_parameters()}
        if changes.keys() & {"positions", "has_types", "text_norm"}:
            assert names != plain

    def test_no_dropout_in_use(self):
        tokenizer = make(dropout=0.5)
        assert tokenizer.encode(pictures(1)).tolist() == make().encode(pictures(1)).tolist()

    @pytest.mark.parametrize(
        "changes",
        [
            {"image_size": 15},
            {"num_tokens": 0},
            {"text_len": 0},
            {"text_in": "neither"},
            {"null_rate": 1.0},
            {"dropout": -0.1},
            {"positions": "sines"},
            {"norm_eps": 0.0},
            {"image_size": 8192, "patch_size": 1},
        ],
        ids=str,
    )
    def test_bad_ones_are_refused(self, changes):
        with pytest.raises(ConfigError):
            replace(CONFIG, **changes)

    def test_a_learned_start(self):
        torch.manual_seed(0)
        fresh = TexTokTokenizer(TexTokConfig(32, 8, 64, *[TrunkConfig(1, 64, 2)] * 2, text=CONFIG.text))
        for table in (fresh.encoder.positions, fresh.encoder.queries.queries, fresh.decoder.patches.queries):
            assert 0.017 < float(table.detach().std()) < 0.023
        assert 0.015 < float(fresh.encoder.embed.linear.weight.detach().std()) < 0.021
        assert not fresh.encoder.embed.linear.bias.any()


class TestShipping:
    """A checkpoint brings the states of some captions, for those who lack the encoder."""

    def test_kept_captions_go_with_the_weights(self, tmp_path):
        tokenizer = make()
        tokenizer.keep_captions(["a red ball", "two small boats"])
        zoo.save(tokenizer, tmp_path / "x")
        loaded = zoo.load(tmp_path / "x")
        assert loaded.captions.known.captions == ("a red ball", "two small boats")
        assert loaded.captions.known.encoder == "words"
        expected = tokenizer.encode(pictures(), caption=CAPTIONS)
        assert loaded.encode(pictures(), caption=CAPTIONS).tolist() == expected.tolist()
        with pytest.raises(InputError, match="no states of the caption 'a red bal'"):
            loaded.encode(pictures(), caption="a red bal")
        assert len(KnownCaptions.from_file(tmp_path / "x" / "captions.safetensors")) == 2

    def test_an_encoder_that_is_missing_is_told_with_what_there_is(self, monkeypatch):
        def missing(*_, **__):
            raise CheckpointError("the text encoder is not there: fetch it.")

        monkeypatch.setattr(textok_text, "build", missing)
        tokenizer = make(reads=False)
        with pytest.raises(CheckpointError, match=r"fetch it\. Without it, pass states"):
            tokenizer.encode(pictures(1), caption="a cat")
        assert tokenizer.encode(pictures(1)).ids.shape == (1, 5), "without a caption nothing is needed"
        tokenizer.captions.known = KnownCaptions.of(WordStates(), ["a red ball"])
        with pytest.raises(CheckpointError, match="the 1 captions whose states came with this model, such as 'a red"):
            tokenizer.encode(pictures(1), caption="a cat")
        assert tokenizer.encode(pictures(1), caption="a red ball").ids.shape == (1, 5)

    def test_damaged_states_are_refused(self, tmp_path):
        tokenizer = make()
        tokenizer.keep_captions(["a red ball"])
        with pytest.raises(CheckpointError):
            make().load_assets({"captions.safetensors": tokenizer.assets()["captions.safetensors"][:50]})

    def test_an_encoder_of_another_width_is_refused(self):
        with pytest.raises(ConfigError, match="takes states of 6 numbers, got 7"):
            make().text_encoder = WordStates(7)


def test_the_command_line_takes_captions(tmp_path, capsys):
    tokenizer = make()
    tokenizer.keep_captions(["a red ball", "a blue box"])
    zoo.save(tokenizer, tmp_path / "x")
    write_png(tmp_path / "a.png", picture())
    main(
        [
            "encode",
            str(tmp_path / "x"),
            str(tmp_path / "a.png"),
            "-o",
            str(tmp_path / "a.zoo"),
            "--caption",
            "a red ball",
        ]
    )
    tokens = tokenfile.load(tmp_path / "a.zoo").tokens
    assert tokens.conditions.captions == ("a red ball",)
    made = []
    for number, options in enumerate(([], ["--caption", "a blue box"])):
        out = tmp_path / str(number)
        main(["decode", str(tmp_path / "a.zoo"), "-o", str(out), *options])
        made.append(read_image(out / "a.png"))
    assert not torch.equal(*made)
    capsys.readouterr()


def test_fast_mode_rounds_and_nothing_else(tmp_path):
    zoo.save(make(), tmp_path / "x")
    fast = zoo.load(tmp_path / "x", exact=False)
    fast.text_encoder = WordStates()
    found = fast.encode(pictures(), caption=CAPTIONS).ids
    assert (found == make().encode(pictures(), caption=CAPTIONS).ids).float().mean() > 0.9
    half = zoo.load(tmp_path / "x", exact=False, dtype=torch.bfloat16)
    half.text_encoder = WordStates()
    tokens = half.encode(pictures(), caption=CAPTIONS)
    assert half.decode(tokens).dtype == torch.float32


def test_no_gradient_reaches_the_text_and_projections_have_one():
    """Section 11.7."""
    tokenizer = make()
    states = tokenizer.text_encoder.encode(CAPTIONS[:1])
    assert not states.states.requires_grad
    moments = tokenizer.moments(pictures(1), states)
    tokenizer.images(tokenizer.quantizer(moments).codes, states).square().sum().backward()
    assert tokenizer.encoder.text.project.weight.grad.abs().sum() > 0
    assert tokenizer.decoder.text.project.weight.grad.abs().sum() > 0
