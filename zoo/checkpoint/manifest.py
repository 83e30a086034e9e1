"""`config.json` of a checkpoint folder: strict JSON, strict keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zoo.errors import CheckpointError, ConfigError, shown

__all__ = ["CONFIG", "FORMAT", "FORMAT_VERSION", "contents", "encode", "is_checkpoint", "read_manifest"]

CONFIG = "config.json"
FORMAT = "tokenizer-zoo"
FORMAT_VERSION = 1

_KEYS = {
    "format": str,
    "format_version": int,
    "library_version": str,
    "family": str,
    "name": str,
    "licence": str,
    "trained_on": str,
    "config": dict,
    "files": dict,
}
_OPTIONAL = {"facts": dict}
_MAX_BYTES = 2**20
# A plain file name: no folder, no leading dot, so that no name can leave the folder.
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(safetensors|json)")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".joblib")


def encode(manifest: dict[str, Any]) -> bytes:
    """Return the manifest as the content of `config.json`.

    Raises:
        ConfigError: It is too large to be read again.
    """
    content = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"a config takes at most {_MAX_BYTES} bytes, this one takes {len(content)}: use an asset.")
    return content


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` has a `config.json` in this library's format (not whether it is intact)."""
    try:
        values = _read_json(folder / CONFIG)
    except CheckpointError:
        return False
    return values.get("format") == FORMAT


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check `config.json` without looking at the weights.

    Raises:
        CheckpointError: It is missing, not JSON, or of another format.
        ConfigError: It has unknown or missing keys, or values of the wrong type.
    """
    where = folder / CONFIG
    manifest = _read_json(where)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f'{where} is not in this library\'s format (its "format" is {shown(manifest.get("format"))}, not '
            f"{FORMAT!r}). For the authors' released files of a system pass family=."
        )
    version = manifest.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has the format version {shown(version)}; this library reads version {FORMAT_VERSION}: update it "
            "(pip install -U tokenizer-zoo)."
        )
    for key in manifest:
        if key not in {**_KEYS, **_OPTIONAL}:
            raise ConfigError(f"{where} has the unknown key {shown(key)}; known: {', '.join(_KEYS)}.")
    for key, kind in {**_KEYS, **_OPTIONAL}.items():
        if key in _OPTIONAL and key not in manifest:
            continue
        if key not in manifest:
            raise ConfigError(f"{where} lacks the key {key!r}.")
        if type(manifest[key]) is not kind:
            raise ConfigError(f"{where}: {key} must be {kind.__name__}, got {shown(manifest[key])}.")
    for name, facts in manifest["files"].items():
        if not _SAFE_NAME.fullmatch(name) or name == CONFIG:
            raise ConfigError(
                f"{where} lists the file {shown(name)}: only plain names ending in .safetensors or .json are read, "
                "no folders and no pickles."
            )
        if not (
            isinstance(facts, dict)
            and set(facts) == {"size", "sha256"}
            and type(facts["size"]) is int
            and isinstance(facts["sha256"], str)
        ):
            raise ConfigError(f'{where}: files[{name!r}] must be {{"size": int, "sha256": str}}, got {shown(facts)}.')
    return manifest


def contents(folder: Path, most: int = 12) -> str:
    """Return the names in a folder, for messages."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"what cannot be listed ({error})"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise CheckpointError(_absence(path))
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    if len(content) > _MAX_BYTES:
        raise CheckpointError(f"{path} has more than {_MAX_BYTES} bytes, which no config takes.")
    try:
        values = json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}. Download or copy it again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(values).__name__}.")
    return values


def _absence(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{folder} is not a folder."
    if path.exists():
        return f"{path} is not a file, so {folder} is not a checkpoint folder."
    pickles = [entry.name for entry in sorted(folder.iterdir()) if entry.name.lower().endswith(_PICKLES)]
    remedy = (
        f"It has {', '.join(pickles[:8])}: pickles, which are not read because unpickling can execute code. Convert "
        "them to safetensors."
        if pickles
        else f"It has {contents(folder)}."
    )
    return f"{folder} has no {path.name}, so it is not a checkpoint folder. {remedy}"


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {shown(key)} is there twice")
        values[key] = value
    return values
