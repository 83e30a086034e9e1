"""The checkpoint folder: `config.json`, `model.safetensors`, and a family's few asset files. Read strictly.

`config.json` names a family and holds plain values; it never names an import path. It lists size and SHA-256 of every
other file, so that a damaged copy is found whichever way it came. Weights are safetensors, never pickle; a missing, an
unexpected, a wrongly shaped and a non-finite tensor are all errors, and nothing is returned half-loaded.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from zoo import _weights, registry
from zoo import config as configs
from zoo._manifest import CONFIG, FORMAT, FORMAT_VERSION, encode, is_checkpoint, read_manifest
from zoo.errors import CheckpointError, ConfigError, ZooError
from zoo.tokenizer import Tokenizer

__all__ = ["CONFIG", "FORMAT", "WEIGHTS", "is_checkpoint", "load", "read_manifest", "save"]

WEIGHTS = "model.safetensors"

_STAGING = ".saving-"
# Tables that a constructor computes are not in the file, so nothing else bounds what a config can make them take.
_MAX_DERIVED_BYTES = 2**30


def save(
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    trained_on: str | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a tokenizer as a checkpoint folder, all of it or nothing.

    A process that is killed while it overwrites leaves the old checkpoint, the new one, or, if the kill falls between
    the last two renames, a folder that `load` refuses; never a mixture that loads.

    Args:
        tokenizer: What to save.
        folder: Where to; created if it does not exist.
        name: `family.variant`; the tokenizer's own name if None.
        licence: SPDX identifier of the weights' licence; that of `tokenizer.spec` if None.
        trained_on: What the weights were made from, for people.
        dtype: Dtype to round trained float32 weights to, such as `torch.float16`, for a file half as large; they are
            loaded as float32 again, and ids may differ a little from those of the weights before rounding. None keeps
            what they are. Statistics and tables are never rounded.
        overwrite: Replace a checkpoint that is there. Other files in the folder, such as a card, are kept.

    Returns:
        The folder.

    Raises:
        CheckpointError: The folder already has such files and `overwrite` is not set, or it cannot be written, or the
            weights could not be loaded again: NaN, or another shape or dtype than the config says.
        ConfigError: The config has values that do not survive JSON, or the name is not one of the family.
        NotFittedError: The tokenizer is not usable yet.
    """
    from zoo import __version__

    tokenizer.require_ready()
    cls = type(tokenizer)
    assets = tokenizer.assets()
    tensors = _weights.collect(tokenizer)
    if dtype is not None:
        _round(tensors, {name for name, _ in tokenizer.named_parameters()}, dtype)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "family": cls.family,
        "name": tokenizer.name if name is None else name,
        "licence": tokenizer.spec.licence if licence is None else licence,
        "trained_on": tokenizer.trained_on if trained_on is None else trained_on,
        "config": configs.to_dict(tokenizer.config),
        "files": {},
    }
    # What load would refuse is not written.
    _require_name(manifest["name"], cls.family, "save")
    if set(assets) != set(cls.asset_names):
        raise ConfigError(f"{cls.__name__}.assets() gives {sorted(assets)}, asset_names says {list(cls.asset_names)}.")
    expected = _expected(cls, manifest, assets, "save")
    _weights.require_fit(expected, _weights.kinds(tensors), f"this {tokenizer.name} tokenizer")
    try:
        folder = Path(folder).expanduser()
        there = [file for file in (CONFIG, WEIGHTS, *assets) if os.path.lexists(folder / file)]
        if there and not overwrite:
            raise CheckpointError(
                f"{folder} already holds a checkpoint ({', '.join(there)}): choose another folder, or pass "
                "overwrite=True."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_STAGING) as scratch:
            staged = Path(scratch)
            save_file(tensors, staged / WEIGHTS, metadata={"format": "pt"})
            for asset, content in assets.items():
                (staged / asset).write_bytes(content)
            manifest["files"] = {path.name: _facts(path) for path in sorted(staged.iterdir())}
            (staged / CONFIG).write_bytes(encode(manifest))
            # safetensors makes files that only their owner can read; a checkpoint is as public as its folder.
            shutil.copymode(staged / CONFIG, staged / WEIGHTS)
            read_manifest(staged)
            # The config goes last: until it is in place the digests do not match and the folder does not load.
            for path in sorted(staged.iterdir(), key=lambda path: path.name == CONFIG):
                path.replace(folder / path.name)
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ZooError):
            raise
        raise CheckpointError(f"cannot write a checkpoint to {folder}: {error}.") from error
    return folder


