"""BEAST on sequences of any length: counts, tails that are not whole chunks, ragged batches."""

from pathlib import Path

import pytest
import torch
from motion import smooth, switching

import zoo
from zoo.data.actions import read_actions
from zoo.errors import InputError, TokenError
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.families.beast.spline import SplineEncoder, fit_weights, smooth_basis

HORIZON, NUM_BASIS, DOFS = 16, 8, 3
SAMPLE = Path(zoo.__file__).parent / "data" / "samples" / "metaworld_expert.npz"


def fitted(**options):
    config = BeastConfig(DOFS, HORIZON, NUM_BASIS, **options)
    data = smooth(200, 4 * HORIZON, DOFS, seed=1, fastest=1 / HORIZON)
    data[:, :, 2] = switching(200, 4 * HORIZON, 3)[:, :, 0] if options.get("gripper") else data[:, :, 2]
    return BeastTokenizer(config).fit(data)


def start_of(tokenizer, x):
    fixed = tokenizer.config.num_fixed
    return {0: None, 1: x[:, 0], 2: x[:, :1].expand(-1, 2, -1)}[fixed]


MODES = [
    {},
    {"grid": "anchored", "boundary": "value"},
    {"grid": "anchored", "boundary": "value+velocity"},
    {"gripper": (2,)},
    {"degree": 0},
]


