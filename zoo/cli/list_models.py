"""`zoo list`: the models that can be loaded by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.cli._output import number, print_json, print_table
from zoo.cli._parser import Parser

__all__ = ["list_models", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "list",
        "",
        "Show the models that can be loaded by name. A bare family name, such as `beast`,\n"
        "means its default model, which is marked with *.",
        """
        zoo list
        zoo list --modality action
        zoo list --json
        """,
    )
    parser.add_argument("--modality", metavar="NAME", help="only those for speech, image, video or action")
    parser.add_argument("--family", metavar="NAME", help="only those of one family")
    parser.add_json()
    list_models(**parser.values(arguments))


def list_models(modality: str | None, family: str | None, json: bool) -> None:
    """Print all models, or those of a modality and a family."""
    from zoo import registry

    entries: list[dict[str, Any]] = [registry.info(name) for name in registry.list_models(modality, family)]
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
            entry["licence"],
            "included" if entry["is_shipped"] else "download",
            entry["description"],
        )
        for entry in entries
    ]
    print_table(("name", "modality", "parameters", "licence", "weights", "description"), rows, numeric=["parameters"])
