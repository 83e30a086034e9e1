"""Model cards: the README.md that a published checkpoint carries.

A model that ships has a card in `model_cards/`, written by hand but for the blocks between `<!-- zoo:… -->` markers,
which `python -m zoo.cli.cards` fills from `checkpoints/` and `eval/results/`. A checkpoint without a card gets one
written for it when it is pushed.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from zoo import config as configs
from zoo import registry, resources
from zoo.data import signals
from zoo.hub.card_text import block
from zoo.hub.curves import CURVES, curves_table, read_curves
from zoo.hub.generator_card import generator_facts, generator_usage
from zoo.modalities.action import ActionTokenizer
from zoo.stored import NoDecoder, Stored
from zoo.tokenizer import Tokenizer

__all__ = ["RESULTS_FORMAT", "card_for", "facts", "kind_of", "settings", "write_card"]

RESULTS_FORMAT = "tokenizer-zoo-metrics"
"""What a file of metrics says it is; `zoo test --results` writes one."""


def kind_of(stored: Stored) -> str:
    """Return what people call it, "tokenizer" or "generator"."""
    return "tokenizer" if isinstance(stored, Tokenizer) else "generator"


def card_for(tokenizer: Stored, repo_id: str | None = None) -> str:
    """Return the card of a tokenizer or generator: the hand-written one if it ships, else one made from its facts.

    Args:
        tokenizer: What is published.
        repo_id: Where it will be, `owner/repo`, for the usage lines.
    """
    address = f'"hf://{repo_id}"' if repo_id else f'"./{tokenizer.name}"'
    if _is_named(tokenizer):
        try:
            text = resources.path("model_cards", f"{tokenizer.name}.md").read_text(encoding="utf-8")
        except OSError:
            pass
        else:
            return text
    if not isinstance(tokenizer, Tokenizer):
        return _generator_card(tokenizer, address)
    signal = signals.of(tokenizer.spec.modality)
    made_from = " ".join(tokenizer.trained_on.split())
    fixed = tokenizer.num_fixed if isinstance(tokenizer, ActionTokenizer) else 0
    return f"""---
{_metadata(tokenizer)}---

# {tokenizer.name}

A {tokenizer.family} tokenizer of {signal.name}{f", made from {made_from}" if made_from else ""}.

```python
import zoo

tok = zoo.load({address})
{_usage(tokenizer, signal.example, fixed)}
```

## Tokens

{block("facts", tokenizer.name, facts(tokenizer))}

## Settings

{block("settings", tokenizer.name, settings(tokenizer))}

## Limits

{_measured(tokenizer.facts) or "No figures were measured for this checkpoint. "}`zoo eval` measures a folder of yours on
a suite of the library.
"""


def _is_named(stored: Stored) -> bool:
    """Whether the index of names has it, so that its card is the library's."""
    return stored.name in (registry.list_models() if isinstance(stored, Tokenizer) else registry.list_generators())


def _generator_card(generator: Stored, address: str) -> str:
    noun = signals.of(generator.spec.modality).name
    over = f" of {generator.config.tokenizer}" if generator.config.tokenizer else ""
    made_from = " ".join(generator.trained_on.split())
    return f"""---
{_metadata(generator)}---

# {generator.name}

An autoregressive model over the {noun} tokens{over}{f", made from {made_from}" if made_from else ""}. It draws tokens,
and the tokenizer makes {noun} of them.

```python
{generator_usage(generator, address)}
```

## Facts

{block("facts", generator.name, generator_facts(generator))}

## Settings

{block("settings", generator.name, settings(generator))}

## Limits

No figures were measured for this checkpoint. `zoo eval predictability` measures how predictable the tokenizer's ids are
to small models of one budget. Ids of a tokenizer with other weights mean something else, and loading checks that.
"""


def _metadata(stored: Stored) -> str:
    """Return the front matter, as YAML whatever a licence is called: the Hub knows those of its list by their ids."""
    import yaml

    signal, kind = signals.of(stored.spec.modality), kind_of(stored)
    licence = stored.spec.licence.lower()
    values = {
        "license": licence,
        "library_name": "tokenizer-zoo",
        **({"pipeline_tag": signal.pipeline_tag} if kind == "tokenizer" else {}),
        "tags": [kind, signal.name, stored.family if kind == "tokenizer" else "autoregressive"],
    }
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence) or licence.startswith("licenseref-"):
        values = {"license": "other", "license_name": licence} | {k: v for k, v in values.items() if k != "license"}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def settings(tokenizer: Stored) -> str:
    """Return the settings of a tokenizer or generator, as a Markdown block of JSON."""
    return f"```json\n{json.dumps(configs.to_dict(tokenizer.config), indent=2)}\n```"


