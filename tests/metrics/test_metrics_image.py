"""PSNR and SSIM of pictures, against their formulas."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from zoo.errors import InputError
from zoo.metrics.image import exact, psnr, ssim


def pictures():
    x = torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    return x, (x + 0.1 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def test_psnr_is_of_each_picture():
    x, y = pictures()
    expected = -10 * torch.log10((x - y).square().flatten(1).mean(1))
    torch.testing.assert_close(psnr(y, x), expected)


def test_a_picture_that_equals_its_original_counts_for_100_db():
    x, y = pictures()
    made = torch.stack([x[0], y[1], x[2] + 2e-6])
    found = psnr(made, x)
    assert found[[0, 2]].tolist() == [100, 100]
    assert found[1] == psnr(y, x)[1]
    assert exact(made, x).tolist() == [1, 0, 1]
    assert psnr(x[:, :, :2, :2], x[:, :, :2, :2].round(decimals=1)).isfinite().all()


def by_hand(a, b):
    """SSIM of one channel, windows that lie inside alone (Wang et al., 2004)."""
    places = np.arange(-5, 6)
    window = np.exp(-(places**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(x):
        return correlate1d(correlate1d(x, window, 0), window, 1)[5:-5, 5:-5]

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()


def test_ssim_is_the_formula():
    x, y = pictures()
    channels = zip(x.double().flatten(0, 1).numpy(), y.double().flatten(0, 1).numpy(), strict=True)
    expected = np.reshape([by_hand(*pair) for pair in channels], (3, 3)).mean(1)
    np.testing.assert_allclose(ssim(y, x).numpy(), expected, rtol=1e-3)
    torch.testing.assert_close(ssim(x, x), torch.ones(3))


def test_what_cannot_be_compared_is_refused():
    x, _ = pictures()
    for measure in (psnr, ssim):
        with pytest.raises(InputError, match="of one shape"):
            measure(x, x[:2])
        with pytest.raises(InputError, match="of one shape"):
            measure(x[:, :1], x[:, :1])
    with pytest.raises(InputError, match="at least 11 × 11, got 10 × 20"):
        ssim(x[:, :, :10], x[:, :, :10])
