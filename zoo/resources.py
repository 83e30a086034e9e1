"""Where the data that ships with the library lies: in the checkout, or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import CheckpointError

__all__ = ["path"]

_PACKAGE = Path(__file__).resolve().parent


def path(*parts: str) -> Path:
    """Return the path of a shipped file or folder, such as `path("checkpoints", "registry.yaml")`.

    Raises:
        CheckpointError: The library was installed without its data.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        found = root.joinpath(*parts)
        if found.exists():
            return found
    raise CheckpointError(
        f"{'/'.join(parts)} does not exist in this installation of tokenizer-zoo: reinstall it "
        "(pip install --force-reinstall tokenizer-zoo), or install the checkout with pip install -e ."
    )
