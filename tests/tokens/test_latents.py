"""Latents and conditions: what they check, and that they travel with their items."""

import pytest
import torch

from zoo import tokenfile
from zoo.errors import ConfigError, TokenError
from zoo.spec import TokenSpec
from zoo.tokens import Conditions, Latents, Tokens
from zoo.tokens.checks import checked_tokens


def vectors(*lengths, width=3):
    values = torch.randn(len(lengths), max(lengths), width)
    return Latents.of(values, torch.tensor(lengths), model="a.b")


class TestLatents:
    def test_padding_is_zero(self):
        latents = vectors(2, 4)
        assert torch.equal(latents.values[0, 2:], torch.zeros(2, 3))
        assert latents.values[1].abs().min() > 0

    def test_conditions_go_with_their_items(self):
        one, other = vectors(2, 4), vectors(3)
        told = Latents(one.values, one.lengths, "a.b", conditions=Conditions(("x", "y")))
        assert told[1].conditions.captions == ("y",)
        assert told[torch.tensor([True, False])].to("cpu").conditions.captions == ("x",)
        joined = Latents.cat([told, Latents(other.values, other.lengths, "a.b", conditions=Conditions(("z",)))])
        assert joined.conditions.captions == ("x", "y", "z")
        assert one[0].conditions is None
        with pytest.raises(TokenError, match="conditions of one kind"):
            Latents.cat([told, other])

    def test_maps_and_back(self):
        maps = torch.randn(2, 5, 3, 4)
        latents = Latents.of(maps, grid=(3, 4))
        assert latents.values.shape == (2, 12, 5)
        assert torch.equal(latents.maps, maps)
        assert torch.equal(latents.values[0, 7], maps[0, :, 1, 3])  # row-major
        with pytest.raises(TokenError, match="without a grid"):
            vectors(2).maps  # noqa: B018

    def test_selecting_and_joining(self):
        latents = vectors(2, 4, 1)
        assert torch.equal(latents[1].values, latents.values[1:2])
        assert latents[-1].lengths.tolist() == [1]
        assert latents[[2, 0]].lengths.tolist() == [1, 2]
        joined = Latents.cat([latents[:1], vectors(6)])
        assert joined.values.shape == (2, 6, 3)
        assert joined.lengths.tolist() == [2, 6]
        assert torch.equal(joined.values[0, :2], latents.values[0, :2])
        with pytest.raises(TokenError, match="one model and width"):
            Latents.cat([latents, vectors(2, width=4)])
        with pytest.raises(TokenError, match="nothing to concatenate"):
            Latents.cat([])

    @pytest.mark.parametrize(
        ("values", "lengths", "grid", "message"),
        [
            (torch.zeros(2, 3), None, None, "have the shape"),
            (torch.zeros(2, 3, 4, dtype=torch.int64), None, None, "floating"),
            ([[0.5]], None, None, "floating"),
            (torch.full((1, 2, 3), torch.nan), None, None, "finite"),
            (torch.zeros(1, 2, 3), torch.tensor([3]), None, "from 0 to 2"),
            (torch.zeros(1, 2, 3), torch.tensor([-1]), None, "from 0 to 2"),
            (torch.zeros(1, 2, 3), torch.tensor([1.0]), None, "integers"),
            (torch.zeros(1, 2, 3), None, (3, 4), "12 positions"),
        ],
    )
    def test_refused(self, values, lengths, grid, message):
        with pytest.raises(TokenError, match=message):
            Latents.of(values, lengths, grid=grid)


def captioned(*captions):
    ids = torch.arange(len(captions) * 3).view(len(captions), 3)
    return Tokens.from_ids(ids, codebook_size=64, model="a.b", conditions=Conditions(captions))


