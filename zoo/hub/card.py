"""Model cards: the README.md that a published checkpoint carries.

A model that ships has a card in `model_cards/`, written by hand but for the blocks between `<!-- zoo:… -->` markers,
which `python -m zoo.hub.card` fills from `checkpoints/` and `eval/results/`. A checkpoint without a card gets one
written for it when it is pushed.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any

from zoo import config as configs
from zoo import registry, resources
from zoo.errors import ConfigError
from zoo.tokenizer import Tokenizer

__all__ = ["RESULTS_FORMAT", "card_for", "fill", "write_card"]

RESULTS_FORMAT = "tokenizer-zoo-metrics"
"""What a file of metrics says it is; `zoo test --results` writes one."""

_PIPELINES = {"action": "robotics", "speech": "audio-to-audio", "image": "image-to-image", "video": "video-to-video"}
_EXAMPLES = {"action": "motion.npy", "speech": "speech.wav", "image": "picture.png", "video": "clip.mp4"}
_BLOCK = re.compile(r"(<!-- zoo:(?P<kind>\w+)(?: (?P<argument>[\w./-]+))? -->\n).*?(<!-- zoo:end -->)", re.DOTALL)


def card_for(tokenizer: Tokenizer, repo_id: str | None = None) -> str:
    """Return the card of a tokenizer: the hand-written one if it ships with the library, else one made from its facts.

    Args:
        tokenizer: What is published.
        repo_id: Where it will be, `owner/repo`, for the usage lines.
    """
    address = f'"hf://{repo_id}"' if repo_id else f'"./{tokenizer.name}"'
    if tokenizer.name in registry.list_models():
        try:
            text = resources.path("model_cards", f"{tokenizer.name}.md").read_text(encoding="utf-8")
        except OSError:
            pass
        else:
            return text
    modality = tokenizer.spec.modality
    licence = tokenizer.spec.licence.lower()
    return f"""---
license: {licence}
library_name: tokenizer-zoo
pipeline_tag: {_PIPELINES[modality]}
tags:
- tokenizer
- {modality}
- {tokenizer.family}
---

# {tokenizer.name}

A {tokenizer.family} tokenizer of {modality}{f", made from {tokenizer.trained_on}" if tokenizer.trained_on else ""}.

```python
import zoo

tok = zoo.load({address})
tokens = tok.encode("{_EXAMPLES[modality]}")
signal = tok.decode(tokens)
```

## Tokens

{facts(tokenizer)}

## Settings

```json
{json.dumps(configs.to_dict(tokenizer.config), indent=2)}
```

## Limits

No figures were measured for this checkpoint. `zoo eval` measures a folder of yours on a suite of the library.
"""


def write_card(tokenizer: Tokenizer, folder: Path, repo_id: str | None = None) -> Path:
    """Write `card_for(tokenizer)` to `folder/README.md`, unless there is one already; return its path."""
    path = folder / "README.md"
    if not path.exists():
        path.write_text(card_for(tokenizer, repo_id), encoding="utf-8")
    return path


def facts(tokenizer: Tokenizer) -> str:
    """Return what a token model needs to know, as a Markdown table."""
    spec = tokenizer.spec
    rows = {
        "codebook": f"{spec.num_codebooks} × {spec.codebook_size} ids, {spec.bits_per_token:g} bits a token",
        "input": "any size" if spec.input_size is None else " × ".join(map(str, spec.input_size)),
        "tokens for it": "depends on the content" if spec.num_tokens is None else str(spec.num_tokens),
        "sample rate": "–" if spec.sample_rate is None else f"{spec.sample_rate:g} Hz",
        "token rate": "–" if spec.token_rate is None else f"{spec.token_rate:g} a second",
        "bit rate": "–" if spec.bit_rate is None else f"{spec.bit_rate:g} bit/s",
        "trained parameters": f"{tokenizer.num_parameters:,}",
        "licence of the weights": spec.licence,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def metrics(found: dict[str, Any]) -> str:
    """Return what `zoo test` measured, as a Markdown table.

    Raises:
        ConfigError: The file is of something else.
    """
    if found.get("format") != RESULTS_FORMAT:
        raise ConfigError(f"a card's metrics are what `zoo test --results` wrote, and this is {found.get('format')!r}.")
    lines = ["| | |", "|---|---:|", *(f"| {name} | {value:.4g} |" for name, value in found["metrics"].items())]
    environment = ", ".join(f"{key} {value}" for key, value in found["environment"].items())
    return "\n".join([*lines, "", f"After {found['steps']:,} steps. Machine: {environment}."])


def fill(text: str) -> str:
    """Return a card with its marked blocks filled from what is in the checkout.

    Blocks: `<!-- zoo:facts NAME -->`, `<!-- zoo:settings NAME -->`, `<!-- zoo:results FILE.json -->` of `zoo eval` and
    `<!-- zoo:metrics FILE.json -->` of `zoo test`, each closed by `<!-- zoo:end -->`.

    Raises:
        ConfigError: A block of an unknown kind.
    """
    return _BLOCK.sub(lambda match: match[1] + _content(match["kind"], match["argument"] or "") + "\n" + match[4], text)


def _content(kind: str, argument: str) -> str:
    if kind == "results":
        from zoo.evaluation.report import card_section, read_report

        return card_section(read_report(resources.path("eval", "results", argument)))
    if kind == "metrics":
        return metrics(json.loads(resources.path("eval", "results", argument).read_text(encoding="utf-8")))
    if kind in ("facts", "settings"):
        from zoo.loading import load

        tokenizer = load(argument)
        if kind == "facts":
            return facts(tokenizer)
        settings: dict[str, Any] = configs.to_dict(tokenizer.config)
        return f"```json\n{json.dumps(settings, indent=2)}\n```"
    raise ConfigError(f"a card has a block of the unknown kind {kind!r}; known: facts, settings, results, metrics.")


def main(arguments: list[str] | None = None) -> int:
    """Fill every card, or with `--check` say which would change; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.hub.card", description="Fill the marked blocks of model_cards/."
    )
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    check = parser.parse_args(arguments).check
    stale = 0
    for path in sorted(resources.path("model_cards").glob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        if old == new:
            continue
        stale += 1
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), new.splitlines(True), path.name, "as measured", n=0)
            )
        else:
            path.write_text(new, encoding="utf-8")
            print(f"filled {path.name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
