"""Filling the cards in `model_cards/` with what was measured.

python -m zoo.cli.cards            # fills the blocks between `<!-- zoo:… -->` markers
python -m zoo.cli.cards --check    # says which would change
"""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any

from zoo import registry, resources
from zoo.errors import ConfigError
from zoo.evaluation.report import card_section, read_report
from zoo.hub.card import RESULTS_FORMAT, facts, settings
from zoo.hub.card_text import BLOCK
from zoo.hub.curves import curves_table, read_curves
from zoo.loading import load, load_generator
from zoo.strict import read_json

__all__ = ["fill", "main", "metrics"]


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

    Blocks: `<!-- zoo:facts NAME -->`, `<!-- zoo:settings NAME -->`, `<!-- zoo:results FILE.json -->` of `zoo eval`,
    `<!-- zoo:metrics FILE.json -->` of `zoo test` and `<!-- zoo:curves FILE.json -->` of `zoo export`, each closed by
    `<!-- zoo:end -->`.

    Raises:
        ConfigError: A block of an unknown kind, or of a model that would have to be downloaded.
        UnknownNameError: A block of a model that there is not.
    """
    return BLOCK.sub(lambda match: match[1] + _content(match["kind"], match["argument"] or "") + "\n" + match[4], text)


def _content(kind: str, argument: str) -> str:
    if kind == "results":
        return card_section(read_report(resources.path("eval", "results", argument)))
    if kind == "metrics":
        return metrics(read_json(resources.path("eval", "results", argument)))
    if kind == "curves":
        return curves_table(read_curves(resources.path("eval", "results", argument)))
    if kind in ("facts", "settings"):
        is_generator = argument in registry.list_generators()
        if not (registry.generator if is_generator else registry.model)(argument).is_shipped:
            raise ConfigError(
                f"a card has {kind} of {argument}, which would be downloaded: only those that ship have cards."
            )
        found = load_generator(argument) if is_generator else load(argument)
        return facts(found) if kind == "facts" else settings(found)
    raise ConfigError(
        f"a card has a block of the unknown kind {kind!r}; known: facts, settings, results, metrics, curves."
    )


def main(arguments: list[str] | None = None) -> int:
    """Fill every card, or with `--check` say which would change; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.cli.cards", description="Fill the marked blocks of model_cards/."
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
