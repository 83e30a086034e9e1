"""The prior over code vectors: scheduled sampling against its formulas, who gets gradient, sizes, learning."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.components.prior import CausalConfig, CodePrior, CodePriorConfig, replacement_rate
from zoo.components.quantizers import build
from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, InputError, TokenError

DIM, SIZE = 4, 9
SMALL = CausalConfig(width=32, num_layers=2, num_heads=2, max_length=12, dropout=0.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(**options):
    torch.manual_seed(0)
    prior = CodePrior(CodePriorConfig(DIM, transformer=SMALL, **options))
    with torch.no_grad():
        for parameter in prior.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return prior


def problem(batch=5, length=8):
    """Return unit codes with a gradient, their ids and the codebook."""
    codebook = F.normalize(torch.randn(SIZE, DIM, generator=generator(1)), dim=1)
    ids = torch.randint(SIZE, (batch, length), generator=generator(2))
    return codebook[ids].requires_grad_(), ids, codebook.requires_grad_()


@pytest.mark.parametrize(
    ("width", "num_layers", "num_heads", "count"),
    [
        (256, 6, 4, 5_009_680),
        (384, 6, 6, 11_053_456),
        (384, 12, 6, 21_700_240),
        (512, 12, 8, 38_370_832),
        (768, 12, 12, 85_867_792),
    ],
)
def test_parameter_counts_of_published_sizes(width, num_layers, num_heads, count):
    with torch.device("meta"):
        prior = CodePrior(CodePriorConfig(16, transformer=CausalConfig(width, num_layers, num_heads)))
    assert sum(parameter.numel() for parameter in prior.parameters()) == count


def test_the_default_is_the_size_that_trained_the_released_model():
    assert CausalConfig() == CausalConfig(384, 12, 6, 1024, 0.1)


def test_later_codes_change_no_earlier_prediction():
    prior, (vectors, _, _) = make(), problem()
    predicted = prior(vectors)
    torch.testing.assert_close(predicted.norm(dim=-1), torch.ones(5, 8))
    changed = vectors.detach().clone()
    changed[:, 5:] *= -1
    other = prior(changed)
    assert torch.equal(other[:, :5], predicted[:, :5])
    assert (other[:, 5:] - predicted[:, 5:]).abs().amax(2).gt(1e-3).all()


def test_logits_are_cosines_to_the_codes():
    prior, (vectors, _, codebook) = make(temperature=0.5), problem()
    lengths = torch.rand(SIZE, 1, generator=generator(3)) + 0.5
    logits = prior.logits(vectors, codebook.detach() * lengths)
    torch.testing.assert_close(logits, prior(vectors) @ codebook.T / 0.5)
    assert logits.abs().max() <= 2 + 1e-5


@pytest.mark.parametrize(("num_rounds", "counts_all_rounds"), [(1, True), (2, True), (2, False), (3, True)])
def test_rounds_are_those_of_the_formulas(num_rounds, counts_all_rounds):
    prior = make(num_rounds=num_rounds, counts_all_rounds=counts_all_rounds)
    vectors, ids, codebook = problem()
    loss = prior.loss(vectors, ids, codebook, replaced=0.4, generator=generator(7))

    source = generator(7)
    chosen = torch.rand(5, 7, 1, generator=source) < 0.4
    x, losses = vectors, []
    for _ in range(num_rounds):
        logits = prior(x[:, :-1]) @ codebook.detach().T
        losses.append(-logits.log_softmax(2).gather(2, ids[:, 1:, None]).mean())
        if len(losses) < num_rounds:
            drawn = torch.multinomial(logits.detach().softmax(2).flatten(0, 1), 1, generator=source).view(5, 7)
            x = torch.cat([vectors[:, :1], torch.where(chosen, codebook.detach()[drawn], vectors[:, 1:])], 1)
    expected = sum(losses) / num_rounds if counts_all_rounds else losses[-1]
    torch.testing.assert_close(loss, expected)
    inputs = (vectors, *prior.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs))


def test_gradients_reach_what_is_not_replaced_and_never_the_codebook():
    prior, (vectors, ids, codebook) = make(), problem()
    prior.loss(vectors, ids, codebook, replaced=0.5, generator=generator()).backward()
    assert codebook.grad is None
    assert vectors.grad[:, :-1].abs().amax(2).gt(0).all(), "the first round replaces nothing"
    assert not vectors.grad[:, -1].any(), "nothing follows the last"
    assert all(parameter.grad.any() for name, parameter in prior.named_parameters() if "attention.k.bias" not in name)

    last_round = make(counts_all_rounds=False)
    vectors, ids, codebook = problem()
    last_round.loss(vectors, ids, codebook, replaced=1.0, generator=generator()).backward()
    assert vectors.grad[:, 0].abs().amax(1).gt(0).all(), "the first code is never replaced"
    assert not vectors.grad[:, 1:].any()


def test_gradients_pass_a_quantizer_to_what_made_its_vectors():
    torch.manual_seed(0)
    quantizer = build({"kind": "stochastic_vq", "codebook_size": SIZE, "dim": DIM})
    encoder, prior = nn.Linear(3, DIM), make()
    quantized = quantizer(encoder(torch.randn(2, 8, 3, generator=generator())), generator=generator())
    prior.loss(quantized.codes, quantized.ids, quantizer.vectors(), replaced=0.5, generator=generator()).backward()
    assert encoder.weight.grad.any()
    assert quantizer.codebook.grad is None


def test_padding_changes_nothing():
    lengths = torch.tensor([8, 5, 2, 1, 0])
    padding = torch.arange(8) >= lengths[:, None]
    outcomes = []
    for filling, number in ((0.0, 0), (1e20, -1), (math.nan, 2**40)):
        prior, (vectors, ids, codebook) = make(), problem()
        vectors = vectors.detach().clone()
        vectors[padding], ids[padding] = filling, number
        vectors.requires_grad_()
        loss = prior.loss(vectors, ids, codebook, replaced=0.5, lengths=lengths, generator=generator())
        loss.backward()
        assert not vectors.grad[padding].any()
        outcomes.append((loss.detach(), vectors.grad, [parameter.grad for parameter in prior.parameters()]))
    for other in outcomes[1:]:
        torch.testing.assert_close(other, outcomes[0], rtol=0, atol=0)
    prior, (vectors, ids, codebook) = make(num_rounds=1), problem()
    parts = [
        prior.loss(vectors[i : i + 1, :n], ids[i : i + 1, :n], codebook) * (n - 1) for i, n in ((0, 8), (1, 5), (2, 2))
    ]
    torch.testing.assert_close(prior.loss(vectors, ids, codebook, lengths=lengths), sum(parts) / 12)


def test_nothing_to_predict_costs_nothing():
    prior, (vectors, ids, codebook) = make(), problem()
    assert prior.loss(vectors[:, :1], ids[:, :1], codebook) == 0
    assert prior.loss(vectors, ids, codebook, lengths=torch.ones(5, dtype=torch.int64)) == 0


def test_a_predictable_sequence_is_learned_and_codes_move_to_be_predictable():
    # Cosines in [-1, 1] are logits from which the loss cannot fall to 0: its floor is that of the codebook.
    codebook = F.normalize(torch.randn(SIZE, DIM, generator=generator(1)), dim=1)
    floor = -(codebook @ codebook.T).log_softmax(1).diagonal().mean()
    torch.manual_seed(0)
    prior = CodePrior(CodePriorConfig(DIM, transformer=SMALL))
    optimiser = torch.optim.Adam(prior.parameters(), 5e-3)
    source = generator(3)
    losses = []
    for _ in range(120):
        ids = (torch.randint(SIZE, (32, 1), generator=source) + 2 * torch.arange(8)) % SIZE
        loss = prior.loss(codebook[ids], ids, codebook, replaced=0.3, generator=source)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    clean = prior.loss(codebook[ids], ids, codebook)
    assert losses[0] > math.log(SIZE) - 0.2
    assert clean.item() < floor.item() + 0.1
    # One step of gradient on the vectors alone lowers the loss: the prior pulls codes to where it expects them.
    vectors = torch.randn(16, 8, DIM, generator=source).requires_grad_()
    before = prior.loss(vectors, ids[:16], codebook)
    gradient = torch.autograd.grad(before, vectors)[0]
    assert prior.loss(vectors - 10 * gradient, ids[:16], codebook) < before - 1e-3


def test_the_rate_of_replacement_rises_and_stays():
    rates = [replacement_rate(step, 1000) for step in (0, 1, 150, 300, 301, 1000, 5000)]
    assert rates == pytest.approx([0, 0.5 / 300, 0.25, 0.5, 0.5, 0.5, 0.5])
    assert replacement_rate(0, 10, 0.7, 0.0) == 0.7
    assert replacement_rate(5, 10, 1.0, 1.0) == 0.5


def test_configs_are_plain_values_and_bad_arguments_say_what_is_wrong():
    config = CodePriorConfig(DIM, 0.5, 3, False, SMALL)
    assert from_dict(CodePriorConfig, to_dict(config)) == config
    for options, message in (
        ({"dim": 0}, "dim and num_rounds must be at least 1"),
        ({"dim": 4, "num_rounds": 0}, "dim and num_rounds must be at least 1"),
        ({"dim": 4, "temperature": 0.0}, "temperature must be positive"),
    ):
        with pytest.raises(ConfigError, match=message):
            CodePriorConfig(**options)
    prior, (vectors, ids, codebook) = make(), problem()
    for bad in (ids[:, :3], ids.int(), ids[0]):
        with pytest.raises(TokenError, match="vectors must be"):
            prior.loss(vectors, bad, codebook)
    with pytest.raises(InputError, match="replaced is a probability"):
        prior.loss(vectors, ids, codebook, replaced=1.5)
    with pytest.raises(InputError, match="13 positions are more than the 12"):
        prior.loss(torch.zeros(1, 14, DIM), torch.zeros(1, 14, dtype=torch.int64), codebook)
