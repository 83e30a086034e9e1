"""From the clips that `zoo generate` goes on from to their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from zoo.cli._inputs import as_flags
from zoo.cli._output import note, ticking
from zoo.errors import ConfigError, InputError

if TYPE_CHECKING:
    from zoo.data.signals import Reading, Recording
    from zoo.generator import TokenGenerator
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

__all__ = ["Clips", "Condition", "clips_of", "condition_of"]


class Clips(NamedTuple):
    """What is to be continued, not read yet.

    Attributes:
        items: One clip each, of the frames that are known.
        num_known: Frames that are known.
        num_frames: Frames whose tokens the generator is told.
    """

    items: list[Recording]
    num_known: int
    num_frames: int


class Condition(NamedTuple):
    """What clips are continued.

    Attributes:
        tokens: Of their first frames, one clip an item.
        names: Of the files.
        rates: Their frames a second.
    """

    tokens: Tokens
    names: list[str]
    rates: list[float | None]


def clips_of(
    generator: TokenGenerator, tokenizer: Tokenizer, clips: Sequence[str], num_frames: int | None, reading: Reading
) -> Clips:
    """Find the clips that a generator is to go on from.

    Args:
        generator: What is to go on from them.
        tokenizer: Of its ids.
        clips: Files, and folders of such.
        num_frames: How many frames are known; what the generator says if None.
        reading: What may be done to frames that do not fit.

    Raises:
        ConfigError: The generator continues nothing, or no clips, or it is not known how many frames.
        InputError: There are no clips.
    """
    from zoo.data import signals
    from zoo.modalities.video import VideoTokenizer
    from zoo.spec import TokenSpec

    config, spec = generator.config, tokenizer.spec
    if not config.prefix_tokens:
        raise ConfigError(f"{generator.name} does not predict frames, it goes on from nothing: leave --condition out.")
    if not isinstance(tokenizer, VideoTokenizer) or not spec.num_tokens or not spec.input_size:
        raise ConfigError(
            f"{generator.name} goes on from other tokens than those of clips of one length, which "
            "TokenGenerator.sample(prefix=…) does from Python."
        )
    known = num_frames or config.condition_frames
    if not known:
        raise ConfigError(f"{generator.name} does not say how many frames it goes on from: pass --condition-frames.")
    windows, rest = divmod(config.prefix_tokens, spec.num_tokens)
    total = windows * spec.input_size[0]
    if rest or known > total:
        raise ConfigError(
            f"{generator.name} goes on from {config.prefix_tokens} tokens, those of the first of {total} frames by "
            f"{tokenizer.name}, and asked for were {known}: pass --condition-frames."
        )
    # What takes that many frames takes the first ones of each file, and says which has fewer.
    first = TokenSpec("video", 2, input_size=(known, *spec.input_size[1:]), sample_rate=spec.sample_rate)
    try:
        return Clips(list(signals.of("video").find(clips, first, reading, note)), known, total)
    except InputError as error:
        raise InputError(as_flags(str(error))) from error


def condition_of(generator: TokenGenerator, tokenizer: Tokenizer, clips: Clips, batch_size: int) -> Condition:
    """Return the tokens of the first frames of clips.

    Args:
        generator: What is to go on from them.
        tokenizer: Of its ids.
        clips: What `clips_of` found.
        batch_size: Clips that are encoded at a time.

    Raises:
        InputError: A clip cannot be read, has too few frames, or does not fit.
    """
    import torch

    from zoo.generator import first_frames
    from zoo.tokens import Tokens

    parts: list[Tokens] = []
    rates: list[float | None] = []
    found, known, total = clips
    try:
        with ticking("reading", len(found)) as ticker:
            for start in range(0, len(found), batch_size):
                frames, own = zip(*(item.read() for item in found[start : start + batch_size]), strict=True)
                parts.append(first_frames(tokenizer, torch.stack(frames).to(tokenizer.device), known, total))
                rates += own
                ticker.advance(len(own))
    except InputError as error:
        raise InputError(as_flags(str(error))) from error
    # Called as the generator calls them, of which the tokenizer may be a copy.
    return Condition(replace(Tokens.cat(parts), model=generator.config.tokenizer), [item.name for item in found], rates)
