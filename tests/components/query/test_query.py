"""Query encoder and decoder: who sees whom, padding, order by name, and the three families they are for."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.components.layers.block import BlockConfig
from zoo.components.layers.patches import PatchEmbedding
from zoo.components.layers.positions import sincos_1d, sincos_3d
from zoo.components.query import (
    GroupTransformer,
    GroupTransformerConfig,
    QueryDecoder,
    QueryDecoderConfig,
    QueryEncoder,
    QueryEncoderConfig,
    TokenGroup,
    group_mask,
)
from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, InputError

PATCHES, QUERIES, TEXT = TokenGroup("patches"), TokenGroup("queries"), TokenGroup("text")
REGISTERS = (TokenGroup("patches", sees=()), TokenGroup("queries", sees=("patches",), is_causal=True))
BLOCK = BlockConfig(12, 3, 20)


def transformer(*groups, num_layers=2, seed=0, **changes):
    torch.manual_seed(seed)
    model = GroupTransformer(GroupTransformerConfig(groups, BlockConfig(12, 3, 20, **changes), num_layers))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def encoder(*groups, **changes):
    torch.manual_seed(0)
    config = QueryEncoderConfig(GroupTransformerConfig(groups, BLOCK, 2), num_queries=4, output_size=5, **changes)
    return QueryEncoder(config)


def decoder(*groups, **changes):
    torch.manual_seed(0)
    defaults = {"input_size": 5, "output_size": 7, "num_latents": 4, "num_queries": 6}
    return QueryDecoder(QueryDecoderConfig(GroupTransformerConfig(groups, BLOCK, 2), **defaults | changes))


def tokens(batch=2, **sizes):
    return {name: torch.randn(batch, size, 12) for name, size in sizes.items()}


def influence(model, given, name, token, **arguments):
    """Return, by group, which tokens of the output change with one token of the input."""
    changed = {group: part.clone() for group, part in given.items()}
    changed[name][:, token] = torch.randn(12)
    before, after = model(given, **arguments), model(changed, **arguments)
    return {group: (before[group] != after[group]).flatten(2).any(2)[0].tolist() for group in before}


class TestMask:
    def test_registers_see_patches_and_those_before(self):
        mask = group_mask(REGISTERS, [2, 3])
        assert mask.int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1] * 5]

    def test_all_see_all(self):
        assert group_mask([PATCHES, TokenGroup("text", sees=("patches",))], [2, 3]) is None
        assert group_mask([TokenGroup("patches", sees=()), TEXT], [1, 1]).int().tolist() == [[1, 0], [1, 1]]
        assert group_mask([TokenGroup("patches", is_causal=True)], [2]).int().tolist() == [[1, 0], [1, 1]]

    def test_a_causal_group_among_others(self):
        mask = group_mask([TokenGroup("a", is_causal=True), TokenGroup("b", sees=())], [2, 2])
        assert mask.int().tolist() == [[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]


class TestGroups:
    def test_without_rules_it_is_one_sequence(self):
        model, given = transformer(PATCHES, QUERIES), tokens(patches=3, queries=2)
        x = torch.cat([given["patches"], given["queries"]], 1)
        for layer in model.layers:
            x = layer(x)
        out = model(given)
        assert list(out) == ["patches", "queries"]
        assert torch.equal(torch.cat(list(out.values()), 1), x)

    def test_names_count_and_not_the_callers_order(self):
        model, given = transformer(PATCHES, QUERIES, TEXT), tokens(patches=3, queries=2, text=4)
        out, other = model(given), model(dict(reversed(given.items())))
        assert all(torch.equal(out[name], other[name]) for name in out)

    def test_one_layer_mixes_what_the_rule_says(self):
        model, given = transformer(*REGISTERS, num_layers=3), tokens(patches=3, queries=4)
        assert influence(model, given, "queries", 1) == {"patches": [False] * 3, "queries": [False, True, True, True]}
        assert influence(model, given, "patches", 1) == {"patches": [True] * 3, "queries": [True] * 4}

    def test_a_group_that_none_sees_changes_nothing(self):
        groups = (TokenGroup("patches", sees=()), TEXT)
        assert influence(transformer(*groups), tokens(patches=3, text=2), "text", 0) == {
            "patches": [False] * 3,
            "text": [True] * 2,
        }

    def test_prefixes_of_causal_registers_are_those_of_the_whole(self):
        model, given = transformer(*REGISTERS), tokens(patches=3, queries=4)
        whole = model(given)["queries"]
        for num in range(1, 4):
            part = model({**given, "queries": given["queries"][:, :num]})["queries"]
            torch.testing.assert_close(part, whole[:, :num], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("groups", [(PATCHES, TEXT), (TokenGroup("patches", sees=()), TEXT)])
    def test_padding_is_as_if_it_were_not_there(self, groups):
        model, given = transformer(*groups), tokens(patches=3, text=5)
        valid = torch.arange(5) < torch.tensor([[2], [5]])
        out = model(given, {"text": valid})
        for item, length in enumerate((2, 5)):
            alone = model({"patches": given["patches"][item, None], "text": given["text"][item, None, :length]})
            torch.testing.assert_close(out["patches"][item], alone["patches"][0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(out["text"][item, :length], alone["text"][0], rtol=1e-4, atol=1e-5)
        given["text"][0, 2:] = 1e4
        assert torch.equal(model(given, {"text": valid})["patches"], out["patches"])

    @pytest.mark.parametrize("groups", [(PATCHES, TEXT), (TokenGroup("patches", sees=()), TEXT)])
    def test_equal_tokens_are_one_that_counts_as_many(self, groups):
        model, given = transformer(*groups), tokens(patches=3, text=2)
        copies = torch.tensor([[1.0, 4.0], [5.0, 0.0]])
        out = model(given, copies={"text": copies})
        for item, counts in enumerate(([1, 4], [5])):
            repeated = given["text"][item, : len(counts)].repeat_interleave(torch.tensor(counts), 0)[None]
            whole = model({"patches": given["patches"][item, None], "text": repeated})
            torch.testing.assert_close(out["patches"][item], whole["patches"][0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(out["text"][item, 0], whole["text"][0, 0], rtol=1e-4, atol=1e-5)

    def test_items_without_any_token_of_a_group_stay_finite(self):
        model, given = transformer(PATCHES, TokenGroup("text", sees=())), tokens(patches=3, text=2)
        for part in given.values():
            part.requires_grad_()
        out = model(given, {"text": torch.tensor([[False, False], [True, True]])})
        out["patches"].square().sum().backward()
        assert all(part.isfinite().all() for part in out.values())
        assert given["patches"].grad.isfinite().all()
        assert not given["text"].grad[0].any()
        assert given["text"].grad[1].any()

    def test_groups_are_modulated_apart_in_their_order(self):
        config = GroupTransformerConfig((PATCHES, QUERIES), BlockConfig(12, 3, 20, condition_size=6), 1, True)
        model, given, condition = GroupTransformer(config), tokens(patches=3, queries=2), torch.randn(2, 6)
        assert torch.equal(model(given, condition=condition)["queries"], given["queries"])  # adaLN starts at zero
        with torch.no_grad():
            model.layers[0].modulation.linear.bias[72:] = 1.0  # 6 parts of 12 numbers of the patches come first
        out = model(given, condition=condition)
        assert torch.equal(out["patches"], given["patches"])
        assert not torch.equal(out["queries"], given["queries"])

    @pytest.mark.parametrize(
        ("changes", "valid", "words"),
        [
            ({"queries": None}, None, "patches, queries"),
            ({"text": torch.zeros(2, 3, 12)}, None, "patches, queries"),
            ({"queries": torch.zeros(2, 3, 11)}, None, r"'queries' .*12"),
            ({"queries": torch.zeros(1, 3, 12)}, None, "as many items"),
            ({"patches": torch.zeros(2, 12)}, None, "must be"),
            ({}, {"patch": torch.ones(2, 3).bool()}, "did you mean 'patches'"),
            ({}, {"patches": torch.ones(2, 3)}, "must be bool"),
            ({}, {"patches": torch.ones(2, 4).bool()}, "must be bool"),
        ],
    )
    def test_tokens_that_do_not_fit(self, changes, valid, words):
        given = tokens(patches=3, queries=2) | changes
        with pytest.raises(InputError, match=words):
            transformer(PATCHES, QUERIES)({name: part for name, part in given.items() if part is not None}, valid)

    @pytest.mark.parametrize(
        ("groups", "num_layers", "words"),
        [
            ((), 2, "each another"),
            ((PATCHES, PATCHES), 2, "each another"),
            ((PATCHES, TokenGroup("queries", sees=("patch",))), 2, "did you mean 'patches'"),
            ((PATCHES,), 0, "at least 1"),
        ],
    )
    def test_configs_that_are_refused(self, groups, num_layers, words):
        with pytest.raises(ConfigError, match=words):
            GroupTransformerConfig(groups, BLOCK, num_layers)


class TestEncoder:
    def test_it_returns_what_the_queries_have_become(self):
        model, given = encoder(PATCHES, QUERIES), tokens(patches=3)
        x = torch.cat([given["patches"], model.queries.expand(2, -1, -1)], 1)
        for layer in model.transformer.layers:
            x = layer(x)
        expected = F.linear(F.layer_norm(x[:, 3:], (12,)), model.project.weight, model.project.bias)
        torch.testing.assert_close(model(given), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(("changes", "eps"), [({}, 1e-5), ({"norm_eps": 0.5}, 0.5), ({"has_norm": False}, None)])
    def test_the_last_norm(self, changes, eps):
        model = encoder(PATCHES, QUERIES, **changes)
        assert getattr(model.norm, "eps", None) == eps

    def test_text_joins_in_and_its_padding_does_not(self):
        model, given = encoder(PATCHES, QUERIES, TEXT), tokens(patches=3, text=5)
        valid = {"text": torch.arange(5) < torch.tensor([[2], [4]])}
        out = model(given, valid)
        for changed, is_seen in ((1, True), (4, False)):
            other = {**given, "text": given["text"].clone()}
            other["text"][:, changed] = torch.randn(12)
            assert torch.equal(model(other, valid), out) != is_seen

    def test_queries_start_apart_and_learn(self):
        model = encoder(*REGISTERS)
        assert 0.01 < float(model.queries.detach().std()) < 0.03
        model(tokens(patches=3)).square().sum().backward()
        assert (model.queries.grad.abs().sum(1) > 0).all()

    def test_tokens_that_do_not_fit(self):
        for given in ({}, tokens(patches=3, queries=4)):
            with pytest.raises(InputError, match="its own 'queries'"):
                encoder(PATCHES, QUERIES)(given)

    @pytest.mark.parametrize("changes", [{"num_queries": 0}, {"output_size": 0}, {"queries": "query"}])
    def test_configs_that_are_refused(self, changes):
        values = {"num_queries": 4, "output_size": 5} | changes
        with pytest.raises(ConfigError, match=r"at least 1|did you mean 'queries'"):
            QueryEncoderConfig(GroupTransformerConfig((PATCHES, QUERIES), BLOCK, 2), **values)

    def test_a_config_survives_json(self):
        config = encoder(*REGISTERS).config
        assert from_dict(QueryEncoderConfig, json.loads(json.dumps(to_dict(config)))) == config


class TestDecoder:
    LATENTS = TokenGroup("latents")

    @pytest.mark.parametrize("positions", ["learned", "sincos", None])
    def test_queries_are_filled_in_from_latents(self, positions):
        model, latents = decoder(self.LATENTS, QUERIES, positions=positions), torch.randn(2, 3, 5)
        x = F.linear(latents, model.embed.weight, model.embed.bias)
        if positions is not None:
            x = x + model.positions[:3]
        assert ("positions" in model.state_dict()) == (positions is not None)
        assert ("positions" in dict(model.named_parameters())) == (positions == "learned")
        x = torch.cat([x, model.queries.expand(2, -1, -1)], 1)
        for layer in model.transformer.layers:
            x = layer(x)
        expected = F.linear(F.layer_norm(x[:, 3:], (12,)), model.project.weight, model.project.bias)
        torch.testing.assert_close(model(latents), expected, rtol=1e-5, atol=1e-6)

    def test_queries_may_be_passed(self):
        model, learned = decoder(self.LATENTS, QUERIES, num_queries=None), decoder(self.LATENTS, QUERIES)
        latents, queries = torch.randn(2, 4, 5), learned.queries.detach()
        model.load_state_dict({name: value for name, value in learned.state_dict().items() if name != "queries"})
        assert torch.equal(model(latents, queries=queries), learned(latents))
        assert torch.equal(model(latents, queries=queries.expand(2, -1, -1)), learned(latents))
        assert model(latents, queries=queries[:2]).shape == (2, 2, 7)

    def test_text_joins_in_and_its_padding_does_not(self):
        model, latents, text = decoder(self.LATENTS, QUERIES, TEXT), torch.randn(2, 4, 5), torch.randn(2, 5, 12)
        valid = {"text": torch.arange(5) < torch.tensor([[2], [4]])}
        out = model(latents, {"text": text}, valid=valid)
        for changed, is_seen in ((1, True), (4, False)):
            other = text.clone()
            other[:, changed] = torch.randn(12)
            assert torch.equal(model(latents, {"text": other}, valid=valid), out) != is_seen

    def test_everything_learns(self):
        model = decoder(self.LATENTS, QUERIES)
        model(torch.randn(2, 4, 5)).square().sum().backward()
        for name, parameter in model.named_parameters():
            if not name.endswith("k.bias"):  # softmax cancels it
                assert parameter.grad.abs().sum() > 1e-6, name

    def test_calls_that_are_refused(self):
        model, latents = decoder(self.LATENTS, QUERIES), torch.randn(2, 4, 5)
        with pytest.raises(InputError, match="up to 4"):
            model(torch.randn(2, 5, 5))
        with pytest.raises(InputError, match=r"\(B, T, 5\)"):
            model(torch.randn(2, 4, 6))
        with pytest.raises(InputError, match="num_queries=None"):
            model(latents, queries=torch.randn(6, 12))
        with pytest.raises(InputError, match="pass some"):
            decoder(self.LATENTS, QUERIES, num_queries=None)(latents)
        with pytest.raises(InputError, match="arguments of their own"):
            model(latents, tokens(latents=4))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"num_queries": 0}, "num_queries must be at least 1"),
            ({"input_size": 0}, "input_size must be at least 1"),
            ({"latents": "queries"}, "two groups"),
            ({"latents": "latent"}, "did you mean 'latents'"),
            ({"positions": "fixed"}, "positions"),
        ],
    )
    def test_configs_that_are_refused(self, changes, words):
        with pytest.raises(ConfigError, match=words):
            decoder(self.LATENTS, QUERIES, **changes)


def test_a_video_tokenizer_of_three_dimensional_patches():
    # LARP: patches of a clip with a fixed table, queries beside them; queries for the patches are a table as well.
    table = sincos_3d((2, 2, 2), 12)
    embed, encode = PatchEmbedding((2, 4, 4), 3, 12), encoder(PATCHES, QUERIES, has_norm=False)
    latents = encode({"patches": embed(torch.rand(2, 3, 4, 8, 8)) + table})
    assert latents.shape == (2, 4, 5)
    decode = decoder(
        TokenGroup("latents"), QUERIES, num_queries=None, output_size=96, positions="sincos", norm_eps=1e-6
    )
    assert decode(latents, queries=table).shape == (2, 8, 96)
    # Fewer frames are the first rows of both tables; the number of latents stays.
    short = encode({"patches": embed(torch.rand(2, 3, 2, 8, 8)) + table[:4]})
    assert short.shape == latents.shape
    assert decode(short, queries=table[:4]).shape == (2, 4, 96)


def test_a_type_is_added_to_every_token_of_a_group():
    groups = (TokenGroup("patches", has_type=True), TokenGroup("queries"))
    typed, plain = transformer(*groups), transformer(PATCHES, QUERIES)
    assert typed.state_dict().keys() - plain.state_dict().keys() == {"types.patches"}
    plain.load_state_dict({name: tensor for name, tensor in typed.state_dict().items() if name != "types.patches"})
    given = tokens(patches=3, queries=2)
    moved = {**given, "patches": given["patches"] + typed.types["patches"]}
    for name, part in typed(given).items():
        assert torch.equal(part, plain(moved)[name])


@pytest.mark.parametrize("learns", [True, False])
def test_queries_may_be_sines_and_cosines(learns):
    made = encoder(PATCHES, QUERIES, query_start="sincos", learns_queries=learns)
    assert torch.equal(made.queries, sincos_1d(4, 12))
    assert ("queries" in dict(made.named_parameters())) == learns
    assert "queries" in made.state_dict()
    assert made(tokens(patches=3)).shape == (2, 4, 5)


def test_the_deviation_of_queries():
    assert encoder(PATCHES, QUERIES, query_std=0.0).queries.any().item() is False
    assert torch.allclose(encoder(PATCHES, QUERIES, query_std=2.0).queries, 100 * encoder(PATCHES, QUERIES).queries)
    with pytest.raises(ConfigError, match="query_std"):
        encoder(PATCHES, QUERIES, query_std=-1.0)


def test_queries_may_have_positions_beside():
    plain, placed = encoder(PATCHES, QUERIES), encoder(PATCHES, QUERIES, has_query_positions=True)
    assert plain.positions is None
    assert placed.positions.shape == (4, 12)
    given = tokens(patches=3)
    before = placed(given)
    with torch.no_grad():
        placed.queries += placed.positions
        placed.positions.zero_()
    assert torch.equal(placed(given), before), "they are added to the queries"
    made = decoder(TokenGroup("latents"), QUERIES, has_query_positions=True)
    assert made.query_positions.shape == (6, 12)
    out = made(torch.randn(2, 4, 5))
    out.sum().backward()
    assert torch.equal(made.query_positions.grad, made.queries.grad)
    with pytest.raises(ConfigError, match="bring their positions"):
        decoder(TokenGroup("latents"), QUERIES, has_query_positions=True, num_queries=None)


def test_a_row_of_the_mask_serves_all_where_a_group_is_whole():
    model, given = transformer(PATCHES, TEXT), tokens(patches=3, text=2)
    valid = {"text": torch.tensor([[True, False], [False, False]])}
    found = model(given, valid)
    everywhere = valid | {"patches": torch.ones(2, 3, dtype=torch.bool)}  # which takes a mask of all rows
    torch.testing.assert_close(found["patches"], model(given, everywhere)["patches"])
    assert torch.isfinite(found["text"]).all()
    empty = {"patches": given["patches"][:, :0], "text": given["text"]}
    assert torch.isfinite(model(empty, valid)["text"]).all()
