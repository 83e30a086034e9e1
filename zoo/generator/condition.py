"""What a generator that continues clips is told: their first frames, as tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens

__all__ = ["first_frames"]


def first_frames(tokenizer: Tokenizer, clips: Tensor, num_condition: int, num_frames: int | None = None) -> Tokens:
    """Return the tokens of the first frames of clips, the last of which is repeated to the length of a clip.

    So the tokenizer sees a clip like any other, which stands still once nothing is known (arXiv 2410.21264, frame
    prediction; there 5 of 16 frames). `TokenGenerator.sample(prefix=…)` goes on from them.

    Args:
        tokenizer: Of videos, whose ids the generator is over.
        clips: (B, 3, F, H, W) in 0…1, of at least so many frames.
        num_condition: Frames that are known.
        num_frames: Frames of a clip; those of the tokenizer's window if None.

    Raises:
        InputError: There are fewer frames, more are known than a clip has, or the tokenizer cannot encode them.
    """
    window = None if tokenizer.spec.input_size is None else tokenizer.spec.input_size[0]
    total = num_frames or window or num_condition
    if not 0 < num_condition <= min(total, clips.shape[2]):
        raise InputError(
            f"the first frames of a clip are at least 1 and at most the {total} that it has, and must be there: asked "
            f"for were {num_condition}, of {clips.shape[2]}."
        )
    known = clips[:, :, :num_condition]
    rest = known[:, :, -1:].expand(-1, -1, total - num_condition, -1, -1)
    return tokenizer.encode(torch.cat([known, rest], 2))
