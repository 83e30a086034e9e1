"""VQ, stochastic and residual VQ: learning, moving averages, revival, several processes, a public implementation."""

import warnings

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed

from zoo.components.quantizers import build
from zoo.components.quantizers.collective import sample_rows

SIZE, DIM = 12, 4


def make(seed=0, **options):
    torch.manual_seed(seed)
    return build({"kind": "vq", "codebook_size": SIZE, "dim": DIM, **options})


def batch(step, num=40):
    return torch.randn(num, DIM, generator=torch.Generator().manual_seed(100 + step))


@pytest.mark.parametrize("cosine", [False, True])
def test_losses_and_their_gradients(cosine):
    quantizer = make(cosine=cosine, commitment_weight=0.5, codebook_weight=2.0)
    z = batch(0).requires_grad_()
    result = quantizer(z)
    u, e = z, quantizer.codebook
    if cosine:
        u, e = torch.nn.functional.normalize(z, dim=-1), torch.nn.functional.normalize(e, dim=-1)
    codes = e[result.ids]
    commitment = 0.5 * (u - codes.detach()).square().mean()
    codebook = 2.0 * (u.detach() - codes).square().mean()
    torch.testing.assert_close(result.losses, {"commitment": commitment, "codebook": codebook})
    parts = (z, quantizer.codebook)
    mine = torch.autograd.grad(sum(result.losses.values()), parts)
    torch.testing.assert_close(mine, torch.autograd.grad(commitment + codebook, parts))