@pytest.mark.parametrize("options", MODES, ids=str)
def test_every_length(options):
    """Counts agree, lengths come back, and the tail is as good as whole chunks."""
    tokenizer = fitted(**options)
    whole = smooth(20, 3 * HORIZON + 1, DOFS, seed=2, fastest=1 / HORIZON)
    whole[:, :, 2] = switching(20, 3 * HORIZON + 1, 2)[:, :, 0] if options.get("gripper") else whole[:, :, 2]
    tail_error, whole_error = [], []
    for length in range(1, 3 * HORIZON + 2):
        x = whole[:, :length]
        start = start_of(tokenizer, x)
        tokens = tokenizer.encode(x, start=start)
        chunks = -(-length // HORIZON)
        assert tokens.ids.shape == (20, chunks * tokenizer.spec.num_tokens)
        assert tokens.lengths.tolist() == [tokenizer.num_tokens(length)] * 20
        decoded = tokenizer.decode(tokens, start=start)
        assert decoded.shape == x.shape
        assert tokenizer.output_lengths(tokens).tolist() == [length] * 20
        assert decoded.isfinite().all()
        # Whole chunks before the tail do not know of it.
        before = length // HORIZON * tokenizer.spec.num_tokens
        full = tokenizer.encode(whole[:, : 3 * HORIZON], start=start).ids
        assert torch.equal(tokens.ids[:, :before], full[:, :before])
        error = (decoded - x)[:, :, :2] / tokenizer.normalizer.half_range[:2]
        inside = length // HORIZON * HORIZON
        tail_error.append(error[:, inside:].square().flatten())
        whole_error.append(error[:, :inside].square().flatten())
    tail, inside = torch.cat(tail_error), torch.cat(whole_error)
    assert inside.mean() < (0.05 if options.get("degree") == 0 else 3e-5)
    assert tail.mean() < 3 * inside.mean()
    assert tail.max() < max(4 * float(inside.max()), 0.01)


@pytest.mark.parametrize(("horizon", "num_basis"), [(16, 5), (20, 10), (50, 10)])
def test_tails_of_real_actions(horizon, num_basis):
    """Rough motion must not push the control points of short tails out of their bounds."""
    episodes = read_actions(SAMPLE).episodes
    tokenizer = BeastTokenizer(BeastConfig(episodes[0].shape[1], horizon, num_basis)).fit(episodes)
    half = tokenizer.normalizer.half_range
    errors = {"tail": [], "whole": []}
    for episode in episodes:
        for end in range(1, horizon):
            if len(episode) < horizon + end:
                continue
            x = torch.from_numpy(episode[-horizon - end :])[None]
            error = ((tokenizer.decode(tokenizer.encode(x)) - x) / half)[0]
            errors["whole"].append(error[:horizon].flatten())
            errors["tail"].append(error[horizon:].flatten())
    whole, tail = (torch.cat(errors[part]) for part in ("whole", "tail"))
    assert tail.square().mean() < 1.2 * whole.square().mean()
    assert tail.abs().max() < 1.5 * whole.abs().max()


def test_weights_of_a_tail_are_a_weighted_ridge_fit():
    config = BeastConfig(1, 20, 8, grid="anchored", boundary="value")
    smooth_weight, switching_weight = fit_weights(config, 6)
    assert smooth_weight.shape == switching_weight.shape == (7, 7)
    x = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    phi = smooth_basis(config)
    held = torch.cat([x[1:], x[-1:].expand(14)])  # after the command before
    trust = torch.tensor([1.0] * 6 + [0.1] * 14).double().sqrt()
    rows = torch.cat([trust[:, None] * phi[:, 1:], 0.01 * torch.eye(7).double()])
    targets = torch.cat([trust * (held - phi[:, 0] * x[0]), torch.zeros(7).double()])
    expected = torch.linalg.lstsq(rows, targets[:, None]).solution[:, 0]
    torch.testing.assert_close(smooth_weight @ x, expected)
    for full in (fit_weights(config, 20)[0], SplineEncoder(config).smooth.exact_weight):
        assert full.shape == (7, 21)


def test_ragged_batches():
    tokenizer = fitted()
    lengths = [1, HORIZON - 1, HORIZON, HORIZON + 1, 3 * HORIZON, 37]
    x = smooth(6, 3 * HORIZON, DOFS, seed=2, fastest=1 / HORIZON)
    alone = [tokenizer.encode(x[i : i + 1, :length]) for i, length in enumerate(lengths)]
    padded = x.clone()
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = torch.nan  # what is past an item's end is never looked at
    sequences = [row[:length] for row, length in zip(x, lengths, strict=True)]
    for tokens in (
        tokenizer.encode(padded, lengths),
        tokenizer.encode(padded, torch.tensor(lengths)),
        tokenizer.encode(sequences),
        tokenizer.encode([sequence.numpy() for sequence in sequences]),
    ):
        assert tokens.lengths.tolist() == [tokenizer.num_tokens(length) for length in lengths]
        assert tokens.signal_lengths.tolist() == lengths
        assert tokens.tolist() == [one.tolist()[0] for one in alone]
        assert not tokens.ids[~tokens.mask].any()
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == (6, 3 * HORIZON, DOFS)
    for row, one, length in zip(decoded, alone, lengths, strict=True):
        torch.testing.assert_close(row[:length], tokenizer.decode(one)[0])
        assert not row[length:].any()
    assert tokenizer.clipped_slots(padded, lengths).sum() == sum(
        tokenizer.clipped_slots(x[i : i + 1, :length]).sum() for i, length in enumerate(lengths)
    )
    # The longest item may be shorter than the batch.
    assert tokenizer.decode(tokens[:4]).shape == (4, HORIZON + 1, DOFS)


def test_lengths_that_cannot_be():
    tokenizer = fitted()
    x = smooth(2, 40, DOFS)
    for lengths in ([0, 5], [41, 5], [5], [5.0, 5.0], "ab"):
        with pytest.raises(InputError, match="lengths"):
            tokenizer.encode(x, lengths)
    for length in (0, -3):
        with pytest.raises(InputError, match="at least 1"):
            tokenizer.num_tokens(length)
    tokens = tokenizer.encode(x)
    with pytest.raises(TokenError, match="they hold"):
        tokenizer.decode(type(tokens)(tokens.ids, tokens.lengths, 256, signal_lengths=torch.tensor([49, 49])))
    with pytest.raises(TokenError, match="whole chunks of 24"):
        tokenizer.decode(tokens.ids[:, :-1])
    with pytest.raises(TokenError, match="whole chunks of 24"):
        tokenizer.decode(tokens.ids, [72, 70])


def test_whole_trajectories_in_every_mode():
    x = smooth(4, 997, DOFS, seed=3, fastest=1 / HORIZON)
    for options in MODES[:3]:
        tokenizer = fitted(**options)
        start = start_of(tokenizer, x)
        decoded = tokenizer.decode(tokenizer.encode(x, start=start), start=start)
        error = (decoded - x) / tokenizer.normalizer.half_range
        assert error.square().mean() < 3e-5
        # No drift: the end is as good as the beginning.
        assert error[:, -200:].square().mean() < 1.5 * error[:, :200].square().mean()
