"""The checkpoint folder: `config.json`, `model.safetensors`, and a family's few asset files. Read strictly.

`config.json` names a family and holds plain values; it never names an import path. It lists size and SHA-256 of every
other file, so that a damaged copy is found whichever way it came. Weights are safetensors, never pickle; a missing, an
unexpected, a wrongly shaped and a non-finite tensor are all errors, and nothing is returned half-loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zoo import config as configs
from zoo.errors import CheckpointError, ConfigError
from zoo.tokenizer import Tokenizer

__all__ = ["CONFIG", "FORMAT", "WEIGHTS", "is_checkpoint", "load", "read_manifest", "save"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FORMAT = "tokenizer-zoo"
FORMAT_VERSION = 1

_MANIFEST_KEYS = {
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
_MAX_CONFIG_BYTES = 2**20
# A plain file name: no folder, no leading dot, so that no name can leave the folder.
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(safetensors|json)")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".joblib")


def save(
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    trained_on: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a tokenizer as a checkpoint folder, all of it or nothing.

    Args:
        tokenizer: What to save. Its weights are written in the dtype they have.
        folder: Where to; created if it does not exist.
        name: `family.variant`; the tokenizer's own name if None.
        licence: SPDX identifier of the weights' licence; that of `tokenizer.spec` if None.
        trained_on: What the weights were made from, for people.
        overwrite: Replace a checkpoint that is there. Other files in the folder, such as a card, are kept.

    Raises:
        CheckpointError: The folder already has a checkpoint and `overwrite` is not set, or cannot be written.
        NotFittedError: The tokenizer is not usable yet.
    """
    from zoo import __version__

    tokenizer.require_ready()
    folder = Path(folder)
    if (folder / CONFIG).exists() and not overwrite:
        raise CheckpointError(f"{folder} already holds a checkpoint: choose another folder, or pass overwrite=True.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
            staged = Path(scratch)
            tensors = {key: value.detach().cpu().contiguous() for key, value in tokenizer.state_dict().items()}
            save_file(tensors, staged / WEIGHTS, metadata={"format": "pt"})
            for asset, content in tokenizer.assets().items():
                (staged / asset).write_bytes(content)
            manifest = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "library_version": __version__,
                "family": tokenizer.family,
                "name": name or tokenizer.name,
                "licence": licence or tokenizer.spec.licence,
                "trained_on": tokenizer.trained_on if trained_on is None else trained_on,
                "config": configs.to_dict(tokenizer.config),
                "files": {
                    path.name: {"size": path.stat().st_size, "sha256": _digest(path)}
                    for path in sorted(staged.iterdir())
                },
            }
            (staged / CONFIG).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            # The config goes last: until it is in place the digests do not match and the folder does not load.
            for path in sorted(staged.iterdir(), key=lambda path: path.name == CONFIG):
                shutil.move(path, folder / path.name)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"cannot write a checkpoint to {folder}: {error}.") from error
    return folder


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
    manifest = _read_json(folder / CONFIG)
    where = folder / CONFIG
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f'{where} is not in this library\'s format (its "format" is {manifest.get("format")!r}, not {FORMAT!r}). '
            "For the authors' released files of a system pass family=."
        )
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has the format version {version!r}; this library reads version {FORMAT_VERSION}: update it "
            "(pip install -U tokenizer-zoo)."
        )
    for key in manifest:
        if key not in _MANIFEST_KEYS:
            raise ConfigError(f"{where} has the unknown key {key!r}; known: {', '.join(_MANIFEST_KEYS)}.")
    for key, kind in _MANIFEST_KEYS.items():
        if type(manifest.get(key)) is not kind:
            raise ConfigError(f"{where}: {key} must be {kind.__name__}, got {manifest.get(key)!r:.80}.")
    for name, facts in manifest["files"].items():
        if not _SAFE_NAME.fullmatch(name) or name == CONFIG:
            raise ConfigError(
                f"{where} lists the file {name!r}: only plain names ending in .safetensors or .json are read, "
                "no folders and no pickles."
            )
        if not (
            isinstance(facts, dict)
            and set(facts) == {"size", "sha256"}
            and type(facts["size"]) is int
            and isinstance(facts["sha256"], str)
        ):
            raise ConfigError(f'{where}: files[{name!r}] must be {{"size": int, "sha256": str}}, got {facts!r:.80}.')
    return manifest


