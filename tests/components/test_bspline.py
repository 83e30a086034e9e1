"""B-splines against SciPy, their properties, and the ridge projection against lstsq."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from zoo.components.layers.bspline import basis, derivative_basis, knots, ordered_product, ridge_projection

few = settings(max_examples=60, deadline=None)
positions = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@st.composite
def splines(draw, least_degree=0):
    degree = draw(st.integers(least_degree, 6))
    return draw(st.integers(degree + 1, degree + 20)), degree


def grid(steps):
    return torch.arange(steps, dtype=torch.float64) / (steps - 1)


def reference(u, num_basis, degree, derivative=0):
    """SciPy's basis functions, one by one. It closes the last interval on the right, as we do."""
    spline = BSpline(knots(num_basis, degree).numpy(), np.eye(num_basis), degree)
    return spline(np.asarray(u), nu=derivative)


# ------------------------------------------------------------------------------------------------------------- basis


@few
@given(splines(), positions)
def test_equals_scipy(spline, u):
    ours = basis(torch.tensor(u, dtype=torch.float64), *spline).numpy()
    np.testing.assert_allclose(ours, reference(u, *spline), atol=1e-8)  # positions next to a knot count as on it


@few
@given(splines(least_degree=1), positions, st.integers(1, 4))
def test_derivatives_equal_scipy(spline, u, order):
    num_basis, degree = spline
    spans = num_basis - degree
    # At a knot the derivative of order p jumps, and which side counts is a matter of rounding.
    u = [value for value in u if abs(value * spans - round(value * spans)) > 1e-6] or [0.5 / spans]
    ours = derivative_basis(torch.tensor(u, dtype=torch.float64), *spline, order).numpy()
    assert ours.shape == (len(u), num_basis)
    theirs = reference(u, *spline, order) if order <= degree else np.zeros_like(ours)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * (degree * spans) ** order)


@few
@given(splines(), positions)
def test_partition_of_unity(spline, u):
    num_basis, degree = spline
    values = basis(torch.tensor(u, dtype=torch.float64), *spline)
    assert values.shape == (len(u), num_basis)
    assert values.min() >= 0
    assert (values.sum(1) - 1).abs().max() < 1e-13
    assert ((values > 0).sum(1) <= degree + 1).all()
    assert torch.equal(basis(torch.tensor([0.0, 1.0]), *spline)[:, [0, -1]], torch.eye(2).double()) or num_basis == 1


@few
@given(splines(), positions, st.data())
def test_curve_stays_inside_its_control_points(spline, u, data):
    points = data.draw(st.lists(st.floats(-100, 100), min_size=spline[0], max_size=spline[0]))
    points = torch.tensor(points, dtype=torch.float64)
    curve = basis(torch.tensor(u, dtype=torch.float64), *spline) @ points
    assert curve.min() >= points.min() - 1e-9
    assert curve.max() <= points.max() + 1e-9


@few
@given(splines(least_degree=1))
def test_smooth_to_order_p_minus_1_at_inner_knots(spline):
    num_basis, degree = spline
    inner = knots(num_basis, degree)[degree + 1 : num_basis]
    sides = [derivative_basis(inner + sign * 1e-7, *spline, degree - 1) for sign in (-1, 1)]
    scale = float(sides[0].abs().max()) if len(inner) else 1.0
    assert len(inner) == 0 or (sides[0] - sides[1]).abs().max() < 1e-3 * scale
    if len(inner):
        jump = [derivative_basis(inner + sign * 1e-7, *spline, degree) for sign in (-1, 1)]
        assert (jump[0] - jump[1]).abs().max() > 1e-3 * scale  # and no smoother


def test_knots():
    assert knots(6, 3).tolist() == pytest.approx([0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1])
    assert knots(4, 3).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(knots(10, 4)) == 15