def _usage(tokenizer: Tokenizer, example: str, fixed: int) -> str:
    """Return the lines that encode and decode, for chunks that continue `fixed` commands before them with these."""
    decodes = not isinstance(tokenizer.decoder, NoDecoder)
    if tokenizer.spec.is_continuous:
        return f'latents = tok.encode_latents("{example}")' + (
            "\nsignal = tok.decode_latents(latents)" if decodes else ""
        )
    if not fixed:
        return f'tokens = tok.encode("{example}")' + ("\nsignal = tok.decode(tokens)" if decodes else "")
    before = "motion[:1]" if fixed == 1 else f"motion[:1].expand(1, {fixed}, -1)"
    return f"""import torch
from zoo.data.actions import read_actions

motion = torch.from_numpy(read_actions("{example}").episodes[0])
start = {before}  # what was sent before: of a robot at rest, the first command
tokens = tok.encode(motion, start=start)
signal = tok.decode(tokens, start=start)"""


def _measured(facts: dict[str, Any]) -> str:
    """Return what was measured when a tokenizer was fitted, "" if nothing was."""
    measured = facts.get("measured")
    if not isinstance(measured, dict):
        return ""
    rows = [f"| {str(name).replace('_', ' ')} | {_shown(value)} |" for name, value in measured.items()]
    names = facts.get("dof_names")
    order = f"\n\nDegrees of freedom, in this order: {', '.join(map(str, names))}." if isinstance(names, list) else ""
    return "\n".join(["Measured when it was fitted:", "", "| | |", "|---|---|", *rows]) + order + "\n\n"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_card(tokenizer: Stored, folder: Path, repo_id: str | None = None) -> Path:
    """Write `card_for(tokenizer)` to `folder/README.md`, unless there is one already; return its path."""
    path, curves = folder / "README.md", folder / CURVES
    if not path.exists():
        card = card_for(tokenizer, repo_id)
        if curves.is_file() and not _is_named(tokenizer):
            card += f"\n## Training\n\n{curves_table(read_curves(curves))}\n"
        path.write_text(card, encoding="utf-8")
    return path


def facts(tokenizer: Stored) -> str:
    """Return what a token model needs to know of a tokenizer, or who draws of a generator, as a Markdown table."""
    if not isinstance(tokenizer, Tokenizer):
        return generator_facts(tokenizer)
    spec = tokenizer.spec
    rows = {"latents": f"{spec.latent_dim} numbers each; there is no codebook"}
    if not spec.is_continuous:
        rows = {"codebook": f"{spec.num_codebooks} × {spec.codebook_size} ids, {spec.bits_per_token:g} bits a token"}
    rows |= {
        "input": "any size" if spec.input_size is None else " × ".join(map(str, spec.input_size)),
        f"{'latents' if spec.is_continuous else 'tokens'} for it": (
            "depends on the content" if spec.num_tokens is None else str(spec.num_tokens)
        ),
    }
    if spec.trained_lengths is not None:
        rows["first tokens that training kept"] = ", ".join(map(str, spec.trained_lengths))
    if signals.of(spec.modality).time_axis is not None:
        rows |= {
            "sample rate": "–" if spec.sample_rate is None else f"{spec.sample_rate:g} Hz",
            "token rate": "–" if spec.token_rate is None else f"{spec.token_rate:g} a second",
            "bit rate": "–" if spec.bit_rate is None else f"{spec.bit_rate:g} bit/s",
        }
    elif spec.input_size and spec.num_tokens and spec.bits_per_token:
        bits = spec.num_tokens * spec.bits_per_token
        rows["bits for it"] = f"{bits:.0f}, {bits / math.prod(spec.input_size):.3g} a pixel"
    rows |= {
        "trained parameters": f"{tokenizer.num_parameters:,}",
        "licence of the weights": spec.licence,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])
