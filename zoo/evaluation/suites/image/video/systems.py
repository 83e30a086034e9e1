"""What makes clips of clips frame by frame: an image tokenizer that knows nothing of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.evaluation.items import load_for
from zoo.evaluation.suites.image.systems import Made, OfTokenizer, RoundTrip, check_options
from zoo.evaluation.suites.image.video.config import VideoSuite
from zoo.tokenizer import Tokenizer

__all__ = ["FrameByFrame", "frame_systems"]


class FrameByFrame(OfTokenizer):
    """An image tokenizer's `decode(encode(x))` of each frame by itself.

    Args:
        name: As the report has it.
        tokenizer: Whose.
        options: Of `decode`.
        seed: Of its random numbers, which are the same for every clip.
    """

    def __init__(self, name: str, tokenizer: Tokenizer, options: Mapping[str, Any], seed: int) -> None:
        self._frames = RoundTrip(name, tokenizer, options, seed)
        super().__init__(name, tokenizer, self._frames.settings)

    def make(self, pictures: Tensor) -> Made:
        """Make all frames of each clip."""
        made = []
        for clip in pictures:
            self._frames.begin()
            made.append(self._frames.make(clip.transpose(0, 1)))
        clips = torch.stack([each.pictures.transpose(0, 1) for each in made])
        facts = [{name: sum(row[name] for row in each.facts) for name in each.facts[0]} for each in made]
        seconds = {name: sum(each.seconds[name] for each in made) for name in made[0].seconds}
        return Made(clips, facts, seconds)


def frame_systems(suite: VideoSuite) -> list[FrameByFrame]:
    """Return what makes clips frame by frame.

    Raises:
        InputError: A model is not for images.
        ConfigError: It does not declare an option.
    """
    found = []
    for name in suite.frame_models:
        tokenizer = load_for(name, "image", suite.device)
        check_options(tokenizer.decode_options, suite.frame_decode, f"frame_decode of {name}")
        found.append(FrameByFrame(f"{name}, frame by frame", tokenizer, suite.frame_decode, suite.seed))
    return found
