"""`zoo list`: the models that can be loaded by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.cli._output import count, note, number, print_json, print_table
from zoo.cli._parser import Parser
from zoo.errors import ConfigError

__all__ = ["list_models", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "list",
        "[PATTERN]",
        "Show the models that can be loaded by name: those that are included, and those that\n"
        "others have published and loading downloads. A bare family name, such as `beast`,\n"
        "means its default model, which is marked with *. `zoo info` says what a restricted\n"
        "licence does not allow.",
        """
        zoo list
        zoo list 'stabletoken.*'
        zoo list --modality action
        zoo list --json
        zoo list --generators
        """,
    )
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs="?",
        default="*",
        help="only names that look like it, such as 'beast*', or those of a family",
    )
    parser.add_argument("--modality", metavar="NAME", help="only those for speech, image, video or action")
    parser.add_argument("--family", metavar="NAME", help="only those of one family")
    parser.add_argument(
        "--generators", action="store_true", help="instead those that draw new tokens, for `zoo generate`"
    )
    parser.add_json()
    list_models(**parser.values(arguments))


def list_models(pattern: str, modality: str | None, family: str | None, generators: bool, json: bool) -> None:
    """Print all models, or those of a pattern, a modality and a family, or the generators."""
    from zoo import registry

    if generators and (pattern != "*" or modality or family):
        raise ConfigError("--generators lists all of them: leave the pattern, --modality and --family out.")
    names = (
        registry.list_generators() if generators else registry.list_models(pattern, modality=modality, family=family)
    )
    entries: list[dict[str, Any]] = [registry.info(name) for name in names]
    if json:
        print_json(entries)
        return
    if not entries:
        print("There are no such models.")
        return
    rows = [
        (
            entry["name"] + "*" * entry["is_default"],
            entry["modality"],
            number(entry["num_parameters"]),
            entry["licence"] + " (restricted)" * bool(entry["restriction"]),
            "included" if entry["is_shipped"] else "download",
            entry["description"],
        )
        for entry in entries
    ]
    if not generators and pattern == "*":
        note(f"{count(len(registry.list_generators()), 'generator')} over their tokens: `zoo list --generators`.")
    print_table(("name", "modality", "parameters", "licence", "weights", "description"), rows, numeric=["parameters"])
