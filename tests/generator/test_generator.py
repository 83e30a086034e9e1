"""The generator: causality, known entropies, padding, ends, the cache, classes, prefixes, several codebooks."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.components.prior import Cache, CausalConfig, CausalTransformer, draw_ids
from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, InputError, TokenError
from zoo.generator import (
    GeneratorConfig,
    Sampling,
    TokenGenerator,
    bits_by_position,
    bits_of_items,
    bits_per_token,
    generate,
)
from zoo.tokens import Tokens

SMALL = CausalConfig(width=32, num_layers=2, num_heads=2, max_length=24, dropout=0.0)
SIZES = {"width": 32, "num_layers": 2, "num_heads": 2, "mlp_size": 64, "max_tokens": 24, "modality": "video"}
SIZES |= {"token_dropout": 0.0, "dropout": 0.0, "mlp_dropout": 0.0}
LEARNING = {**SIZES, "num_layers": 1}
KINDS = {
    "ids": GeneratorConfig(codebook_size=7, **SIZES),
    "classes": GeneratorConfig(codebook_size=7, num_classes=3, **SIZES),
    "codebooks": GeneratorConfig(codebook_size=5, num_codebooks=3, **SIZES),
    "prefix": GeneratorConfig(codebook_size=7, prefix_tokens=4, num_kv_heads=1, **SIZES),
    "end": GeneratorConfig(codebook_size=7, has_end=True, fixed_positions=True, **SIZES),
    "codebooks, end": GeneratorConfig(codebook_size=5, num_codebooks=3, has_end=True, **SIZES),
}
HAVE_END = [kind for kind, config in KINDS.items() if config.has_end]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(kind, seed=0):
    """Return a generator whose logits differ clearly."""
    torch.manual_seed(seed)
    model = TokenGenerator(KINDS[kind] if isinstance(kind, str) else kind).eval()
    with torch.no_grad():
        for head in model.heads:
            torch.nn.init.normal_(head.weight, std=0.1)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not name.startswith("heads"):
                parameter.mul_(8)
    return model


def tokens(config, batch=4, length=10, seed=1):
    """Return ids and the other arguments of a generator."""
    books = () if config.num_codebooks == 1 else (config.num_codebooks,)
    ids = torch.randint(config.codebook_size, (batch, length, *books), generator=generator(seed))
    options = {}
    if config.num_classes:
        options["labels"] = torch.arange(batch) % (config.num_classes + 1) - 1
    if config.prefix_tokens:
        options["prefix"] = torch.randint(7, (batch, config.prefix_tokens), generator=generator(seed + 1))
    return ids, options


def alone(options, item):
    return {name: value[item : item + 1] for name, value in options.items()}


# Causality


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_change_no_earlier_logit(kind):
    model, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    logits = model(ids, **options)[..., : config.codebook_size]
    for position in (0, 4, 9):
        changed = ids.clone()
        changed[:, position:] = (ids[:, position:] + 1 + position % 3) % config.codebook_size
        other = model(changed, **options)[..., : config.codebook_size]
        if config.num_codebooks == 1:
            assert torch.equal(other[:, : position + 1], logits[:, : position + 1])
        else:
            assert torch.equal(other[:, :position], logits[:, :position])
            assert torch.equal(other[:, position, 0], logits[:, position, 0])
            assert (other[:, position, 1:] - logits[:, position, 1:]).abs().amax((1, 2)).gt(1e-3).all()
        if position < logits.shape[1] - 1:
            # Each later position sees the change; were one blind to it, its logits would be as they were.
            assert (other[:, position + 1 :] - logits[:, position + 1 :]).abs().flatten(2).amax(2).gt(1e-4).all()


@pytest.mark.parametrize("kind", ["codebooks", "codebooks, end"])
def test_ids_of_a_token_see_those_before_them_only(kind):
    model, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    logits = model(ids, **options)
    changed = ids.clone()
    changed[:, 9, 1] = (ids[:, 9, 1] + 1) % 5
    other = model(changed, **options)
    assert torch.equal(other[:, :9], logits[:, :9])
    assert torch.equal(other[:, 9, :2], logits[:, 9, :2])
    assert (other[:, 9, 2] - logits[:, 9, 2])[:, :5].abs().amax(1).gt(1e-3).all()


def test_each_token_of_a_prefix_and_each_class_matters():
    model = make("prefix")
    ids, options = tokens(model.config)
    logits = model(ids, **options)
    for place in range(4):
        changed = options["prefix"].clone()
        changed[:, place] = (changed[:, place] + 1) % 7
        assert (model(ids, prefix=changed) - logits).abs().amax(2).gt(1e-4).all()
    model = make("classes")
    by_class = [model(ids, labels=torch.full((4,), label)) for label in (-1, 0, 1, 2)]
    assert torch.equal(by_class[0], model(ids))
    assert torch.equal(by_class[0], model(ids, labels=torch.full((4,), -7)))
    for i in range(4):
        assert all((by_class[i] - by_class[j]).abs().amax(2).gt(1e-4).all() for j in range(i))


# Probabilities


def chain(num_states, seed=0):
    """Return the transitions, the stationary distribution and the entropy rate in bits of a random Markov chain."""
    transitions = torch.randn(num_states, num_states, generator=generator(seed), dtype=torch.float64).mul(2).softmax(1)
    stationary = torch.linalg.matrix_power(transitions, 200)[0]
    rate = -(stationary[:, None] * transitions * transitions.log2()).sum()
    return transitions, stationary, float(rate)


def walk(transitions, stationary, batch, length, source):
    """Return sequences of a chain, (B, T)."""
    steps = [torch.multinomial(stationary.expand(batch, -1), 1, generator=source)]
    for _ in range(length - 1):
        steps.append(torch.multinomial(transitions[steps[-1][:, 0]], 1, generator=source))
    return torch.cat(steps, 1)


def train(model, draw, steps=150, rate=5e-3):
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for step in range(steps):
        optimiser.zero_grad()
        model.loss(*draw(step)).backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def test_a_markov_chain_is_learned_to_its_entropy_rate():
    transitions, stationary, rate = chain(6)
    source = generator(1)
    torch.manual_seed(0)
    model = train(
        TokenGenerator(GeneratorConfig(codebook_size=6, **LEARNING)),
        lambda step: [walk(transitions, stationary, 64, 20, source)],
    )
    ids = walk(transitions, stationary, 500, 20, generator(2))
    with torch.no_grad():
        log_probs = model.log_prob(ids)
    by_position = bits_by_position(log_probs)
    # Against the chain's own probabilities of these very sequences, of which the rate is the expectation.
    exact = -transitions[ids[:, :-1], ids[:, 1:]].log2()
    start = -(stationary * stationary.log2()).sum()
    assert float(exact.mean()) == pytest.approx(rate, abs=0.05)
    assert 0 < float(by_position[1:].mean() - exact.mean()) < 0.04
    assert float(by_position[0]) == pytest.approx(float(start), abs=0.1)
    assert rate < 0.8 * float(start), "there was something to learn"
    expected = (by_position[0] + by_position[1:].sum()) / 20
    assert float(bits_per_token(log_probs)) == pytest.approx(float(expected))
    # What it generates is the chain again.
    made, lengths = generate(model, 500, sampling=Sampling(), num_tokens=20, generators=generator(3))
    assert lengths.tolist() == [20] * 500
    counts = torch.zeros(6, 6, dtype=torch.float64)
    counts.index_put_((made[:, :-1].flatten(), made[:, 1:].flatten()), torch.ones(500 * 19).double(), accumulate=True)
    assert (counts / counts.sum(1, keepdim=True) - transitions).abs().mean() < 0.02


def test_a_second_codebook_that_follows_from_the_first_and_an_end_cost_what_they_tell():
    permutation = torch.randperm(5, generator=generator(4))
    source = generator(5)

    def draw(step):
        first = torch.randint(5, (64, 8), generator=source)
        return [torch.stack([first, permutation[first]], 2), torch.randint(1, 3, (64,), generator=source) * 4]

    torch.manual_seed(0)
    model = train(TokenGenerator(GeneratorConfig(codebook_size=5, num_codebooks=2, has_end=True, **LEARNING)), draw)
    ids, lengths = draw(0)
    with torch.no_grad():
        log_probs = model.log_prob(ids, lengths)
        made, ends = generate(model, 50, sampling=Sampling(), generators=source)
    bits = bits_by_position(log_probs, lengths)
    assert bits[:8, 1].mean() < 0.05
    # Half of the items end after the fourth token: a bit a item, of which the other half pays with its fifth token.
    whole = bits_of_items(log_probs)
    assert float(whole[lengths == 4].mean()) == pytest.approx(4 * math.log2(5) + 1, abs=0.5)
    assert float(whole[lengths == 8].mean()) == pytest.approx(8 * math.log2(5) + 1, abs=0.5)
    assert float(bits_per_token(log_probs, lengths)) == pytest.approx(float(whole.sum() / lengths.sum()))
    assert torch.isin(ends, torch.tensor([4, 8])).float().mean() > 0.9
    assert {4, 8} <= set(ends.tolist())
    inside = torch.arange(made.shape[1]) < ends[:, None]
    assert (made[..., 1] == permutation[made[..., 0]])[inside].float().mean() > 0.95
    assert not made[~inside].any()


def test_a_class_tells_what_comes():
    source = generator(6)

    def draw(step):
        labels = torch.randint(3, (64,), generator=source)
        return [labels[:, None].expand(64, 6) * 2, None, labels]

    torch.manual_seed(0)
    config = GeneratorConfig(codebook_size=6, num_classes=3, class_dropout=0.2, **LEARNING)
    model = train(TokenGenerator(config), draw, 100)
    ids, _, labels = draw(0)
    with torch.no_grad():
        told, untold = (bits_by_position(model.log_prob(ids, None, given)) for given in (labels, None))
    assert told.max() < 0.05
    # Without a class, which training withheld now and then, the first token tells the rest.
    assert float(untold[0]) == pytest.approx(math.log2(3), abs=0.15)
    assert untold[1:].max() < 0.05


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(KINDS)), st.integers(1, 12), st.integers(0, 2**31))
def test_log_probabilities_are_those_of_the_logits(kind, length, seed):
    model, config = make(kind), KINDS[kind]
    ids, options = tokens(config, 3, length, seed)
    with torch.no_grad():
        logits, log_probs = model(ids, **options), model.log_prob(ids, **options)
        loss = model.loss(ids, **options)
    assert logits.exp().sum(-1).gt(0).all()
    own = logits[:, :length].log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(log_probs[:, :length], own)
    number = own.numel() + 3 * config.has_end
    if config.has_end:
        end = logits[:, length].log_softmax(-1)[..., config.codebook_size]
        first, rest = (end[:, 0], log_probs[:, length, 1:]) if config.num_codebooks > 1 else (end, torch.zeros(0))
        torch.testing.assert_close(log_probs[:, length].reshape(3, -1)[:, 0], first)
        assert not rest.any()
    torch.testing.assert_close(loss, -log_probs.sum() / number)


# Padding


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    model, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    lengths = torch.tensor([10, 3, 7, 0])
    padding = torch.arange(10) >= lengths[:, None]
    outcomes = []
    for filling in (0, -1, 2**40):
        padded = ids.clone()
        padded[padding] = filling
        model.zero_grad()
        loss = model.loss(padded, lengths, **options)
        loss.backward()
        with torch.no_grad():
            log_probs = model.log_prob(padded, lengths, **options)
        outcomes.append((loss.detach(), log_probs, [parameter.grad.clone() for parameter in model.parameters()]))
    for other in outcomes[1:]:
        torch.testing.assert_close(other, outcomes[0], rtol=0, atol=0)
    loss, log_probs, _ = outcomes[0]
    number = 20 * config.num_codebooks + 4 * config.has_end
    torch.testing.assert_close(loss, -log_probs.sum() / number)
    assert bits_per_token(log_probs, lengths) == pytest.approx(float(-log_probs.sum() / math.log(2) / 20), rel=1e-5)
    for item, length in enumerate(lengths.tolist()):
        with torch.no_grad():
            own = model.log_prob(ids[item : item + 1, :length], **alone(options, item))[0]
        torch.testing.assert_close(own, log_probs[item, : len(own)], atol=2e-5, rtol=1e-5)
        assert not log_probs[item, len(own) :].any()


def test_positions_that_no_item_has_are_not_a_number():
    log_probs = torch.tensor([[-1.0, -2.0, 0.0], [-3.0, 0.0, 0.0]]) * math.log(2)
    bits = bits_by_position(log_probs, torch.tensor([2, 1]))
    assert bits.tolist()[:2] == pytest.approx([2, 2])
    assert bits[2].isnan()
    assert bits_per_token(log_probs, torch.tensor([2, 1])) == pytest.approx(2)
    assert bits_per_token(log_probs * 0, torch.tensor([0, 0])).isnan()


# Generation


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_prompt", [None, 0, 4])
def test_the_cache_changes_nothing(kind, num_prompt):
    model, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    options["prompt"] = None if num_prompt is None else ids[:, :num_prompt]
    options["sampling"] = Sampling(guidance=2.0, guided_tokens=7) if config.num_classes else Sampling()
    runs = [
        generate(model, 4, num_tokens=10, generators=generator(2), is_cached=is_cached, **options)
        for is_cached in (True, False)
    ]
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert runs[0][0].shape[::2] == ids.shape[::2]
    assert torch.equal(runs[0][0][:, : num_prompt or 0], ids[:, : num_prompt or 0])
    assert not torch.equal(generate(model, 4, num_tokens=10, generators=generator(3), **options)[0], runs[0][0])


@pytest.mark.parametrize("kind", KINDS)
def test_cached_logits_are_the_teacher_forced_ones_token_by_token(kind):
    model, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    with torch.no_grad():
        whole = model(ids, **options)[:, :10]
        cache, columns = Cache(24), model.columns(ids)
        x = model.start(4, options.get("labels"), options.get("prefix"))
        for position in range(10):
            context = model.contexts(model.hidden(x, cache)[:, -1:], columns[:, position : position + 1])
            for k, head in enumerate(model.heads):
                expected = whole[:, position] if config.num_codebooks == 1 else whole[:, position, k]
                found = head(context[:, 0, k])
                torch.testing.assert_close(found, expected[:, : found.shape[1]], atol=2e-5, rtol=1e-5)
            x = model.embedded(columns[:, position : position + 1])


def test_cached_outputs_are_those_of_the_whole_in_pieces_of_any_size():
    torch.manual_seed(0)
    transformer = CausalTransformer(SMALL).eval()
    x = torch.randn(3, 20, 32, generator=generator())
    with torch.no_grad():
        whole = transformer(x)
        for sizes in ([1] * 20, [5, 1, 7, 7], [20]):
            cache = Cache(20)
            pieces = torch.cat([transformer(piece, cache) for piece in x.split(sizes, 1)], 1)
            torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)
            assert cache.length == 20


@pytest.mark.parametrize("kind", ["ids", "codebooks", "prefix"])
def test_greedy_tokens_are_the_most_likely_ones(kind):
    model = make(kind)
    _, options = tokens(model.config)
    greedy = Sampling(top_k=1)
    made, _ = generate(model, 4, num_tokens=10, sampling=greedy, **options)
    assert torch.equal(model(made, **options).argmax(-1), made)
    again, _ = generate(model, 4, num_tokens=10, sampling=greedy, prompt=made[:, :6], **options)
    assert torch.equal(again, made)


def test_guidance_is_of_the_first_tokens_and_towards_the_class():
    model = make("classes")
    labels = torch.tensor([0, 1, 2])
    greedy = {"num_tokens": 10, "labels": labels}
    guided, _ = generate(model, 3, sampling=Sampling(top_k=1, guidance=4.0, guided_tokens=6), **greedy)
    with torch.no_grad():
        known, unknown = model(guided, labels=labels), model(guided)
    both = unknown + 4.0 * (known - unknown)
    assert torch.equal(both[:, :6].argmax(-1), guided[:, :6])
    assert torch.equal(known[:, 6:].argmax(-1), guided[:, 6:])
    assert not torch.equal(both.argmax(-1), known.argmax(-1)), "guidance matters here"
    none = [generate(model, 3, sampling=Sampling(top_k=1, guidance=g), **greedy)[0] for g in (1.0, 0.5)]
    assert torch.equal(none[0], none[1])


def test_a_sample_is_its_own_whatever_is_beside_it():
    config = replace(KINDS["end"], tokenizer="toy.nano")
    model = make(config)
    many = model.sample(6, seed=5)
    several = make("codebooks, end").sample(6, seed=1)
    assert several.ids.max() < 5
    assert not several.ids[~several.mask].any()
    assert len(set(several.lengths.tolist())) > 1, "ends were drawn, and are no ids"
    assert (many.model, many.codebook_size) == ("toy.nano", 7)
    assert len(set(many.lengths.tolist())) > 1
    assert model.sample(3, seed=5).tolist() == many.tolist()[:3]
    assert model.sample(6, seed=6).tolist() != many.tolist()
    prompt = Tokens.from_ids([[1, 2], [3, 4]], codebook_size=7, model="toy.nano")
    assert [item[:2] for item in model.sample(prompt=prompt).tolist()] == [[1, 2], [3, 4]]


def test_draws_have_the_probabilities_of_the_logits():
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 1.0])
    for temperature, top_k in ((1.0, None), (0.5, None), (2.0, None), (1.0, 1), (1.0, 2), (0.7, 4), (1.0, 9)):
        drawn = draw_ids(logits.expand(20000, -1), temperature=temperature, top_k=top_k, generator=generator())
        kept = logits >= logits.sort(descending=True).values[min(top_k or 5, 5) - 1]  # ties with the k-th stay
        expected = (logits / temperature).masked_fill(~kept, -math.inf).softmax(0)
        shares = torch.bincount(drawn, minlength=5) / 20000
        assert (shares - expected).abs().max() < 0.015, (temperature, top_k)
        assert not shares[~kept].any()


def test_draws_are_those_of_multinomial():
    logits = torch.randn(50, 30, generator=generator())
    expected = torch.multinomial(logits.softmax(-1), 1, generator=generator(7))[:, 0]
    assert torch.equal(draw_ids(logits, generator=generator(7)), expected)
    rows = draw_ids(logits, generator=[generator(i) for i in range(50)])
    alone = [int(draw_ids(row[None], generator=[generator(i)])) for i, row in enumerate(logits)]
    assert rows.tolist() == alone


# Configs and bad arguments


def test_dropout_is_of_training_alone():
    for name in ("token_dropout", "dropout", "mlp_dropout", "attention_dropout", "drop_path"):
        model = make(replace(KINDS["ids"], **{name: 0.3}))
        ids = tokens(model.config)[0]
        with torch.no_grad():
            still = model(ids)
            model.train()
            assert not torch.equal(model(ids), still), name
            model.eval()
            assert torch.equal(model(ids), still)


def test_drop_path_leaves_out_whole_branches_of_items():
    model = make(replace(KINDS["ids"], drop_path=0.5, num_layers=2)).train()
    block, x = model.stack.layers[1], torch.randn(64, 3, 32)
    assert model.stack.layers[0].drop_path == 0
    with torch.no_grad():
        change = block._add(torch.zeros_like(x), x, None, "mlp")
    scaled = torch.isclose(change, 2 * x).flatten(1).all(1)
    assert torch.equal(scaled, change.flatten(1).any(1))
    assert 10 < int(scaled.sum()) < 54


@pytest.mark.parametrize("kind", KINDS)
def test_configs_are_plain_values_and_build_without_memory(kind):
    config = KINDS[kind]
    assert from_dict(GeneratorConfig, to_dict(config)) == config
    with torch.device("meta"):
        skeleton = TokenGenerator(config)
    assert {k: v.shape for k, v in skeleton.state_dict().items()} == {
        k: v.shape for k, v in TokenGenerator(config).state_dict().items()
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30, "num_heads": 4}, "4 heads do not divide a width of 30"),
        ({"num_kv_heads": 3}, "3 heads of keys do not divide 2 heads"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"codebook_size": 1}, "codebook_size must be at least 2"),
        ({"num_classes": -1}, "num_classes must be at least 0"),
        ({"class_dropout": 1.5}, "class_dropout is a probability"),
        ({"num_classes": 3, "prefix_tokens": 4}, "a prefix and classes exclude one another"),
        ({"condition_frames": 3}, "frames are a condition of prefix_tokens, and there are none"),
        ({"prefix_tokens": 4, "condition_frames": -1}, "condition_frames must be at least 0"),
        ({"norm_eps": 0.0}, "norm_eps and init_std must be above 0"),
        ({"width": 2**20, "num_layers": 1024}, "must be at most"),
        ({"modality": "smell"}, "modality"),
    ],
)
def test_bad_configs_say_what_is_wrong(changes, message):
    with pytest.raises(ConfigError, match=message):
        GeneratorConfig(**{**SIZES, "codebook_size": 7, **changes})


def test_bad_arguments_say_what_is_wrong():
    model, several, framed = make("ids"), make("codebooks"), make("prefix")
    ids = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(TokenError, match=r"int64 \(B, T\), got torch.int32"):
        model(ids.int())
    with pytest.raises(TokenError, match=r"\(B, T, 3\), got torch.int64 of \(2, 5\)"):
        several(ids)
    with pytest.raises(InputError, match="wants a prefix of 4 tokens for each of 2 items, got None"):
        framed(ids)
    with pytest.raises(InputError, match="takes no prefix"):
        model(ids, prefix=ids)
    with pytest.raises(InputError, match="takes no labels"):
        framed(ids, labels=torch.zeros(2).long(), prefix=ids[:, :4])
    with pytest.raises(InputError, match="25 tokens are more than the 24"):
        model(ids.new_zeros(1, 25))
    with pytest.raises(InputError, match="num_tokens must be 1 to 24"):
        generate(model, 1, num_tokens=25, sampling=Sampling())
    with pytest.raises(InputError, match="lengths must be 2 integers"):
        model(ids, torch.tensor([1.0, 2.0]))
    with pytest.raises(InputError, match="labels must be 2 int64, of a generator that has classes"):
        model(ids, None, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="labels must be 2 int64"):
        make("classes")(ids, None, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="labels must be below 3"):
        make("classes").sample(labels=[1, 3])
    with pytest.raises(InputError, match="guidance is towards a class"):
        model.sample(sampling=Sampling(guidance=2.0))
    with pytest.raises(InputError, match="of the same items"):
        make("classes").sample(labels=[1, 2], prompt=Tokens.from_ids([[1]], codebook_size=7))
    with pytest.raises(TokenError, match="the prompt has 5 tokens, more than the 3"):
        generate(model, 2, num_tokens=3, prompt=ids, sampling=Sampling())
    with pytest.raises(TokenError, match=r"ids must be in 0 … 6"):
        generate(model, 2, prompt=ids + 7, sampling=Sampling())
    with pytest.raises(TokenError, match="must have one length"):
        model.sample(prompt=Tokens.from_ids([[1], [2, 3]], codebook_size=7))
    named = make(replace(KINDS["ids"], tokenizer="toy.nano"))
    for wrong in (Tokens.from_ids([[1]], codebook_size=7, model="other"), Tokens.from_ids([[1]], codebook_size=8)):
        with pytest.raises(TokenError, match="is over the 7 ids of toy"):
            named.sample(prompt=wrong)
    with pytest.raises(InputError, match=r"temperature must be positive, got 0; .*top_k=1"):
        Sampling(temperature=0)
    with pytest.raises(InputError, match="top_k must be at least 1"):
        Sampling(top_k=0)
    with pytest.raises(InputError, match="top_p must be above 0"):
        Sampling(top_p=0.0)
    with pytest.raises(InputError, match="2 items need as many generators, got 1"):
        draw_ids(torch.zeros(2, 3), generator=[generator()])
