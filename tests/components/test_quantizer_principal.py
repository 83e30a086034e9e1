"""Voters that start from the data's principal directions."""

import pytest
import torch

from zoo.components.quantizers import build
from zoo.components.quantizers.principal import sign_directions
from zoo.errors import ConfigError

BITS, DIM = 4, 12


def corners(num=600, seed=0, noise=0.05):
    """Vectors near the corners of a turned cube, off the origin."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (num, BITS), generator=generator) * 2.0 - 1
    axes = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(9)))[0][:, :BITS]
    offset = 3 * torch.randn(DIM, generator=torch.Generator().manual_seed(8))
    return offset + signs @ axes.T + noise * torch.randn(num, DIM, generator=generator), signs


def test_signs_find_the_cube():
    rows, signs = corners()
    weight, bias, codes, offset = sign_directions(rows, BITS, torch.Generator().manual_seed(1))
    projected = rows @ weight.T + bias
    assert projected.square().mean().item() == pytest.approx(1, abs=1e-4)
    found = projected.sign()
    # The same bits, in another order and perhaps the other way round.
    agreement = (found.T @ signs / len(rows)).abs()
    assert agreement.max(1).values.min() == 1
    assert sorted(agreement.argmax(1).tolist()) == list(range(BITS))
    rebuilt = offset + found @ codes.T
    assert (rebuilt - rows).square().mean() < 1.1 * 0.05**2


def test_more_bits_than_the_data_has():
    rows = torch.zeros(50, DIM)
    rows[:, 0] = torch.randn(50, generator=torch.Generator().manual_seed(0))
    parts = sign_directions(rows, BITS)
    assert all(part.isfinite().all() for part in parts)


def make(**options):
    torch.manual_seed(0)
    return build({"kind": "voting_lfq", "dim": DIM, "num_bits": BITS, "bias": True} | options)


@pytest.mark.parametrize("voters", [1, 5])
def test_voters_start_where_the_data_is(voters):
    quantizer = make(num_voters=voters, num_clean=voters).eval()
    rows, _ = corners(seed=1)
    before = quantizer(rows).codes
    quantizer.start_from(rows, rows.mean(0), torch.Generator().manual_seed(0))
    error = [(x - rows).square().mean().item() for x in (before, quantizer(rows).codes)]
    assert error[1] < (0.005 if voters == 1 else 0.1) < error[0]
    branches = quantizer.branches.weight.view(voters, BITS, DIM)
    assert voters == 1 or (branches[0] - branches[1]).abs().min() > 0
    # Bits are balanced, which bits of random directions far from the origin are not.
    assert (quantizer.branches(rows) > 0).float().mean(0).sub(0.5).abs().max() < 0.2


def test_codes_of_what_differs_from_something_known():
    """Vectors have a known part that the codes are to leave out: bits come from the whole, codes stand for the rest."""
    rows, _ = corners(seed=1)
    known = 2 * torch.randn(DIM, generator=torch.Generator().manual_seed(3))
    quantizer = make(num_voters=1, num_clean=1).eval()
    quantizer.start_from(rows - rows.mean(0), rows.mean(0) + known)
    codes = quantizer(rows + known).codes
    assert (codes - (rows - rows.mean(0))).square().mean() < 0.005


def test_what_it_needs():
    rows, _ = corners()
    for options, given, message in (({"bias": False}, rows, "bias"), ({}, rows[:BITS], "more than 4")):
        with pytest.raises(ConfigError, match=message):
            make(**options).start_from(given, given.mean(0))
