"""Small generators of equal budget, one for each tokenizer and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from zoo.checkpoint.fingerprint import fingerprint
from zoo.evaluation.suites.predictability.config import Budget, Sized
from zoo.generator import GeneratorConfig, TokenGenerator, bits_of_items
from zoo.generator.data import TokenItems
from zoo.process.fresh import fresh
from zoo.process.random import preserved, seed_all
from zoo.tokenizer import Tokenizer
from zoo.training.optim import OptimizerConfig, build_optimizer, build_schedule

__all__ = ["generator_config", "held_out_bits", "train"]

_EVAL_ITEMS = 32


def generator_config(tokenizer: Tokenizer, sized: Sized, *parts: TokenItems) -> GeneratorConfig:
    """Return a config for all items of some parts; with an end, if their lengths differ."""
    spec = tokenizer.spec
    lengths = torch.cat([part.lengths for part in parts])
    return GeneratorConfig(
        modality=spec.modality,
        codebook_size=spec.require_codebook(),
        num_codebooks=spec.num_codebooks,
        max_tokens=int(lengths.max()),
        has_end=bool((lengths != lengths[0]).any()),
        width=sized.width,
        num_layers=sized.num_layers,
        num_heads=sized.num_heads,
        token_dropout=sized.dropout,
        dropout=sized.dropout,
        mlp_dropout=sized.dropout,
        tokenizer=tokenizer.name,
        fingerprint=fingerprint(tokenizer, decoder=False),
    )


def train(
    config: GeneratorConfig, items: TokenItems, budget: Budget, seed: int, tell: Callable[[int], None]
) -> TokenGenerator:
    """Train a generator; the same numbers give the same one.

    Args:
        config: Of what.
        items: To learn from.
        budget: For how long.
        seed: Of its weights, the order of items, and dropout.
        tell: Told each step's number.
    """
    with preserved():
        seed_all(seed, devices=False)
        with fresh(seed=seed):
            generator = TokenGenerator(config)
        settings = OptimizerConfig(
            lr=budget.lr,
            betas=(0.9, 0.95),
            weight_decay=budget.weight_decay,
            warmup_steps=budget.warmup_steps,
            final_ratio=0.01,
        )
        optimizer = build_optimizer(settings, [generator], undecayed=generator.tables())
        schedule = build_schedule(settings, optimizer, budget.num_steps)
        generator.train()
        for step, places in zip(range(budget.num_steps), _orders(len(items), budget.batch_size, seed), strict=False):
            tell(step)
            loss = generator.loss(*_batch(items, places))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return generator.eval()


@torch.no_grad()
def held_out_bits(generator: TokenGenerator, items: TokenItems) -> Tensor:
    """Return the information of each item, ends included, in bits, float64 (items,)."""
    places = torch.split(torch.arange(len(items)), _EVAL_ITEMS)
    return torch.cat([bits_of_items(generator.log_prob(*_batch(items, some.tolist()))) for some in places])


def _orders(num_items: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of items without end, each item once before any comes again."""
    source = torch.Generator().manual_seed(seed)
    waiting: list[int] = []
    while True:
        while len(waiting) < batch_size:
            waiting += torch.randperm(num_items, generator=source).tolist()
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def _batch(items: TokenItems, places: list[int]) -> tuple[Tensor, Tensor]:
    rows = [items[place][0] for place in places]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
