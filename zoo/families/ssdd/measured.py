"""What the start of a training measures on pictures: latents, for linear maps that fit them."""

from __future__ import annotations

from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from zoo.components.quantizers import Quantizer
from zoo.data.images import ImageData
from zoo.errors import ConfigError

__all__ = ["some_pictures", "start_projections"]

_LEAST_VARIANCE = 1e-6


def some_pictures(folder: str | None, size: tuple[int, int], number: int) -> Tensor:
    """Return pictures (B, 3, H, W) in 0…1, evenly spread over a training split.

    Args:
        folder: As of `ImageData`; its default if None.
        size: H and W.
        number: B; fewer if there are no more.

    Raises:
        ConfigError: There is no training split.
    """
    height, width = size
    fitting: list[dict[str, Any]] = [
        {"name": "Resize", "size": max(height, width)},
        {"name": "CenterCrop", "size": [height, width]},
    ]
    items = ImageData(folder, transforms=fitting).dataset("train")
    if items is None:
        raise ConfigError("pictures: there is no training split on whose pictures something could be measured.")
    step = max(1, len(items) // number)
    return torch.stack([items[place].image for place in range(0, len(items), step)][:number])


@torch.no_grad()
def start_projections(latents: Tensor, into: nn.Conv2d, quantizer: Quantizer, back: nn.Conv2d) -> None:
    """Start the linear maps around a quantizer that is put behind a trained encoder, so that little is lost at first.

    What is quantized are the latents' principal components, each of deviation 1; what comes back is, in the mean
    square, as near to the latents as a linear map of codes gets. From small random numbers a quantizer of scalars would
    have nothing but its middle levels for a long time.

    Args:
        latents: (B, Y, h, w), of at least as many channels as the quantizer takes.
        into: Latents → what is quantized, a 1×1 convolution.
        quantizer: Between them.
        back: Codes → latents, a 1×1 convolution.
    """
    rows = rearrange(latents, "b c h w -> (b h w) c").double()
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov((rows - mean).T))
    count = quantizer.input_dim
    scales = variances[-count:].clamp(min=_LEAST_VARIANCE).rsqrt()
    weight = (directions[:, -count:] * scales).T
    into.weight.copy_(weight[:, :, None, None])
    cast(Tensor, into.bias).copy_(-weight @ mean)
    taken = into(latents)
    ids = quantizer.ids(rearrange(taken, "b c h w -> b (h w) c"))
    codes = quantizer.codes(ids).flatten(0, 1).double()
    found = torch.linalg.lstsq(torch.cat([codes, codes.new_ones(len(codes), 1)], 1), rows, driver="gelsd").solution
    back.weight.copy_(found[:-1].T[:, :, None, None])
    cast(Tensor, back.bias).copy_(found[-1])
