"""The prior over ids: causality, known entropies, padding, the cache, classes, several codebooks, vectors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.components.prior import Cache, CausalConfig, CausalTransformer, draw_ids
from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, InputError, TokenError
from zoo.generator import TokenPrior, TokenPriorConfig, bits_by_position, bits_per_token

SMALL = CausalConfig(width=32, num_layers=2, num_heads=2, max_length=24, dropout=0.0)
KINDS = {
    "ids": TokenPriorConfig(codebook_size=7, transformer=SMALL),
    "classes": TokenPriorConfig(codebook_size=7, num_classes=3, transformer=SMALL),
    "codebooks": TokenPriorConfig(codebook_size=5, num_codebooks=3, transformer=SMALL),
    "vectors": TokenPriorConfig(codebook_size=7, input_dim=4, transformer=SMALL),
    "vectors of codebooks": TokenPriorConfig(codebook_size=5, num_codebooks=3, input_dim=4, transformer=SMALL),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(kind, seed=0):
    """Return a prior whose logits differ clearly."""
    torch.manual_seed(seed)
    prior = TokenPrior(KINDS[kind] if isinstance(kind, str) else kind).eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return prior


def tokens(config, batch=4, length=10, seed=1):
    """Return ids and the other arguments of a prior."""
    shape = (batch, length) if config.num_codebooks == 1 else (batch, length, config.num_codebooks)
    ids = torch.randint(config.codebook_size, shape, generator=generator(seed))
    options = {}
    if config.num_classes:
        options["labels"] = torch.arange(batch) % (config.num_classes + 1) - 1
    if config.input_dim is not None:
        options["vectors"] = codes(ids)
    return ids, options


def codes(ids):
    """Return vectors of ids (..., ) or (..., 3), as a quantizer would."""
    table = torch.randn(3, 7, 4, generator=generator(9))
    return table[0][ids] if ids.ndim == 2 else sum(table[k][ids[..., k]] for k in range(3))


# Causality


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_change_no_earlier_logit(kind):
    prior, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    logits = prior(ids, **options)
    for position in (0, 4, 9):
        changed = ids.clone()
        changed[:, position:] = (ids[:, position:] + 1 + position % 3) % config.codebook_size
        more = {**options, "vectors": codes(changed)} if "vectors" in options else options
        other = prior(changed, **more)
        if config.num_codebooks == 1:
            assert torch.equal(other[:, : position + 1], logits[:, : position + 1])
        else:
            assert torch.equal(other[:, :position], logits[:, :position])
            assert torch.equal(other[:, position, 0], logits[:, position, 0])
            assert (other[:, position, 1:] - logits[:, position, 1:]).abs().amax((1, 2)).gt(1e-3).all()
        if position < 9:
            # Each later position sees the change; were one blind to it, its logits would be as they were.
            assert (other[:, position + 1 :] - logits[:, position + 1 :]).abs().flatten(2).amax(2).gt(1e-4).all()


@pytest.mark.parametrize("kind", ["codebooks", "vectors of codebooks"])
def test_ids_of_a_token_see_those_before_them_only(kind):
    prior, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    logits = prior(ids, **options)
    changed = ids.clone()
    changed[:, 9, 1] = (ids[:, 9, 1] + 1) % 5
    other = prior(changed, **options)
    assert torch.equal(other[:, :9], logits[:, :9])
    assert torch.equal(other[:, 9, :2], logits[:, 9, :2])
    assert (other[:, 9, 2] - logits[:, 9, 2]).abs().amax(1).gt(1e-3).all()


@pytest.mark.parametrize("kind", ["vectors", "vectors of codebooks"])
def test_gradients_reach_the_vectors_of_earlier_tokens(kind):
    prior, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    vectors = options["vectors"].requires_grad_()
    log_probs = prior.log_prob(ids, vectors=vectors)
    gradient = torch.autograd.grad(log_probs[:, 6].sum(), vectors)[0]
    assert gradient[:, :6].abs().amax(2).gt(0).all()
    assert not gradient[:, 6:].any()


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


def train(prior, draw, steps=150, rate=5e-3):
    optimiser = torch.optim.Adam(prior.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    prior.train()
    for step in range(steps):
        optimiser.zero_grad()
        prior.loss(*draw(step)).backward()
        optimiser.step()
        schedule.step()
    return prior.eval()


def test_a_markov_chain_is_learned_to_its_entropy_rate():
    transitions, stationary, rate = chain(6)
    source = generator(1)
    torch.manual_seed(0)
    prior = train(
        TokenPrior(TokenPriorConfig(codebook_size=6, transformer=SMALL)),
        lambda step: [walk(transitions, stationary, 64, 20, source)],
    )
    ids = walk(transitions, stationary, 500, 20, generator(2))
    with torch.no_grad():
        log_probs = prior.log_prob(ids)
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
    made = prior.generate(20, 500, generator=generator(3))
    counts = torch.zeros(6, 6, dtype=torch.float64)
    counts.index_put_((made[:, :-1].flatten(), made[:, 1:].flatten()), torch.ones(500 * 19).double(), accumulate=True)
    assert (counts / counts.sum(1, keepdim=True) - transitions).abs().mean() < 0.02


def test_a_second_codebook_that_follows_from_the_first_costs_nothing():
    permutation = torch.randperm(5, generator=generator(4))
    source = generator(5)

    def draw(step):
        first = torch.randint(5, (64, 8), generator=source)
        return [torch.stack([first, permutation[first]], 2)]

    torch.manual_seed(0)
    prior = train(TokenPrior(TokenPriorConfig(codebook_size=5, num_codebooks=2, transformer=SMALL)), draw)
    with torch.no_grad():
        log_probs = prior.log_prob(*draw(0))
        made = prior.generate(8, 50, generator=source)
    bits = bits_by_position(log_probs).mean(0)
    assert float(bits[0]) == pytest.approx(math.log2(5), abs=0.03)
    assert float(bits[1]) < 0.03
    assert float(bits_per_token(log_probs)) == pytest.approx(float(bits.sum()))
    assert (made[..., 1] == permutation[made[..., 0]]).float().mean() > 0.98


def test_a_class_tells_what_comes():
    source = generator(6)

    def draw(step):
        labels = torch.randint(3, (64,), generator=source)
        return [labels[:, None].expand(64, 6) * 2, None, labels]

    torch.manual_seed(0)
    config = TokenPriorConfig(codebook_size=6, num_classes=3, class_dropout=0.2, transformer=SMALL)
    prior = train(TokenPrior(config), draw, 100)
    ids, _, labels = draw(0)
    with torch.no_grad():
        told, untold = (bits_by_position(prior.log_prob(ids, None, given)) for given in (labels, None))
    assert told.max() < 0.05
    # Without a class, which training withheld now and then, the first token tells the rest.
    assert float(untold[0]) == pytest.approx(math.log2(3), abs=0.1)
    assert untold[1:].max() < 0.05
    with torch.no_grad():
        assert torch.equal(prior.log_prob(ids, None, torch.full_like(labels, -1)), prior.log_prob(ids))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(KINDS)), st.integers(1, 12), st.integers(0, 2**31))
def test_log_probabilities_are_those_of_the_logits(kind, length, seed):
    prior, config = make(kind), KINDS[kind]
    ids, options = tokens(config, 3, length, seed)
    with torch.no_grad():
        logits, log_probs = prior(ids, **options), prior.log_prob(ids, **options)
        loss = prior.loss(ids, **options)
    expected = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(loss, -expected.mean())


# Padding


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    prior, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    lengths = torch.tensor([10, 3, 7, 0])
    padding = torch.arange(10) >= lengths[:, None]
    outcomes = []
    for filling in (0, -1, 2**40):
        padded = ids.clone()
        padded[padding] = filling
        more = dict(options)
        if "vectors" in options:
            more["vectors"] = options["vectors"].clone()
            more["vectors"][padding] = math.nan if filling else 0.0
            more["vectors"].requires_grad_()
        prior.zero_grad()
        loss = prior.loss(padded, lengths, **more)
        loss.backward()
        gradients = [parameter.grad for parameter in prior.parameters()]
        gradients += [more["vectors"].grad] if "vectors" in more else []
        with torch.no_grad():
            log_probs = prior.log_prob(padded, lengths, **more)
        assert not log_probs[padding].any()
        outcomes.append((loss.detach(), log_probs, gradients))
    for other in outcomes[1:]:
        torch.testing.assert_close(other, outcomes[0], rtol=0, atol=0)
    loss, log_probs, _ = outcomes[0]
    torch.testing.assert_close(loss, -log_probs[~padding].mean())
    assert bits_per_token(log_probs, lengths) == pytest.approx(float(-log_probs.sum() / math.log(2) / 20), rel=1e-5)
    for item, length in enumerate(lengths.tolist()):
        own = {name: value[item : item + 1] for name, value in options.items()}
        own |= {"vectors": own["vectors"][:, :length]} if "vectors" in own else {}
        with torch.no_grad():
            alone = prior.log_prob(ids[item : item + 1, :length], **own)
        torch.testing.assert_close(alone[0], log_probs[item, :length], atol=2e-5, rtol=1e-5)


def test_positions_that_no_item_has_are_not_a_number():
    log_probs = torch.tensor([[-1.0, -2.0, 5.0], [-3.0, 5.0, 5.0]])
    bits = bits_by_position(log_probs * math.log(2), torch.tensor([2, 1]))
    assert bits.tolist()[:2] == pytest.approx([2, 2])
    assert bits[2].isnan()
    assert bits_per_token(log_probs * math.log(2), torch.tensor([2, 1])) == pytest.approx(2)
    assert bits_per_token(log_probs, torch.tensor([0, 0])).isnan()


# Generation


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_prompt", [None, 0, 4])
def test_the_cache_changes_nothing(kind, num_prompt):
    prior, config = make(kind), KINDS[kind]
    ids, options = tokens(config)
    vectors = options.pop("vectors", None)
    options["codes"] = None if vectors is None else codes
    options["prompt"] = None if num_prompt is None else ids[:, :num_prompt]
    runs = [
        prior.generate(10, 4, generator=generator(2), is_cached=is_cached, **options) for is_cached in (True, False)
    ]
    assert torch.equal(*runs)
    assert runs[0].shape == ids.shape
    assert torch.equal(runs[0][:, : num_prompt or 0], ids[:, : num_prompt or 0])
    assert not torch.equal(prior.generate(10, 4, generator=generator(3), **options), runs[0])


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


def test_greedy_tokens_are_the_most_likely_ones():
    for kind in ("ids", "codebooks"):
        prior = make(kind)
        made = prior.generate(10, 4, top_k=1)
        assert torch.equal(prior(made).argmax(-1), made)
        assert torch.equal(prior.generate(10, 4, top_k=1, prompt=made[:, :6]), made)


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


# Configs and bad arguments


def test_dropout_is_of_training_alone():
    config = TokenPriorConfig(7, transformer=CausalConfig(32, 2, 2, 24, 0.3))
    torch.manual_seed(0)
    prior = TokenPrior(config)
    ids = tokens(config)[0]
    with torch.no_grad():
        assert not torch.equal(prior(ids), prior(ids))
        prior.eval()
        assert torch.equal(prior(ids), prior(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_configs_are_plain_values_and_build_without_memory(kind):
    config = KINDS[kind]
    assert from_dict(TokenPriorConfig, to_dict(config)) == config
    with torch.device("meta"):
        skeleton = TokenPrior(config)
    assert {k: v.shape for k, v in skeleton.state_dict().items()} == {
        k: v.shape for k, v in TokenPrior(config).state_dict().items()
    }


@pytest.mark.parametrize(
    ("make_config", "message"),
    [
        (lambda: CausalConfig(width=30, num_heads=4), "4 heads do not divide a width of 30"),
        (lambda: CausalConfig(num_layers=0), "num_layers must be at least 1"),
        (lambda: CausalConfig(dropout=1.0), "dropout must be at least 0 and below 1"),
        (lambda: TokenPriorConfig(0), "codebook_size must be at least 1"),
        (lambda: TokenPriorConfig(4, num_classes=-1), "num_classes must be at least 0"),
        (lambda: TokenPriorConfig(4, input_dim=0), "input_dim must be at least 1"),
        (lambda: TokenPriorConfig(4, class_dropout=1.5), "class_dropout is a probability"),
    ],
)
def test_bad_configs_say_what_is_wrong(make_config, message):
    with pytest.raises(ConfigError, match=message):
        make_config()


def test_bad_arguments_say_what_is_wrong():
    prior, several, vectors = make("ids"), make("codebooks"), make("vectors")
    ids = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(TokenError, match=r"int64 \(B, T\), got torch.int32"):
        prior(ids.int())
    with pytest.raises(TokenError, match=r"\(B, T, 3\), got torch.int64 of \(2, 5\)"):
        several(ids)
    with pytest.raises(TokenError, match=r"\(2, 5, 4\), as its input; got None"):
        vectors(ids)
    with pytest.raises(InputError, match="25 positions are more than the 24"):
        prior(ids.new_zeros(1, 25))
    with pytest.raises(InputError, match="25 positions are more than the 24"):
        prior.generate(25)
    with pytest.raises(InputError, match="lengths must be 2 integers"):
        prior(ids, torch.tensor([1.0, 2.0]))
    with pytest.raises(InputError, match="labels must be 2 int64, of a prior that has classes"):
        prior(ids, None, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="labels must be 2 int64"):
        make("classes")(ids, None, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="the prompt has 5 tokens, more than the 3"):
        prior.generate(3, prompt=ids)
    with pytest.raises(InputError, match="if and only if the config has an input_dim"):
        vectors.generate(3)
    with pytest.raises(InputError, match=r"temperature must be positive, got 0; .*top_k=1"):
        prior.generate(3, temperature=0)
    with pytest.raises(InputError, match="top_k must be at least 1"):
        prior.generate(3, top_k=0)
