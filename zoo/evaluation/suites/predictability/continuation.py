"""What the model of a tokenizer's ids says a robot does next, decoded and compared with what it did."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.components.layers.normalization import RangeNormalizer
from zoo.errors import TokenError
from zoo.generator import Sampling, TokenGenerator, generate
from zoo.modalities.action import ActionTokenizer
from zoo.tokens import Tokens

__all__ = ["Continuation", "continued", "held"]

_GREEDY = Sampling(top_k=1)


@dataclass(frozen=True)
class Continuation:
    """What came of the last chunk of each item.

    Attributes:
        squared_error: (N,) float64, summed over its values in normalised units.
        failed: (N,) bool, whether the ids that were predicted do not decode; the last command is repeated then.
    """

    squared_error: Tensor
    failed: Tensor


def continued(
    generator: TokenGenerator, tokenizer: ActionTokenizer, windows: Tensor, normalizer: RangeNormalizer
) -> Continuation:
    """Predict the last chunk of each window from the chunks before it, by the likeliest ids.

    Args:
        generator: Of ids.
        tokenizer: Whose.
        windows: (N, T, D) actions, T a multiple of the horizon.
        normalizer: Of errors.
    """
    horizon = tokenizer.horizon
    context = windows[:, :-horizon]
    prompts = tokenizer.encode(context, **tokenizer.at_rest(windows[:, 0]))
    rows: dict[int, list[int]] = {}
    for item, length in enumerate(prompts.lengths.tolist()):
        rows.setdefault(length, []).append(item)
    decoded = context[:, -1:].expand(-1, horizon, -1).clone()
    failed = torch.ones(len(windows), dtype=torch.bool)
    for length, items in rows.items():
        if length > generator.config.max_tokens:
            continue
        source = torch.Generator().manual_seed(0)  # ids that are equally likely are drawn
        made, lengths = generate(
            generator, len(items), prompt=prompts.ids[items, :length], sampling=_GREEDY, generators=source
        )
        for item, ids, count in zip(items, made, lengths.tolist(), strict=True):
            tokens = Tokens.from_ids(ids[None, :count], codebook_size=prompts.codebook_size, model=tokenizer.name)
            try:
                whole = tokenizer.decode(tokens, **tokenizer.at_rest(windows[item : item + 1, 0]))[0]
            except TokenError:  # ids that spell no chunks
                continue
            if len(whole) == windows.shape[1] and bool(whole.isfinite().all()):
                decoded[item], failed[item] = whole[-horizon:], False
    return Continuation(_squared_error(decoded, windows[:, -horizon:], normalizer), failed)


def held(windows: Tensor, horizon: int, normalizer: RangeNormalizer) -> Tensor:
    """Return the squared error of repeating the last command before the last chunk, (N,), as of `Continuation`."""
    last = windows[:, -horizon - 1 : -horizon].expand(-1, horizon, -1)
    return _squared_error(last, windows[:, -horizon:], normalizer)


def _squared_error(decoded: Tensor, target: Tensor, normalizer: RangeNormalizer) -> Tensor:
    error: Tensor = normalizer(decoded) - normalizer(target)
    return error.square().sum((1, 2))
