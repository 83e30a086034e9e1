"""The names of diffusers' `AutoencoderKL`, in whose layout latent diffusion's autoencoders are published.

Ours are the same, but each half has its own 1×1 convolution: see `zoo.components.autoencoder_kl.HALVES`.
"""

from __future__ import annotations

from zoo.checkpoint import foreign
from zoo.components.autoencoder_kl import HALVES

__all__ = ["current_name", "diffusers_name"]

# As the linear maps of attention were named before 0.18.
_OLD_NAMES = (
    (r"\.query\.", ".to_q."),
    (r"\.key\.", ".to_k."),
    (r"\.value\.", ".to_v."),
    (r"\.proj_attn\.", ".to_out.0."),
)
_BY_LENGTH = sorted(HALVES.items(), key=lambda pair: -len(pair[1]))


def current_name(name: str) -> str:
    """Return the name that diffusers has had since 0.18 of a tensor that an older one may have named."""
    return foreign.renamed(name, _OLD_NAMES)


def diffusers_name(name: str) -> str:
    """Return diffusers' name of a tensor of a module that has a `ConvEncoder` and a `ConvDecoder` as its halves.

    Raises:
        KeyError: It is in neither.
    """
    for theirs, ours in _BY_LENGTH:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)
