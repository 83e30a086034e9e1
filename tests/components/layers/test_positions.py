"""Positions against the published formulas and test vectors of the papers' models."""

import math

import numpy as np
import pytest
import torch

from zoo.components.layers.positions import (
    RelativePositionBias1d,
    RelativePositionBias2d,
    relative_sincos,
    sincos_1d,
    sincos_2d,
    sincos_3d,
    sinusoids,
    timestep_embedding,
)
from zoo.errors import ConfigError, InputError


def by_hand(position, width, period=10_000.0):
    rates = [period ** (-i / (width // 2)) for i in range(width // 2)]
    return [math.sin(position * rate) for rate in rates] + [math.cos(position * rate) for rate in rates]


def test_one_dimension():
    table = sincos_1d(9, 6, max_period=100.0)
    assert table.dtype == torch.float32
    np.testing.assert_allclose(table, [by_hand(position, 6, 100.0) for position in range(9)], atol=1e-7)


def test_whisper_ends_at_the_longest_period():
    rates = [10_000 ** (-i / 7) for i in range(8)]
    expected = [math.sin(50 * rate) for rate in rates] + [math.cos(50 * rate) for rate in rates]
    np.testing.assert_allclose(sincos_1d(51, 16, endpoint=True)[50], expected, atol=1e-7)


def test_two_dimensions_are_those_of_flextok():
    cell = sincos_2d((4, 6), 64)[3 * 6 + 5][[0, 1, 16, 17, 32, 33, 48, 49]]
    expected = [0.141120, 0.993253, -0.989992, -0.115966, -0.958924, 0.323935, 0.283662, -0.946079]
    np.testing.assert_allclose(cell, expected, atol=1e-6)


def test_three_dimensions_are_those_of_larp():
    table = sincos_3d((2, 3, 4), 8)
    expected = [
        np.add(by_hand(x, 4) + by_hand(y, 4), by_hand(t, 8)) for t in range(2) for y in range(3) for x in range(4)
    ]
    np.testing.assert_allclose(table, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (1000, [0.968912, 0.971480, 0.973837, 0.999999, 0.247404, 0.237121, 0.227248, 0.001020]),
        (1, [0.240988, 0.802229, -0.996368, 0.523538, -0.970528, 0.597016, 0.085153, 0.852003]),
    ],
)
def test_times_are_those_of_flextok(longest, expected):
    embedded = timestep_embedding(torch.tensor([0.25]), 256, scale=1000 / longest, max_period=256.0)
    np.testing.assert_allclose(embedded[0, [0, 1, 2, 127, 128, 129, 130, 255]], expected, atol=2e-5)


def test_orders_of_sinusoids():
    x = torch.tensor([0.3, 2.0])
    sines, cosines = (torch.tensor([by_hand(float(v), 4) for v in x])[:, part] for part in ([0, 1], [2, 3]))
    torch.testing.assert_close(sinusoids(x, 4), torch.cat([sines, cosines], 1))
    torch.testing.assert_close(sinusoids(x, 4, order="cos_sin"), torch.cat([cosines, sines], 1))
    torch.testing.assert_close(sinusoids(x, 4, order="interleaved"), torch.stack([sines, cosines], 2).flatten(1))
    torch.testing.assert_close(
        sinusoids(x, 4, endpoint=True)[:, :2], torch.stack([x.sin(), (x / 10_000).sin()], 1), rtol=1e-5, atol=1e-9
    )


def test_times_have_gradients():
    t = torch.tensor([0.2, 0.7], requires_grad=True)
    sinusoids(t, 8).sum().backward()
    step = torch.tensor(1e-3, dtype=torch.float64)
    exact = t.detach().double()
    slope = (sinusoids(exact + step, 8).sum(1) - sinusoids(exact - step, 8).sum(1)) / (2 * step)
    torch.testing.assert_close(t.grad.double(), slope, rtol=1e-4, atol=1e-4)


def test_relative_distances_run_backwards():
    table = relative_sincos(3, 4)
    assert table.shape == (5, 4)
    for row, distance in enumerate((2, 1, 0, -1, -2)):
        s, c = by_hand(distance, 4)[:2], by_hand(distance, 4)[2:]
        np.testing.assert_allclose(table[row], [s[0], c[0], s[1], c[1]], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "factor"), [((sincos_1d, 4), 2), ((sincos_2d, (2, 2)), 4), ((sincos_3d, (2, 2, 2)), 4)]
)
def test_widths_that_do_not_fit(call, factor):
    function, size = call
    with pytest.raises(ConfigError, match=f"multiple of {factor}"):
        function(size, 4 * factor + factor // 2)


class TestRelativeBias:
    @pytest.mark.parametrize("grid", [(3, 5), (1, 2), (6, 6)])
    def test_it_is_the_table_by_offset(self, grid):
        bias = RelativePositionBias2d(2, 3)
        torch.nn.init.normal_(bias.table)
        got = bias(grid)
        height, width = grid
        for q in range(height * width):
            for k in range(height * width):
                dy, dx = q // width - k // width, q % width - k % width
                if max(abs(dy), abs(dx)) > 2:
                    assert (got[:, q, k] == -math.inf).all()
                else:
                    assert torch.equal(got[:, q, k], bias.table[dy + 2, dx + 2])

    def test_it_starts_at_zero_and_follows_its_table(self):
        bias = RelativePositionBias2d(2, 4)
        assert not bias((3, 3)).any()
        with torch.no_grad():
            bias.table += 1
        assert (bias((3, 3)) == 1).all()

    def test_each_offset_gets_the_gradient_of_its_pairs(self):
        bias = RelativePositionBias2d(1, 2)
        out = bias((2, 3))
        out[out.isfinite()].sum().backward()
        expected = [[(2 - abs(dy)) * (3 - abs(dx)) for dx in (-1, 0, 1)] for dy in (-1, 0, 1)]
        assert bias.table.grad[..., 0].tolist() == expected

    def test_nothing_is_refused(self):
        with pytest.raises(ConfigError, match="at least 1"):
            RelativePositionBias2d(2, 0)
        with pytest.raises(InputError, match="at least one row"):
            RelativePositionBias2d(2, 2)((0, 4))


class TestRelative1d:
    """A learned number a head and distance, nothing seen past a reach."""

    def test_by_distance(self):
        bias = RelativePositionBias1d(2, 3)
        torch.nn.init.normal_(bias.table)
        made = bias(range(10), range(10))
        assert made.shape == (2, 10, 10)
        for query in range(10):
            for key in range(10):
                distance = key - query
                wanted = bias.table[distance + 3] if abs(distance) <= 3 else torch.full((2,), -math.inf)
                assert torch.equal(made[:, query, key], wanted)
        assert torch.equal(bias(range(4, 6), range(1, 9)), made[:, 4:6, 1:9])

    def test_refused(self):
        with pytest.raises(ConfigError, match="reach must be 0 or more"):
            RelativePositionBias1d(2, -1)