@pytest.mark.parametrize(
    ("spline", "u", "expected"),
    [
        ((4, 3), 0.25, [27 / 64, 27 / 64, 9 / 64, 1 / 64]),
        ((6, 3), 0.5, [0, 0.03125, 0.46875, 0.46875, 0.03125, 0]),
        ((6, 3), 0.2, [0.064, 0.558, 0.342, 0.036, 0, 0]),
        ((6, 3), 0.9, [0, 0, 0.0045, 0.11025, 0.54225, 0.343]),
        ((7, 4), 0.1, [0.2401, 0.5638125, 0.1805625, 0.015075, 0.00045, 0, 0]),
    ],
)
def test_check_values(spline, u, expected):
    assert basis(torch.tensor([u], dtype=torch.float64), *spline)[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_degree_0_is_decided_in_integers():
    values = basis(grid(16), 5, 0).argmax(1).tolist()
    assert values == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4]
    assert basis(grid(20), 10, 0).argmax(1).tolist() == [i // 2 for i in range(20)]
    # In floats alone, some of these fall on the wrong side of a knot: (23, 22), (45, 22), …
    for steps in range(2, 50):
        for num in range(1, steps + 1):
            expected = [min(num - 1, t * num // (steps - 1)) for t in range(steps)]
            assert basis(grid(steps), num, 0).argmax(1).tolist() == expected, (steps, num)


def test_velocity_at_the_ends():
    num_basis, degree = 10, 4
    points = torch.randn(num_basis, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = derivative_basis(torch.tensor([0.0, 1.0]), num_basis, degree, 1) @ points
    spans = degree * (num_basis - degree)
    torch.testing.assert_close(ends[0], spans * (points[1] - points[0]))
    torch.testing.assert_close(ends[1], spans * (points[-1] - points[-2]))


# -------------------------------------------------------------------------------------------------------- projection


def ridge_by_lstsq(phi, ridge, weight=None):
    """Least squares over the rows of Φ and those of √λ I."""
    root = np.ones(len(phi)) if weight is None else np.sqrt(weight.numpy())
    rows = np.concatenate([root[:, None] * phi.numpy(), np.sqrt(ridge) * np.eye(phi.shape[1])])
    targets = np.concatenate([np.diag(root), np.zeros((phi.shape[1], len(phi)))])
    return np.linalg.lstsq(rows, targets, rcond=None)[0]


@few
@given(splines(), st.floats(1, 4), st.sampled_from([1e-9, 1e-5, 1e-4, 1e-2]), st.booleans())
def test_projection_equals_lstsq(spline, density, ridge, weighted):
    num_basis, degree = spline
    steps = max(2, int(num_basis * density))
    phi = basis(grid(steps), *spline)
    generator = torch.Generator().manual_seed(steps)
    weight = torch.rand(steps, dtype=torch.float64, generator=generator) if weighted else None
    ours = ridge_projection(phi, ridge, weight, degree)
    theirs = ridge_by_lstsq(phi, ridge, weight)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6 * np.abs(theirs).max())
    # The bandwidth only saves work.
    assert torch.equal(ours, ridge_projection(phi, ridge, weight))


@pytest.mark.parametrize(
    ("spline", "ridge", "condition", "row_sum"),
    [
        ((10, 5, 4), 1e-4, 78, 14),
        ((20, 10, 4), 1e-4, 67, 8.9),
        ((20, 15, 4), 1e-4, 120, 12),
        ((20, 20, 4), 1e-4, 1.9e5, 60),
        ((20, 20, 4), 1e-9, 1.9e5, 895),
        ((50, 10, 4), 1e-4, 68, 9.1),
        ((50, 10, 3), 1e-4, 23, 5.6),
        ((100, 15, 4), 1e-4, 63, 9.3),
    ],
)
def test_conditioning(spline, ridge, condition, row_sum):
    steps, num_basis, degree = spline
    phi = basis(grid(steps), num_basis, degree)
    assert np.linalg.cond((phi.T @ phi).numpy()) == pytest.approx(condition, rel=0.03)
    assert float(ridge_projection(phi, ridge).abs().sum(1).max()) == pytest.approx(row_sum, rel=0.03)


@few
@given(splines(), st.integers(0, 6), st.data())
def test_reproduces_polynomials_of_its_degree(spline, power, data):
    num_basis, degree = spline
    power = min(power, degree)
    u = grid(3 * num_basis + 2)
    coefficients = data.draw(st.lists(st.floats(-2, 2), min_size=power + 1, max_size=power + 1))
    values = sum(c * u**k for k, c in enumerate(coefficients))
    phi = basis(u, *spline)
    fitted = phi @ (ridge_projection(phi, 1e-13, None, degree) @ torch.as_tensor(values))
    assert (fitted - values).abs().max() < 1e-7


def test_same_bits_on_any_number_of_threads():
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            phi = basis(grid(1000), 100, 4)
            results.append((phi, ridge_projection(phi, 1e-4, None, 4), ordered_product(phi.T, phi[:, :3])))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
    torch.testing.assert_close(results[0][2], results[0][0].T @ results[0][0][:, :3])
    assert ordered_product(phi.T, phi[:, :0]).shape == (100, 0)
