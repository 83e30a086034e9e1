"""What an action tokenizer costs and loses on episodes."""

from __future__ import annotations

from typing import Any

import torch

from zoo.cli._output import ticking
from zoo.components.layers.normalization import RangeNormalizer
from zoo.components.statistics import RunningRange
from zoo.data.actions import ActionEpisodes
from zoo.errors import InputError
from zoo.metrics.action import motion  # the measures without the metrics, which take seconds to import
from zoo.modalities.action import ActionTokenizer

__all__ = ["measure"]


def measure(tokenizer: ActionTokenizer, episodes: ActionEpisodes, reference: ActionEpisodes) -> dict[str, Any]:
    """Encode and decode whole episodes, and compare.

    Args:
        tokenizer: A fitted tokenizer. If its chunks continue the commands before them, the first commands of every
            episode are taken for these and not measured.
        episodes: What to measure on.
        reference: Data whose 1 % and 99 % quantiles normalised units put at -1 and +1.

    Returns:
        `episodes`, `steps`, `chunks`; `normalised_mse`; `max_error` in physical units and `max_error_dof`, the degree
        of freedom that has it; `rmse_per_dof` and `max_error_per_dof` in physical units; `tokens`,
        `tokens_per_chunk`, `bits`, `bit_rate` a second (None if the control rate is unknown), and `compression`
        against 32 bits a value; `clipped`, the share that was moved to the nearest end of what there are ids for.

    Raises:
        InputError: No episode is long enough.
    """
    seen = RunningRange()
    for actions in reference.episodes:
        seen.update(torch.from_numpy(actions))
    normalizer = RangeNormalizer(episodes.num_dofs)
    normalizer.set_range(seen.quantile(0.01), seen.quantile(0.99))
    normalised, physical = [], []
    before = tokenizer.num_fixed
    used = [torch.from_numpy(actions)[None] for actions in episodes.episodes if len(actions) > before]
    if not used:
        raise InputError(f"no episode is longer than the {before} commands that a chunk continues.")
    bits, ids, steps, chunks, clipped = 0.0, 0, 0, 0, 0.0
    with torch.no_grad(), ticking("measuring", len(used)) as ticker:
        for episode in used:
            start, x = episode[:, :before], episode[:, before:]
            options = {"start": start} if before else {}
            tokens = tokenizer.encode(x, **options)
            decoded = tokenizer.decode(tokens, **options)
            physical.append(motion.errors(decoded, x, None))
            normalised.append(motion.errors(normalizer(decoded), normalizer(x), None))
            bits += float(tokens.num_bits.sum())
            ids += int(tokens.lengths.sum())
            steps += x.shape[1]
            clipped += tokenizer.clipped_share(x, **options) * x.shape[1]
            chunks += tokenizer.num_chunks(x.shape[1])
            ticker.advance()
    errors = motion.error_result(torch.cat(physical))
    rate = tokenizer.spec.sample_rate
    return {
        "episodes": len(used),
        "steps": steps,
        "chunks": chunks,
        "clipped": clipped / steps,
        "normalised_mse": float(motion.error_result(torch.cat(normalised))["mse"]),
        "max_error": float(errors["max"]),
        "max_error_dof": int(errors["max_per_dof"].argmax()),
        "rmse_per_dof": errors["rmse_per_dof"].tolist(),
        "max_error_per_dof": errors["max_per_dof"].tolist(),
        "tokens": ids,
        "tokens_per_chunk": ids / chunks,
        "bits": bits,
        "bit_rate": None if rate is None else bits / (steps / rate),
        "compression": 32 * steps * episodes.num_dofs / bits,
    }
