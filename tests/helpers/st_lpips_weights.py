"""Random weights of ST-LPIPS under the names that the package's file has."""

import math

import torch

PLACES = {1: (0, 2), 2: (6, 8), 3: (12, 14, 16), 4: (20, 22, 24), 5: (28, 30, 32)}
BLURS = {2: 5, 3: 11, 4: 19, 5: 27}
WIDTHS = {0: 3, 1: 64, 2: 128, 3: 256, 4: 512, 5: 512}


def made_tensors():
    """Weights under the names of the package's file."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "scaling_layer.shift": torch.tensor([-0.03, -0.088, -0.188]).view(1, 3, 1, 1),
        "scaling_layer.scale": torch.tensor([0.458, 0.448, 0.45]).view(1, 3, 1, 1),
    }
    blur = torch.tensor([1.0, 2.0, 1.0]) / 4
    for block, places in PLACES.items():
        width, before = WIDTHS[block], WIDTHS[block - 1]
        if block in BLURS:
            filters = (blur[:, None] * blur).expand(before, 1, 3, 3).clone()
            tensors[f"net.slice{block}.{BLURS[block]}.filt"] = filters
        for place in places:
            weight = torch.randn(width, before, 3, 3, generator=generator) * math.sqrt(2 / (9 * before))
            tensors[f"net.slice{block}.{place}.weight"] = weight
            tensors[f"net.slice{block}.{place}.bias"] = 0.1 * torch.randn(width, generator=generator)
            before = width
        tensors[f"lin{block - 1}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return tensors
