"""Patches against loops and torch's convolutions."""

import pytest
import torch
from torch.nn import functional as F

from zoo.components.layers.patches import PatchEmbedding, patchify, unpatchify
from zoo.errors import ConfigError, InputError


def test_a_pictures_patches_by_row_and_column_channels_last():
    x = torch.randn(2, 3, 4, 9)
    patches = patchify(x, (2, 3))
    assert patches.shape == (2, 6, 18)
    for row in range(2):
        for column in range(3):
            part = x[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            assert torch.equal(patches[:, 3 * row + column], part.permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(unpatchify(patches, (2, 3), (2, 3)), x)


def test_a_clips_patches_by_time_row_and_column_channels_last():
    x = torch.randn(1, 2, 4, 6, 4)
    patches = patchify(x, (2, 3, 4))
    assert patches.shape == (1, 4, 48)
    for time in range(2):
        for row in range(2):
            part = x[:, :, 2 * time : 2 * time + 2, 3 * row : 3 * row + 3]
            assert torch.equal(patches[:, 2 * time + row], part.permute(0, 2, 3, 4, 1).flatten(1))
    assert torch.equal(unpatchify(patches, (2, 3, 4), (2, 2, 1)), x)


@pytest.mark.parametrize(("size", "shape"), [((2, 3), (4, 9)), ((2, 3, 2), (4, 3, 6))])
def test_an_embedding_is_a_convolution_that_steps_by_its_kernel(size, shape):
    embed, x = PatchEmbedding(size, 3, 5), torch.randn(2, 3, *shape)
    kernel = embed.linear.weight.view(5, *size, 3).movedim(-1, 1)
    convolve = F.conv2d if len(size) == 2 else F.conv3d
    expected = convolve(x, kernel, embed.linear.bias, stride=size).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 3, 5, 4), (2, 2)), ((1, 3, 4, 4), (2, 2, 2)), ((1, 3, 2, 4, 4), (2, 2)), ((1, 3, 0, 4), (2, 2))],
)
def test_signals_that_patches_do_not_fill(shape, size):
    with pytest.raises(InputError, match="multiples"):
        patchify(torch.zeros(shape), size)


@pytest.mark.parametrize(
    ("shape", "grid", "words"),
    [((1, 5, 12), (2, 3), "2 × 3"), ((1, 6, 13), (2, 3), "whole number"), ((6, 12), (2, 3), "must be")],
)
def test_patches_that_do_not_fill_a_grid(shape, grid, words):
    with pytest.raises(InputError, match=words):
        unpatchify(torch.zeros(shape), (2, 2), grid)


@pytest.mark.parametrize("size", [(2,), (2, 0), (1, 2, 3, 4)])
def test_sizes_that_are_none(size):
    with pytest.raises(ConfigError, match="at least 1"):
        PatchEmbedding(size, 3, 4)