def load(cls: type[Tokenizer], folder: Path) -> Tokenizer:
    """Load a checkpoint folder as the family `cls`, on the CPU.

    Raises:
        CheckpointError: A file is missing, damaged, of another family, or does not fit the config.
        ConfigError: The config has unknown keys or unusable values.
    """
    manifest = read_manifest(folder)
    if manifest["family"] != cls.family:
        raise CheckpointError(f"{folder} holds a {manifest['family']} checkpoint, not one of {cls.family}.")
    files = manifest["files"]
    expected = {WEIGHTS, *cls.asset_names}
    if set(files) != expected:
        raise CheckpointError(
            f"{folder / CONFIG} lists the files {', '.join(sorted(files)) or 'none'}; a {cls.family} checkpoint has "
            f"{', '.join(sorted(expected))}."
        )
    for name, facts in files.items():
        _verify(folder / name, facts["size"], facts["sha256"])
    assets = {name: (folder / name).read_bytes() for name in cls.asset_names}
    weights = folder / WEIGHTS
    # Shapes are compared on the meta device first: a config that asks for terabytes is refused before any allocation.
    with torch.device("meta"):
        shapes = {key: (value.shape, value.dtype) for key, value in _build(cls, manifest, assets).state_dict().items()}
    _compare(weights, shapes)
    tokenizer = _build(cls, manifest, assets)
    tokenizer.load_state_dict(_read_tensors(weights), strict=True)
    tokenizer.name = manifest["name"]
    tokenizer.spec = replace(tokenizer.spec, licence=manifest["licence"])
    tokenizer.trained_on = manifest["trained_on"]
    tokenizer.source = str(folder)
    return tokenizer.eval()


def _build(cls: type[Tokenizer], manifest: Mapping[str, Any], assets: Mapping[str, bytes]) -> Tokenizer:
    return cls.from_config(manifest["config"], assets) if cls.asset_names else cls.from_config(manifest["config"])


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        there = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else None
        if there is None:
            raise CheckpointError(f"{path.parent} is not a folder.")
        pickles = [name for name in there if name.endswith(_PICKLES)]
        remedy = (
            f"It has {', '.join(pickles)}, which are not read because unpickling can execute code: convert them to "
            "safetensors."
            if pickles
            else f"It has {', '.join(there) or 'nothing'}."
        )
        raise CheckpointError(f"{path.parent} has no {path.name}, so it is not a checkpoint folder. {remedy}")
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size} bytes; a config has at most {_MAX_CONFIG_BYTES}.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(values).__name__}.")
    return values


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, size: int, digest: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the checkpoint is incomplete. Download or copy it again.")
    actual = path.stat().st_size
    if actual != size:
        kind = "truncated" if actual < size else "larger than it should be"
        raise CheckpointError(
            f"{path} is {kind}: {actual} bytes instead of the {size} that {CONFIG} states. Download or copy it again."
        )
    if _digest(path) != digest:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one that {CONFIG} states. Delete it, and download or copy it "
            "again."
        )


def _compare(path: Path, shapes: Mapping[str, tuple[torch.Size, torch.dtype]]) -> None:
    """Compare the header of a safetensors file with what the model expects."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            found = {key: tuple(part.get_shape()) for key, part in slices.items()}
            floats = {key: part.get_dtype().startswith(("F", "BF")) for key, part in slices.items()}
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}). Pickled weights are not read, whatever their name."
        ) from error
    complaints = [f"{key} is missing" for key in shapes if key not in found]
    complaints += [f"{key} is unexpected" for key in found if key not in shapes]
    complaints += [
        f"{key} has the shape {found[key]} instead of {tuple(shape)}"
        for key, (shape, _) in shapes.items()
        if key in found and found[key] != tuple(shape)
    ]
    complaints += [
        f"{key} holds {'floating' if floats[key] else 'integer'} values, {dtype} was expected"
        for key, (_, dtype) in shapes.items()
        if key in found and floats[key] != dtype.is_floating_point
    ]
    if complaints:
        shown = "; ".join(complaints[:8]) + (f"; and {len(complaints) - 8} more" if len(complaints) > 8 else "")
        raise CheckpointError(f"the tensors of {path} do not fit its config: {shown}.")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    broken = [key for key, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path} has NaN or infinite values in {', '.join(broken)}: the weights are unusable.")
    return tensors