def test_a_codebook_learns_by_gradient_and_by_averages():
    centres = torch.randn(SIZE, DIM, generator=torch.Generator().manual_seed(1)) * 3
    for options in ({"kmeans_iterations": 5}, {"ema_decay": 0.9, "revive_below": 0.1}, {"revive_below": 0.1}):
        quantizer = make(**options)
        parameters = [p for p in quantizer.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(parameters, 0.06) if parameters else None
        errors = []
        for step in range(150):
            generator = torch.Generator().manual_seed(step)
            z = centres[torch.randint(SIZE, (64,), generator=generator)]
            z = z + 0.05 * torch.randn(z.shape, generator=generator)
            result = quantizer(z, None, generator)
            errors.append((z - result.codes).square().mean().item())
            if optimiser:
                optimiser.zero_grad()
                sum(result.losses.values()).backward()
                optimiser.step()
        assert errors[-1] < 0.6, options
        assert errors[-1] < 0.5 * errors[0] or "kmeans_iterations" in options


@pytest.mark.parametrize("cosine", [False, True])
def test_moving_averages_are_those_of_the_formula(cosine):
    decay = 0.8
    quantizer = make(ema_decay=decay, cosine=cosine)
    codebook = quantizer.codebook.double().clone()
    counts, sums = torch.ones(SIZE, dtype=torch.float64), codebook.clone()
    for step in range(30):
        z = batch(step).double()
        z = z / z.norm(dim=1, keepdim=True) if cosine else z
        searched = codebook / codebook.norm(dim=1, keepdim=True) if cosine else codebook
        ids = torch.cdist(z, searched).argmin(1)
        result = quantizer(batch(step))
        assert torch.equal(result.ids, ids)
        for k in range(SIZE):
            counts[k] = decay * counts[k] + (1 - decay) * (ids == k).sum()
            sums[k] = decay * sums[k] + (1 - decay) * z[ids == k].sum(0)
        codebook = torch.where(counts[:, None] > 1e-5, sums / counts[:, None], codebook)
        torch.testing.assert_close(quantizer.codebook.double(), codebook, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(quantizer.counts.double(), counts, atol=1e-5, rtol=1e-5)
    assert not any(p.requires_grad for p in quantizer.parameters())
    assert set(result.losses) == {"commitment"}


@pytest.mark.parametrize("options", [{"ema_decay": 0.5}, {"usage_decay": 0.5}])
def test_dead_codes_are_revived_from_the_batch(options):
    quantizer = make(revive_below=0.2, **options)
    with torch.no_grad():
        quantizer.codebook[4:] = 1e6  # never chosen
        if "ema_decay" in options:
            quantizer.sums[4:] = 1e6
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        quantizer(batch(step), None, generator)
        if step == 0:
            assert (quantizer.codebook[4:] == 1e6).all(), "nothing is dead before it has been seen unused"
    assert quantizer.codebook.abs().max() < 100
    assert (quantizer.counts > 0.2 * quantizer.counts.mean()).sum() > 6
    z = batch(0, 400)
    assert quantizer.eval()(z).stats["usage"] > 0.8


def test_revived_codes_are_vectors_of_the_batch_with_average_statistics():
    quantizer = make(revive_below=0.1, ema_decay=0.9)
    quantizer.counts[:] = torch.tensor([3.0] * 9 + [0.0] * 3)
    average = quantizer.counts.mean()
    before = quantizer.codebook.clone()
    z = batch(3)
    quantizer._prepare(z, torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.codebook[:9], before[:9])
    fresh = quantizer.codebook[9:]
    assert fresh.unique(dim=0).shape == fresh.shape
    assert all((z == row).all(1).any() for row in fresh)
    torch.testing.assert_close(quantizer.counts[9:], average.expand(3))
    torch.testing.assert_close(quantizer.sums[9:], fresh * average)


def test_no_more_codes_are_revived_than_there_are_vectors():
    quantizer = make(revive_below=0.5)
    quantizer.counts[:] = torch.tensor([60.0] + [0.0] * (SIZE - 1))
    before = quantizer.codebook.detach().clone()
    quantizer._prepare(batch(0, 3), None)
    assert {tuple(row) for row in quantizer.codebook[1:4].tolist()} == {tuple(row) for row in batch(0, 3).tolist()}
    assert torch.equal(quantizer.codebook.detach()[4:], before[4:])


def test_kmeans_starts_once_and_well():
    centres = torch.randn(SIZE, DIM, generator=torch.Generator().manual_seed(1)) * 3
    z = centres.repeat(20, 1) + 0.01 * torch.randn(20 * SIZE, DIM)
    quantizer = make(kmeans_iterations=10, ema_decay=0.99)
    assert not quantizer.is_initialised
    quantizer(z, None, torch.Generator().manual_seed(2))
    assert quantizer.is_initialised
    assert quantizer.eval()(z).losses["commitment"] < 0.25 * 0.2 * z.var()
    codebook = quantizer.codebook.clone()
    quantizer.train()(z)
    torch.testing.assert_close(quantizer.codebook, codebook, atol=0.2, rtol=0.2)
    torch.testing.assert_close(quantizer.sums, quantizer.codebook * quantizer.counts[:, None])


# Several processes.


def learn(rank, world, parts):
    """Train two quantizers on this process's part of each batch."""
    trained = []
    for options in ({"ema_decay": 0.8, "revive_below": 0.3, "kmeans_iterations": 2}, {"revive_below": 0.3}):
        quantizer = make(**options)
        # Only the first process's generator may matter.
        generator = torch.Generator().manual_seed(7 if rank == 0 else 1000 + rank)
        ids = []
        for step in range(8):
            z, mask = batch(step), torch.rand(40, generator=torch.Generator().manual_seed(step)) < 0.8
            start, end = parts[rank], parts[rank + 1]
            ids.append(quantizer(z[start:end], mask[start:end], generator).ids)
        trained.append((quantizer.state_dict(), torch.stack(ids)))
    return trained


def work(rank, world, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    try:
        # Parts of unequal size.
        torch.save(learn(rank, world, [0, 13, 40]), f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path):
    # Forked, they need not import torch again.
    mp.start_processes(work, (2, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for (one, one_ids), (a, a_ids), (b, b_ids) in zip(learn(0, 1, [0, 40]), first, second, strict=True):
        assert torch.equal(torch.cat([a_ids, b_ids], 1), one_ids)
        for key in one:
            assert torch.equal(a[key], b[key]), f"{key} differs between processes"
            torch.testing.assert_close(a[key], one[key])


def test_rows_are_drawn_without_replacement():
    rows = torch.arange(10.0)[:, None]
    drawn = sample_rows(rows, 6, torch.Generator().manual_seed(0))
    assert drawn.unique().numel() == 6
    assert sorted(sample_rows(rows, 20).flatten().tolist()) == rows.flatten().tolist()
    assert sample_rows(rows[:0], 3).shape == (0, 1)


# Stochastic.


def test_stochastic_frequencies_follow_the_softmax_of_cosines():
    quantizer = build({"kind": "stochastic_vq", "codebook_size": 5, "dim": 3, "temperature": 0.5})
    z = torch.tensor([0.3, -0.2, 0.9])
    cosine = torch.nn.functional.cosine_similarity(z[None], quantizer.codebook)
    expected = (cosine / 0.5).softmax(0)
    torch.testing.assert_close(quantizer.probabilities(z), expected)
    ids = quantizer(z.expand(20000, 3), None, torch.Generator().manual_seed(0)).ids
    shares = torch.bincount(ids, minlength=5) / 20000
    assert ((shares - expected).abs() < 5 * (expected * (1 - expected) / 20000).sqrt()).all()
    assert (quantizer.ids(z.expand(9, 3)) == expected.argmax()).all()
    assert (quantizer.eval()(z.expand(9, 3)).ids == expected.argmax()).all()
    quantizer.train().temperature = 1e-4
    assert (quantizer(z.expand(9, 3)).ids == expected.argmax()).all()


def test_ids_are_drawn_on_request_in_either_mode():
    quantizer = build({"kind": "stochastic_vq", "codebook_size": 5, "dim": 3, "temperature": 0.5})
    z = torch.randn(4, 6, 3)
    drawn = quantizer(z, None, torch.Generator().manual_seed(0)).ids
    for mode in (True, False):
        assert torch.equal(quantizer.train(mode).draw(z, torch.Generator().manual_seed(0)), drawn)
    assert not torch.equal(drawn, quantizer.ids(z))


def test_a_temperature_may_be_learned():
    values = {"kind": "stochastic_vq", "codebook_size": 5, "dim": 3, "temperature": 0.1}
    quantizer = build(values | {"learns_temperature": True})
    assert quantizer.inverse_temperature.item() == 10
    usual = build(values)
    usual.codebook = quantizer.codebook
    z = torch.randn(7, 3)
    torch.testing.assert_close(quantizer.probabilities(z), usual.probabilities(z))
    with torch.no_grad():
        quantizer.inverse_temperature.fill_(0.0)
    torch.testing.assert_close(quantizer.probabilities(z), torch.full((7, 5), 0.2))


def test_stochastic_codes_lie_on_the_sphere_and_train_the_codebook():
    quantizer = build({"kind": "stochastic_vq", "codebook_size": 30, "dim": 5})
    result = quantizer(torch.randn(50, 5))
    torch.testing.assert_close(result.codes.norm(dim=-1), torch.ones(50))
    sum(result.losses.values()).backward()
    assert quantizer.codebook.grad[result.ids].abs().sum() > 0


# Residual.


def residual(**options):
    torch.manual_seed(0)
    stage = {"kind": "vq", "codebook_size": SIZE, "dim": DIM}
    return build({"kind": "residual", "num_stages": 4, "stage": stage, **options})


def test_prefixes_are_ever_better_codes():
    quantizer = residual(scale=0.5)
    z = batch(0, 500)
    for _ in range(2):
        codes, ids, losses, *_ = quantizer(z)
    torch.testing.assert_close(quantizer.codes(ids), codes)
    left = [(z - quantizer.codes(ids[:, :k])).square().mean().item() for k in range(5)]
    assert left == sorted(left, reverse=True)
    assert left[0] == pytest.approx(z.square().mean().item())
    # What stage k is told to come closer to is what the stages before it left over.
    expected = sum((left[k + 1] / 0.25**k) for k in range(4)) / 4
    assert losses["codebook"].item() == pytest.approx(expected, rel=1e-4)


def test_residual_dropout_uses_prefixes():
    quantizer = residual(dropout_rate=1.0)
    z = batch(0)
    lengths = set()
    for seed in range(40):
        codes, ids, *_ = quantizer(z, None, torch.Generator().manual_seed(seed))
        same = [k for k in range(1, 5) if torch.equal(quantizer.codes(ids[:, :k]), codes)]
        assert len(same) == 1
        lengths.update(same)
    assert lengths == {1, 2, 3, 4}
    assert torch.equal(quantizer.eval()(z).codes, quantizer.codes(quantizer.ids(z)))


# A public implementation.


@pytest.fixture
def library():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("vector_quantize_pytorch")


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [8, 8, 8, 5, 5, 5], [3, 4, 7]])
def test_fsq_agrees_with_the_library(library, levels):
    ours, theirs = build({"kind": "fsq", "levels": levels}), library.FSQ(levels)
    z = 2 * torch.randn(1, 500, len(levels), requires_grad=True)
    codes, ids, *_ = ours(z)
    expected, expected_ids = theirs(z)
    torch.testing.assert_close(codes, expected)
    assert torch.equal(ids, expected_ids.long())
    weights = torch.randn_like(codes)
    mine = torch.autograd.grad((codes * weights).sum(), z)[0]
    torch.testing.assert_close(mine, torch.autograd.grad((expected * weights).sum(), z)[0])
    torch.testing.assert_close(ours.codes(ids), theirs.indices_to_codes(ids))


def test_lfq_agrees_with_the_library(library):
    ours = build({"kind": "lfq", "num_bits": 6, "entropy_weight": 0.1, "commitment_weight": 0.25, "diversity": 1.5})
    theirs = library.LFQ(
        dim=6, codebook_size=64, entropy_loss_weight=0.1, commitment_loss_weight=0.25, diversity_gamma=1.5
    )
    z = 0.1 * torch.randn(1, 300, 6)
    codes, ids, losses, *_ = ours(z)
    expected, expected_ids, expected_loss = theirs(z, inv_temperature=100.0)
    torch.testing.assert_close(codes, expected)
    # The library's first bit is the most significant one.
    flipped = (ids[..., None] >> torch.arange(6) & 1) @ 2 ** torch.arange(5, -1, -1)
    assert torch.equal(flipped, expected_ids)
    # It cuts logarithms off at 1e-5, where we add 1e-5.
    torch.testing.assert_close(sum(losses.values()), expected_loss, atol=2e-4, rtol=0)


@pytest.mark.parametrize("cosine", [False, True])
def test_vq_agrees_with_the_library(library, cosine):
    ours = make(cosine=cosine, commitment_weight=1.0).eval()
    theirs = library.VectorQuantize(dim=DIM, codebook_size=SIZE, use_cosine_sim=cosine).eval()
    theirs.codebook = ours.vectors().detach()
    z = batch(0, 500)
    codes, ids, *_ = ours(z)
    expected, expected_ids, _ = theirs(z[None])
    assert torch.equal(ids, expected_ids[0])
    torch.testing.assert_close(codes, expected[0])


def test_vq_averages_agree_with_the_library(library):
    ours = make(ema_decay=0.8, commitment_weight=1.0)
    theirs = library.VectorQuantize(dim=DIM, codebook_size=SIZE, decay=0.8, rotation_trick=False)
    theirs.codebook = ours.codebook.clone()
    inner = theirs._codebook
    inner.embed_avg.data.copy_(ours.sums)
    inner.cluster_size.data.copy_(ours.counts)
    for step in range(5):
        codes, ids, losses, *_ = ours(batch(step, 400))
        expected, expected_ids, expected_loss = theirs(batch(step, 400)[None])
        assert torch.equal(ids, expected_ids[0])
        torch.testing.assert_close(codes, expected[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(losses["commitment"], expected_loss.squeeze(), atol=1e-4, rtol=1e-4)
    # The library smooths counts by 1e-5.
    torch.testing.assert_close(ours.codebook, theirs.codebook.squeeze(), atol=1e-3, rtol=1e-3)


def test_rvq_agrees_with_the_library(library):
    ours = residual().eval()
    theirs = library.ResidualVQ(dim=DIM, num_quantizers=4, codebook_size=SIZE).eval()
    for mine, other in zip(ours.stages, theirs.layers, strict=True):
        other.codebook = mine.codebook.detach()
    z = batch(0, 500)
    expected, expected_ids, _ = theirs(z[None])
    codes, ids, *_ = ours(z)
    assert torch.equal(ids, expected_ids[0])
    torch.testing.assert_close(codes, expected[0])
