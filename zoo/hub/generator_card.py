"""The card of a generator over a tokenizer's ids, as `zoo.hub.card` writes one where there is none."""

from __future__ import annotations

from typing import Any

from zoo.data import signals
from zoo.stored import Stored

__all__ = ["generator_facts", "generator_usage"]


def generator_facts(generator: Stored) -> str:
    """Return what somebody who draws tokens needs to know, as a Markdown table."""
    config: Any = generator.config
    books = f"{config.num_codebooks} × " if config.num_codebooks > 1 else ""
    rows = {
        "over the ids of": config.tokenizer or "a tokenizer that nobody has named",
        "its fingerprint": f"`{config.fingerprint[:12]}…`" if config.fingerprint else "not known",
        "ids": f"{books}{config.codebook_size:,}",
        "tokens of an item": f"up to {config.max_tokens:,}, and an end" if config.has_end else f"{config.max_tokens:,}",
        "condition": _condition(config),
        "parameters": f"{generator.num_parameters:,}",
        "layers, heads, width": f"{config.num_layers}, {config.num_heads}, {config.width}",
        "licence of the weights": generator.spec.licence,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def generator_usage(generator: Stored, address: str) -> str:
    """Return the lines that draw from it and decode what was drawn."""
    config: Any = generator.config
    signal = signals.of(config.modality)
    lines = ["import zoo", "", f"generator = zoo.load_generator({address})"]
    lines.append(f'tokenizer = zoo.load("{config.tokenizer or "the tokenizer"}")')
    lines.append("generator.require_made_by(tokenizer)")
    if config.condition_frames:
        lines += [
            "",
            "from zoo.data.media import read_video",
            "from zoo.generator import first_frames",
            "",
            "size = tokenizer.spec.input_size[1:]",
            f'clip, _ = read_video("{signal.example}", size=size, num_frames={config.condition_frames})',
            f"prefix = first_frames(tokenizer, clip[None], {config.condition_frames})",
            "tokens = generator.sample(prefix=prefix, seed=0)",
        ]
    elif config.prefix_tokens:
        lines.append(f"tokens = generator.sample(prefix=prefix, seed=0)  # {config.prefix_tokens} tokens of its ids")
    else:
        given = "labels=[0, 1]" if config.num_classes else "2"
        lines.append(f"tokens = generator.sample({given}, seed=0)")
    return "\n".join([*lines, "made = tokenizer.decode(tokens)"])


def _condition(config: Any) -> str:
    if config.condition_frames:
        return f"the first {config.condition_frames} frames of a clip, as {config.prefix_tokens:,} tokens"
    if config.prefix_tokens:
        return f"{config.prefix_tokens:,} tokens of the same ids"
    return f"one of {config.num_classes:,} classes, or none" if config.num_classes else "none"
