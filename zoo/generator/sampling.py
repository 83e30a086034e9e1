"""Drawing whole items, token after token, with keys and values kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.components.prior.causal import Cache
from zoo.components.prior.sampling import check_draws, draw_ids
from zoo.errors import InputError, TokenError

if TYPE_CHECKING:
    from zoo.generator.config import GeneratorConfig
    from zoo.generator.model import TokenGenerator

__all__ = ["Sampling", "check_classes", "generate"]

_ALIGNED = 8  # positions that a cache is rounded up to, as kernels like it


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn.

    Attributes:
        temperature: What logits are divided by.
        top_k: Keep only the k likeliest ids; 1 takes the likeliest, all if None.
        top_p: Of these keep only the likeliest ids up to the one with which their probabilities exceed p; all if None.
        guidance: s of classifier-free guidance, logits ℓ_u + s · (ℓ_c - ℓ_u) of what is known without and with the
            class (Ho and Salimans, arXiv 2207.12598); there is none at 1, or below.
        guided_tokens: Guide the first so many tokens only; all if None. LARP's `cfg_interval` of k is k + 2 here.

    Raises:
        InputError: A value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 1.0
    guided_tokens: int | None = None

    def __post_init__(self) -> None:
        check_draws(self.temperature, self.top_k, self.top_p)
        if self.guided_tokens is not None and self.guided_tokens < 0:
            raise InputError(f"guided_tokens must be at least 0, or None for all, got {self.guided_tokens}.")


def check_classes(config: GeneratorConfig, labels: Tensor | None, sampling: Sampling) -> None:
    """Refuse classes, and guidance towards them, that a generator does not have.

    Raises:
        InputError: There are none, or not so many.
    """
    if labels is not None and config.prefix_tokens:
        raise InputError("this generator is conditioned on tokens, and takes no labels: leave them out.")
    if labels is not None and not config.num_classes:
        raise InputError("this generator has no classes, and takes no labels: leave them out.")
    if labels is not None and labels.numel() and int(labels.max()) >= config.num_classes:
        raise InputError(f"labels must be below {config.num_classes}, or negative for none, got {int(labels.max())}.")
    if sampling.guidance > 1 and not config.num_classes:
        raise InputError("guidance is towards a class, and this generator has none: leave it at 1.")


@torch.no_grad()
def generate(
    model: TokenGenerator,
    num_items: int,
    *,
    labels: Tensor | None = None,
    prefix: Tensor | None = None,
    prompt: Tensor | None = None,
    sampling: Sampling,
    num_tokens: int | None = None,
    generators: Sequence[torch.Generator] | torch.Generator | None = None,
    is_cached: bool = True,
) -> tuple[Tensor, Tensor]:
    """Draw ids; for a model in evaluation mode, without dropout. `TokenGenerator.sample` takes and gives `Tokens`.

    Args:
        model: What predicts them.
        num_items: B.
        labels: int64 (B,); a negative one, and None, is no class.
        prefix: int64 (B, P) or (B, P, K), of a model that has `prefix_tokens`.
        prompt: int64 (B, n) or (B, n, K), the first tokens.
        sampling: How.
        num_tokens: T; as many as the model has if None. Items that have no end before that are cut.
        generators: Source of randomness, or one for each item; the device's default one if None.
        is_cached: Keep keys and values instead of computing them again for every token.

    Returns:
        ids int64 (B, T) or (B, T, K), with the prompt, 0 past an item's end; and lengths (B,).

    Raises:
        TokenError: The prompt does not fit.
        InputError: An argument is missing or out of range.
    """
    config, device = model.config, model.stack.positions.device
    total = config.max_tokens if num_tokens is None else num_tokens
    if not 0 < total <= config.max_tokens:
        raise InputError(f"num_tokens must be 1 to {config.max_tokens}, which the generator has, got {total}.")
    done = torch.zeros(num_items, 0, config.num_codebooks, dtype=torch.int64, device=device)
    if prompt is not None:
        done = model.columns(prompt.to(device))
    if done.shape[1] > total:
        raise TokenError(f"the prompt has {done.shape[1]} tokens, more than the {total} asked for.")
    if done.numel() and not 0 <= int(done.min()) <= int(done.max()) < config.codebook_size:
        raise TokenError(f"the prompt's ids must be in 0 … {config.codebook_size - 1}.")
    check_classes(config, labels, sampling)
    guides = sampling.guidance > 1
    start = model.start(num_items, labels, prefix)
    if guides:
        start = torch.cat([start, model.start(num_items, None, None)])
    cache = Cache(-(-(start.shape[1] + total) // _ALIGNED) * _ALIGNED) if is_cached else None
    lengths = torch.full((num_items,), total, device=device)
    for position in range(done.shape[1], total):
        seen = 0 if cache is None else cache.length
        # What is new: everything at first, then the token of the last round.
        new = done[:, max(0, seen - start.shape[1]) :]
        if guides and sampling.guided_tokens is not None and position >= sampling.guided_tokens:
            guides = False
            start = start[:num_items]
            if cache is not None:
                cache.keep(num_items)
        x = model.embedded(torch.cat([new, new]) if guides else new)
        output = model.hidden(x if seen else torch.cat([start, x], 1), cache)[:, -1:]
        token = done.new_zeros(num_items, 1, config.num_codebooks)
        for k, head in enumerate(model.heads):
            both = torch.cat([token, token]) if guides else token
            logits = head(model.contexts(output, both)[:, 0, k])
            if guides:
                known, unknown = logits.float().chunk(2)
                logits = unknown + sampling.guidance * (known - unknown)
            token[:, 0, k] = draw_ids(
                logits,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                generator=generators,
            )
            if config.has_end and k == 0:
                is_over = (token[:, 0, 0] == config.codebook_size) & (lengths == total)
                lengths = torch.where(is_over, position, lengths)
                token[:, 0, 0] = token[:, 0, 0].masked_fill(lengths <= position, 0)  # no input is an end
        token = token.masked_fill((lengths <= position)[:, None, None], 0)
        if bool((lengths <= position).all()):
            break
        done = torch.cat([done, token], 1)
    return done[..., 0] if config.num_codebooks == 1 else done, lengths
