"""FSQ, LFQ and Voting-LFQ against published figures, formulas and check values."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.components.quantizers import build
from zoo.components.quantizers.entropy import entropies
from zoo.components.quantizers.lfq import bits_of, to_signs


def test_fsq_check_values():
    quantizer = build({"kind": "fsq", "levels": [8, 8, 8, 5, 5, 5]})
    z = torch.tensor(
        [
            [0.0] * 6,
            [-10.0] * 6,
            [10.0] * 6,
            [0.3, -0.7, 1.1, -1.9, 0.2, 2.5],
            [-0.05, 0.05, -0.2, 0.3, -0.3, 0.6],
            [1.5, 1, 0.5, 1, 0.5, -0.5],
        ]
    )
    assert quantizer.ids(z).tolist() == [32036, 0, 63999, 56725, 42724, 22903]
    assert quantizer(z[3]).codes.tolist() == [0.25, -0.5, 0.5, -1, 0, 1]
    assert quantizer.codes(torch.tensor([12345, 1])).tolist() == [
        [-0.75, 0.75, -1, 1, 1, -1],
        [-0.75, -1, -1, -1, -1, -1],
    ]
    assert quantizer.codebook_size == 64000


def test_fsq_bypass():
    quantizer = build({"kind": "fsq", "levels": [8, 5], "bypass_rate": 0.5})
    z = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    codes, ids, *_ = quantizer(z, generator=torch.Generator().manual_seed(1))
    rounded = (codes == quantizer.codes(ids)).all(1)
    assert 400 < rounded.sum() < 600
    assert torch.equal(quantizer.eval()(z).codes, quantizer.codes(ids))


def direct_entropies(z, temperature):
    """The definition, over the whole codebook."""
    codes = to_signs(bits_of(torch.arange(2 ** z.shape[1]), z.shape[1])).double()
    pi = (2 * z.double() @ codes.T / temperature).softmax(1)
    average = pi.mean(0)
    return torch.special.entr(pi).sum(1).mean(), -(average * (average + 1e-5).log()).sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.sampled_from([0.01, 0.3, 5.0]), st.integers(0, 2**31))
def test_entropies_equal_those_over_the_whole_codebook(num_bits, temperature, seed):
    z = 0.3 * torch.randn(20, num_bits, generator=torch.Generator().manual_seed(seed))
    for mine, theirs in zip(entropies(z, temperature), direct_entropies(z, temperature), strict=True):
        assert float(mine) == pytest.approx(float(theirs), abs=2e-5)


def test_entropy_gradient_is_that_of_the_definition():
    z = (0.02 * torch.randn(15, 5)).requires_grad_()
    for k in range(2):
        mine = torch.autograd.grad(entropies(z, 0.1)[k], z)[0]
        theirs = torch.autograd.grad(direct_entropies(z, 0.1)[k], z)[0]
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)


def test_entropy_check_values():
    assert float(entropies(torch.tensor([[0.001, -0.002]]), 0.01)[0]) == pytest.approx(1.2926613, abs=1e-6)
    assert float(entropies(torch.zeros(1, 2), 0.01)[0]) == pytest.approx(math.log(4), abs=1e-6)
    corners = torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])
    each, average = entropies(corners, 0.01)
    assert float(each) == pytest.approx(0, abs=1e-6)
    assert float(average) == pytest.approx(1.3862543, abs=4e-5)
    quantizer = build({"kind": "lfq", "num_bits": 2})
    assert quantizer.ids(corners).tolist() == [3, 2, 1, 0]
    assert quantizer.ids(torch.zeros(2)) == 0


def test_lfq_losses_are_weighted():
    z = torch.tensor([[0.3, -0.2, 1.5]])
    quantizer = build({"kind": "lfq", "num_bits": 3, "entropy_weight": 0.2, "diversity": 2.0, "temperature": 1.0})
    losses = quantizer(z).losses
    assert float(losses["commitment"]) == pytest.approx(0.25 * (0.49 + 0.64 + 0.25) / 3)
    each, average = direct_entropies(z, 1.0)
    assert float(losses["entropy"]) == pytest.approx(float(0.2 * (each - 2 * average)), abs=1e-5)


UNWEIGHTED = {"consensus_weight": 1.0, "commitment_weight": 1.0, "entropy_weight": 1.0}


def voting(num_bits, num_voters, **options):
    """A voting quantizer of square projections that are the identity."""
    quantizer = build(
        {
            "kind": "voting_lfq",
            "dim": num_bits,
            "num_bits": num_bits,
            "num_voters": num_voters,
            "num_clean": (num_voters + 1) // 2,
            **options,
        }
    )
    with torch.no_grad():
        quantizer.branches.weight.copy_(torch.eye(num_bits).repeat(num_voters, 1))
        quantizer.out.weight.copy_(torch.eye(num_bits))
    return quantizer


def test_voting_check_values():
    h, noisy = torch.tensor([0.3, -0.2]), torch.tensor([-0.1, -0.4])
    for scale, consensus in (("per-element", 0.0666667), ("paper", 0.0444444)):
        quantizer = voting(2, 3, consensus_scale=scale, **UNWEIGHTED)
        result = quantizer(h, noisy=noisy, clean_branches=[0, 1])
        torch.testing.assert_close(result.codes, torch.tensor([1 / 3, -1.0]))
        assert result.ids == 1
        assert result.losses["commitment"].item() == pytest.approx(0.305, abs=1e-6)
        assert result.losses["consensus"].item() == pytest.approx(consensus, abs=1e-6)
        # Each vector is sure of its code, but the batch has one code a branch: both entropies are 0.
        assert result.losses["entropy"].item() == pytest.approx(0, abs=2e-5)
        evaluated = quantizer.eval()(h, noisy=noisy, clean_branches=[0, 1])
        assert evaluated.codes.tolist() == [1, -1]
        assert evaluated.ids == 1
        assert evaluated.losses["consensus"] == 0


@pytest.mark.parametrize(
    ("branches", "voted"),
    [
        ([5533, 5517, 5517, 5517, 5533], 5517),
        ([3485, 3517, 3517, 3485, 3357], 3485),
        ([2920, 2920, 2912, 2920, 2920], 2920),
        ([6939, 6939, 6943, 7003, 6939], 6939),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_the_majority_of_every_bit_wins(branches, voted, training):
    # One input that makes each branch's projection the signs of its id.
    quantizer = build({"kind": "voting_lfq", "dim": 1, "num_bits": 13}).train(training)
    signs = to_signs(bits_of(torch.tensor(branches), 13))
    with torch.no_grad():
        quantizer.branches.weight.copy_(signs.reshape(-1, 1))
    assert quantizer.ids(torch.ones(1)) == voted
    assert quantizer(torch.ones(1)).ids == voted


def test_two_wrong_branches_of_five_change_nothing_and_three_do():
    quantizer = build({"kind": "voting_lfq", "dim": 1, "num_bits": 13}).eval()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        voted = int(torch.randint(8192, (), generator=generator))
        bit = int(torch.randint(13, (), generator=generator))
        order = torch.randperm(5, generator=generator)
        for wrong in (1, 2, 3):
            signs = to_signs(bits_of(torch.full((5,), voted), 13))
            signs[order[:wrong], bit] *= -1
            with torch.no_grad():
                quantizer.branches.weight.copy_(signs.reshape(-1, 1))
            assert quantizer.ids(torch.ones(1)) == (voted if wrong < 3 else voted ^ (1 << bit))


def test_voting_round_trip_of_all_ids():
    quantizer = voting(13, 5).eval()
    ids = torch.arange(8192)
    assert torch.equal(quantizer.ids(quantizer.codes(ids)), ids)
    assert torch.equal(quantizer.codes(ids), to_signs(bits_of(ids, 13)))


def test_voting_gradients():
    quantizer = voting(4, 5, consensus_weight=1.0, commitment_weight=0.0, entropy_weight=0.0)
    z = torch.randn(6, 4)
    with torch.no_grad():
        quantizer.branches.weight.add_(0.1 * torch.randn(20, 4))
    mask = torch.tensor([True, True, True, False, True, False])
    p = quantizer.branches(z).view(6, 5, 4).detach().requires_grad_()
    valid = p[mask]
    expected = torch.zeros_like(p)
    expected[mask] = 2 * (valid - valid.mean(1, keepdim=True)).detach() / (4 * 4)
    loss = quantizer._losses(valid, to_signs(valid > 0).mean(1))["consensus"]
    torch.testing.assert_close(torch.autograd.grad(loss, p)[0], expected)
    # ∂s/∂p_i = I/n, seen through an output that is the identity.
    h = z.clone().requires_grad_()
    weights = torch.randn(6, 4)
    (quantizer(h).codes * weights).sum().backward()
    average = quantizer.branches.weight.view(5, 4, 4).mean(0)
    torch.testing.assert_close(h.grad, weights @ average)


def test_voting_routes_whole_branches():
    quantizer = build({"kind": "voting_lfq", "dim": 8, "num_bits": 4, "num_voters": 5, "num_clean": 2})
    z, noisy = torch.randn(7, 8).requires_grad_(), torch.randn(7, 8).requires_grad_()
    clean = quantizer.draw_clean(torch.Generator().manual_seed(3))
    assert len(set(clean)) == 2
    assert clean == quantizer.draw_clean(torch.Generator().manual_seed(3))
    explicit = quantizer(z, noisy=noisy, clean_branches=clean)
    drawn = quantizer(z, noisy=noisy, generator=torch.Generator().manual_seed(3))
    assert torch.equal(explicit.codes, drawn.codes)
    p, q = (quantizer.branches(x).view(7, 5, 4) for x in (z, noisy))
    routed = torch.stack([(p if i in clean else q)[:, i] for i in range(5)], 1)
    torch.testing.assert_close(explicit.codes, quantizer.out(to_signs(routed > 0).mean(1)))
    both = torch.autograd.grad(sum(explicit.losses.values()), (z, noisy))
    assert all(gradient.abs().sum() > 0 for gradient in both)
    seen = {quantizer.draw_clean() for _ in range(200)}
    assert len(seen) == 20


def test_one_voter_has_no_consensus():
    quantizer = build({"kind": "voting_lfq", "dim": 8, "num_bits": 4, "num_voters": 1, "num_clean": 1})
    assert quantizer(torch.randn(7, 8)).losses["consensus"] == 0


def test_gaussian_latents():
    quantizer = build({"kind": "gaussian", "dim": 3, "kl_weight": 1.0})
    z = torch.randn(2, 5, 6)
    mean, log_variance = z.chunk(2, -1)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum() / 2
    result = quantizer(z, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(result.losses["kl"], expected)
    noise = (result.codes - mean) / normal.stddev
    torch.testing.assert_close(noise.flatten(), torch.randn(30, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(quantizer.eval()(z).codes, mean)
