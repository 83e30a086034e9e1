"""Voters that start from the data's principal directions."""

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed

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
    return build({"kind": "voting_lfq", "dim": DIM, "num_bits": BITS, "bias": True, "principal_start": True} | options)


@pytest.mark.parametrize("voters", [1, 5])
def test_voters_start_where_the_data_is(voters):
    quantizer = make(num_voters=voters, num_clean=voters)
    rows, _ = corners(seed=1)
    mask = torch.arange(len(rows)) < 590
    rows[590:] = torch.nan
    before = quantizer.eval()(rows[mask]).codes
    assert not quantizer.is_started
    codes = quantizer.train()(rows, mask).codes
    assert quantizer.is_started
    after = quantizer.eval()(rows[mask]).codes
    error = [(x - rows[mask]).square().mean().item() for x in (before, after)]
    assert error[1] < (0.005 if voters == 1 else 0.1) < error[0]
    assert codes[mask].isfinite().all()
    branches = quantizer.branches.weight.view(voters, BITS, DIM)
    assert voters == 1 or (branches[0] - branches[1]).abs().min() > 0
    # It happens once.
    state = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer.train()(corners(seed=2)[0])
    assert all(torch.equal(tensor, state[name]) for name, tensor in quantizer.state_dict().items())


def test_it_waits_for_enough_rows():
    quantizer = make()
    quantizer(corners(4)[0])
    assert not quantizer.is_started
    quantizer(corners(5)[0])
    assert quantizer.is_started


def test_it_needs_room():
    for options in ({"bias": False}, {"num_bits": 13}):
        with pytest.raises(ConfigError, match="principal_start"):
            make(**options)


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        quantizer = make()
        quantizer(corners()[0][rank * 200 : 200 + rank * 400], None, torch.Generator().manual_seed(rank))
        torch.save(quantizer.state_dict(), f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


def test_two_processes_start_alike(tmp_path):
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    whole = make()
    whole(corners()[0], None, torch.Generator().manual_seed(0))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor)