class TestConditions:
    def test_they_travel_with_their_items(self):
        tokens = captioned("a cat", "a dog", "")
        assert tokens[1].conditions.captions == ("a dog",)
        assert tokens[[2, 0], :2].conditions.captions == ("", "a cat")
        assert tokens[torch.tensor([False, True, True])].conditions.captions == ("a dog", "")
        assert (
            tokens.truncate(1).conditions.captions == tokens.offset(7).conditions.captions == tokens.conditions.captions
        )
        assert [one.conditions.captions[0] for one in tokens] == ["a cat", "a dog", ""]
        assert tokens.to("cpu").conditions.captions == tokens.conditions.captions
        joined = Tokens.cat([tokens[:1], tokens[2]])
        assert joined.conditions.captions == ("a cat", "")
        assert Tokens.cat([tokens, tokens], "time").conditions.captions == tokens.conditions.captions
        assert tokens.equal(captioned("a cat", "a dog", ""))
        assert not tokens.equal(captioned("a cat", "a dog", "a bird"))

    def test_they_are_not_mixed(self):
        tokens = captioned("a cat", "a dog")
        with pytest.raises(TokenError, match="conditions of one kind"):
            Tokens.cat([tokens, Tokens.from_ids([[1]], codebook_size=64, model="a.b")])
        with pytest.raises(TokenError, match="same conditions"):
            Tokens.cat([tokens, captioned("a cat", "a cow")], "time")

    def test_states(self):
        states = torch.randn(2, 4, 6)
        mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
        both = Conditions(("one", "two"), states, mask)
        assert torch.equal(both[1:].states, states[1:])
        joined = Conditions.cat([both[:1], Conditions(("three",), torch.randn(1, 2, 6))])
        assert joined.captions == ("one", "three")
        assert joined.states.shape == (2, 2, 6)
        assert joined.mask.all()
        longer = torch.cat([states, torch.full((2, 3, 6), 9.0)], 1)
        assert both.equal(Conditions(("one", "two"), longer, torch.nn.functional.pad(mask, (0, 3))))
        assert not both.equal(Conditions(("one", "two"), states))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Conditions(), "captions, states, or both"),
            (lambda: Conditions((b"a",)), "strings"),
            (lambda: Conditions(states=torch.zeros(2, 3)), "floating"),
            (lambda: Conditions(("a",), torch.zeros(2, 3, 4)), "differ"),
            (lambda: Conditions(states=torch.zeros(2, 3, 4), mask=torch.ones(2, 3)), "mask is bool"),
            (lambda: Conditions.of(["a", "b"], 3), "as many captions"),
            (lambda: Tokens.from_ids([[1]], codebook_size=4, conditions=Conditions(("a", "b"))), "as many conditions"),
        ],
    )
    def test_refused(self, make, message):
        with pytest.raises(TokenError, match=message):
            make()

    def test_one_caption_for_all(self):
        assert Conditions.of("a cat", 3).captions == ("a cat",) * 3
        assert Conditions.of(["a", "b"], 2).captions == ("a", "b")

    @pytest.mark.parametrize("has_states", [False, True])
    def test_files(self, tmp_path, has_states):
        import zoo

        tok = zoo.load("beast")
        tokens = tok.encode(torch.zeros(3, 20, 4))
        states = torch.randn(3, 5, 8) if has_states else None
        mask = torch.arange(5) < torch.tensor([2, 0, 5])[:, None] if has_states else None
        conditions = Conditions(("a", "", "ü"), states, mask)
        made = Tokens.from_ids(tokens.ids, codebook_size=tokens.codebook_size, model=tok.name, conditions=conditions)
        read = tokenfile.load(tokenfile.save(tmp_path / "a.zoo", made, tok)).tokens
        assert read.equal(made)
        assert read.conditions.captions == ("a", "", "ü")
        assert (read.conditions.states is None) != has_states


class TestContinuous:
    def test_a_spec_without_a_codebook(self):
        spec = TokenSpec("image", None, latent_dim=4)
        assert spec.is_continuous
        assert spec.bits_per_token is spec.bit_rate is None
        assert spec.to_dict()["codebook_size"] is None
        with pytest.raises(ConfigError, match="encode_latents"):
            spec.require_codebook()
        with pytest.raises(TokenError, match="continuous and has no ids: use decode_latents"):
            checked_tokens([[1]], None, spec, "a.b")
        with pytest.raises(ConfigError, match="latent_dim"):
            TokenSpec("image", None)
