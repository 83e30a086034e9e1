"""A conformer by blocks: its mask, its attention against the formula, its settings."""

import numpy as np
import pytest
import torch

from zoo.components.layers.conformer import BlockConformer, ConformerConfig, RelativeAttention, block_mask
from zoo.components.layers.positions import relative_sincos
from zoo.errors import ConfigError


def test_mask():
    mask = block_mask(7, 3)
    for i in range(7):
        assert mask[i].tolist() == [j < (i // 3 + 1) * 3 for j in range(7)]


def test_attention_is_that_of_the_formula():
    torch.manual_seed(1)
    attention, length, heads, size = RelativeAttention(8, 2), 5, 2, 4
    x, mask = torch.randn(1, length, 8), block_mask(length, 2)
    with torch.no_grad():
        got = attention(x, relative_sincos(length, 8), mask)[0].double().numpy()
    w = {name: tensor.double().numpy() for name, tensor in attention.state_dict().items()}
    rows = x[0].double().numpy()
    q, k, v = (rows @ w[f"{n}.weight"].T + w[f"{n}.bias"] for n in "qkv")
    mixed = np.zeros((length, 8))
    for head in range(heads):
        part = slice(head * size, head * size + size)
        for i in range(length):
            scores = []
            for j in range((i // 2 + 1) * 2 if i < 4 else length):
                rates = 10000.0 ** -(np.arange(0, 8, 2) / 8)
                angles = (i - j) * rates
                position = np.stack([np.sin(angles), np.cos(angles)], 1).reshape(-1)
                p = w["position.weight"] @ position
                by_content = (q[i, part] + w["content_bias"][head]) @ k[j, part]
                by_distance = (q[i, part] + w["position_bias"][head]) @ p[part]
                scores.append((by_content + by_distance) / size**0.5)
            weights = np.exp(scores) / np.exp(scores).sum()
            mixed[i, part] = weights @ v[: len(scores), part]
    expected = mixed @ w["out.weight"].T + w["out.bias"]
    assert np.abs(got - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("values", "message"),
    [({"num_heads": 7}, "multiple of num_heads"), ({"block_size": 0}, "block_size"), ({"width": 9}, "even")],
)
def test_bad_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        ConformerConfig(**values)


def test_shapes():
    conformer = BlockConformer(ConformerConfig(width=8, num_heads=2, ffn_size=12, num_blocks=1, block_size=3))
    with torch.no_grad():
        assert conformer(torch.randn(2, 7, 8)).shape == (2, 7, 8)