def load(cls: type[Tokenizer], folder: Path) -> Tokenizer:
    """Load a checkpoint folder as the family `cls`, on the CPU.

    Raises:
        CheckpointError: A file is missing, damaged, of another family, or does not fit the config.
        ConfigError: The config has unknown keys or unusable values.
    """
    manifest = read_manifest(folder)
    where = f"{folder / CONFIG}"
    if manifest["family"] != cls.family:
        raise CheckpointError(f"{folder} holds a {manifest['family']} checkpoint, not one of {cls.family}.")
    _require_name(manifest["name"], cls.family, where)
    files = manifest["files"]
    expected = {WEIGHTS, *cls.asset_names}
    if set(files) != expected:
        raise CheckpointError(
            f"{where} lists the files {', '.join(sorted(files)) or 'none'}; a {cls.family} checkpoint has "
            f"{', '.join(sorted(expected))}."
        )
    try:
        assets = {name: _read(folder / name, files[name]) for name in cls.asset_names}
        weights = folder / WEIGHTS
        before = _stamp(weights, files[WEIGHTS])
        _verify(weights, files[WEIGHTS], _digest(weights))
        with _fresh(torch.device("cpu")), _weights.opened(weights) as file:
            _require_same(weights, files[WEIGHTS], before)  # so what was verified is what is open
            # Shapes come first, without data: a config that asks for terabytes is refused before any allocation.
            _weights.require_fit(_expected(cls, manifest, assets, where), _weights.header(file), f"{weights}")
            tokenizer = _build(cls, manifest, assets, where)
            tokenizer.load_state_dict(_weights.read(file), strict=True)
            _require_same(weights, files[WEIGHTS], before)
    except OSError as error:
        if isinstance(error, ZooError):
            raise
        raise CheckpointError(f"{folder} cannot be read: {error}.") from error
    _weights.require_finite(tokenizer.state_dict(), f"{weights}")
    tokenizer.name = manifest["name"]
    tokenizer.spec = replace(tokenizer.spec, licence=manifest["licence"])
    tokenizer.trained_on = manifest["trained_on"]
    tokenizer.source = str(folder)
    return tokenizer.eval()


def _round(tensors: dict[str, Tensor], names: set[str], dtype: torch.dtype) -> None:
    """Round the float32 tensors among `names` to a smaller dtype."""
    if dtype not in (torch.float16, torch.bfloat16):
        raise ConfigError(f"weights are rounded to torch.float16 or torch.bfloat16, not to {dtype}.")
    for name in names & tensors.keys():
        if tensors[name].dtype == torch.float32:
            tensors[name] = tensors[name].to(dtype)
    _weights.require_finite(tensors, f"what {dtype} can hold of these weights")


def _require_name(name: str, family: str, where: str) -> None:
    if not re.fullmatch(rf"{re.escape(family)}(\.{registry.VARIANT})?", name):
        raise ConfigError(f"{where}: a name is {family}.variant, such as {family}.nano, got {name!r:.80}.")


def _expected(
    cls: type[Tokenizer], manifest: Mapping[str, Any], assets: Mapping[str, bytes], where: str
) -> _weights.Kinds:
    """Return shape and dtype of every tensor that a checkpoint of this config has, allocating none."""
    with _fresh(torch.device("meta")):
        skeleton = _build(cls, manifest, assets, where)
    tensors: dict[str, Tensor] = skeleton.state_dict()
    derived = sum(buffer.nbytes for name, buffer in skeleton.named_buffers() if name not in tensors)
    if derived > _MAX_DERIVED_BYTES:
        raise ConfigError(
            f"{where}: its config asks for tables of {derived:.1e} bytes beside the weights; at most "
            f"{_MAX_DERIVED_BYTES} are plausible."
        )
    return _weights.kinds(tensors)


def _build(cls: type[Tokenizer], manifest: Mapping[str, Any], assets: Mapping[str, bytes], where: str) -> Tokenizer:
    config = manifest["config"]
    try:
        return cls.from_config(config, assets) if cls.asset_names else cls.from_config(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ZooError:
        raise
    except Exception as error:  # values and assets of a stranger, in whatever code of the family they break
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{where}: no {cls.family} tokenizer can be built from its config ({type(error).__name__}: {reason:.200})."
        ) from error


@contextmanager
def _fresh(device: torch.device) -> Iterator[None]:
    """Build modules as in a fresh process: the caller's default dtype and device must not change the weights' own.

    The caller's random numbers are left alone as well, although constructors draw initial weights.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), device:
            yield
    finally:
        torch.set_default_dtype(dtype)


def _facts(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path, facts: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return what changes when a file is replaced or rewritten, after comparing its size."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the checkpoint is incomplete. Download or copy it again.")
    status = path.stat()
    if status.st_size != facts["size"]:
        kind = "truncated" if status.st_size < facts["size"] else "larger than it should be"
        raise CheckpointError(
            f"{path} is {kind}: {status.st_size} bytes instead of the {facts['size']} that {CONFIG} states. "
            f"{_remedy(path)}"
        )
    return status.st_ino, status.st_size, status.st_mtime_ns


def _require_same(path: Path, facts: Mapping[str, Any], before: tuple[int, int, int]) -> None:
    if _stamp(path, facts) != before:
        raise CheckpointError(f"{path} was replaced while it was being read: load it again.")


def _verify(path: Path, facts: Mapping[str, Any], digest: str) -> None:
    if digest != facts["sha256"]:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one that {CONFIG} states. {_remedy(path)}")


def _read(path: Path, facts: Mapping[str, Any]) -> bytes:
    _stamp(path, facts)
    content = path.read_bytes()
    _verify(path, facts, hashlib.sha256(content).hexdigest())
    return content


def _remedy(path: Path) -> str:
    if any(path.parent.glob(f"{_STAGING}*")):
        return "A save into this folder was interrupted, or is still running: save it again."
    return "Delete it, and download or copy it again."
