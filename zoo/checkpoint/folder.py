"""The checkpoint folder: `config.json`, `model.safetensors`, and a family's few other files. Read strictly.

`config.json` names a family and holds plain values; it never names an import path. It lists size and SHA-256 of every
other file, so that a damaged copy is found whichever way it came. Weights are safetensors, never pickle; a missing, an
unexpected, a wrongly shaped and a non-finite tensor are all errors, and nothing is returned half-loaded.

What training needs beside the tokenizer, to go on from a model (`zoo.training`), may be in `training.safetensors`,
which `load` does not look at.

The decoder's weights of a family with `Tokenizer.decoder_file` are in `decoder.safetensors`, and encoding does
without them. Checkpoints that have them in `model.safetensors` are read as well.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from zoo import config as configs
from zoo import registry
from zoo.checkpoint import building as _building
from zoo.checkpoint import weights as _weights
from zoo.checkpoint.atomic import STAGING, staging
from zoo.checkpoint.manifest import CONFIG, FORMAT, FORMAT_VERSION, encode, is_checkpoint, read_manifest
from zoo.errors import CheckpointError, ConfigError, ZooError
from zoo.process.fresh import fresh
from zoo.stored import Stored
from zoo.strict import expanded
from zoo.tokenizer import Tokenizer

__all__ = ["CONFIG", "FORMAT", "TRAINING", "WEIGHTS", "is_checkpoint", "load", "read_manifest", "read_training", "save"]

WEIGHTS = "model.safetensors"
DECODER = "decoder.safetensors"
TRAINING = "training.safetensors"

_DECODER = "decoder."  # what names of its tensors begin with

T = TypeVar("T")


def save(
    tokenizer: Stored,
    folder: str | Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    trained_on: str | None = None,
    dtype: torch.dtype | None = None,
    training: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a tokenizer, or a generator over ids, as a checkpoint folder, all of it or nothing.

    A process that is killed while it overwrites leaves the old checkpoint, the new one, or, if the kill falls between
    the last renames, a folder that `load` refuses; never a mixture that loads.

    Args:
        tokenizer: What to save.
        folder: Where to; created if it does not exist.
        name: `family.variant`; the tokenizer's own name if None.
        licence: SPDX identifier of the weights' licence; that of `tokenizer.spec` if None.
        trained_on: What the weights were made from, for people.
        dtype: Dtype to round trained float32 weights to, such as `torch.float16`, for a file half as large; they are
            loaded as float32 again, and ids may differ a little from those of the weights before rounding. None keeps
            what they are. Statistics and tables are never rounded.
        training: What training needs to go on from it, beside the tokenizer; in a file of its own.
        overwrite: Replace a checkpoint that is there. Other files in the folder, such as a card, are kept.

    Returns:
        The folder.

    Raises:
        CheckpointError: The folder already has such files and `overwrite` is not set, or it cannot be written, or the
            weights could not be loaded again: NaN, or another shape or dtype than the config says.
        ConfigError: The config has values that do not survive JSON, the name is not one of the family, or fast mode has
            rounded the weights.
        NotFittedError: The tokenizer is not usable yet.
    """
    from zoo import __version__

    tokenizer.require_ready()
    tokenizer.require_decoder("be saved")
    _require_unrounded(tokenizer)
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
    if tokenizer.facts:
        manifest["facts"] = tokenizer.facts
    # What load would refuse is not written.
    _require_name(manifest["name"], cls, "save")
    if set(assets) != set(cls.asset_names):
        raise ConfigError(f"{cls.__name__}.assets() gives {sorted(assets)}, asset_names says {list(cls.asset_names)}.")
    expected = _expected(cls, manifest, assets, "save")
    _weights.require_fit(expected, _weights.kinds(tensors), f"this {tokenizer.name} tokenizer")
    weights = _by_file(tensors, cls.decoder_file)
    if training:
        weights[TRAINING] = _weights.owned(training, "what training needs")
        if dtype is not None:
            _round(weights[TRAINING], set(training), dtype)
    try:
        folder = expanded(folder, CheckpointError)
        there = [file for file in (CONFIG, *weights, *assets) if os.path.lexists(folder / file)]
        if there and not overwrite:
            raise CheckpointError(
                f"{folder} already holds a checkpoint ({', '.join(there)}): choose another folder, or pass "
                "overwrite=True."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with staging(folder) as staged:
            for file, its_tensors in weights.items():
                save_file(its_tensors, staged / file, metadata={"format": "pt"})
            for asset, content in assets.items():
                (staged / asset).write_bytes(content)
            manifest["files"] = {path.name: _facts(path) for path in sorted(staged.iterdir())}
            (staged / CONFIG).write_bytes(encode(manifest))
            # safetensors makes files that only their owner can read; a checkpoint is as public as its folder.
            for file in weights:
                shutil.copymode(staged / CONFIG, staged / file)
            read_manifest(staged)
            leftovers = _weights_of(folder) - set(weights)
            # The config goes last: until it is in place the digests do not match and the folder does not load. What
            # `load` reads at once goes first, so that it is `load` that sees it.
            for path in sorted(staged.iterdir(), key=lambda path: (path.name == CONFIG, path.name != WEIGHTS)):
                path.replace(folder / path.name)
            for name in leftovers:
                (folder / name).unlink(missing_ok=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ZooError):
            raise
        raise CheckpointError(f"cannot write a checkpoint to {folder}: {error}.") from error
    return folder


def load(cls: type[Tokenizer], folder: Path, *, decoder: bool = True) -> Tokenizer:
    """Load a checkpoint folder as the family `cls`, on the CPU.

    Args:
        cls: The family.
        folder: The checkpoint.
        decoder: False to do without the decoder, where the family has a file for it, which is not looked at then.

    Raises:
        CheckpointError: A file is missing, damaged, of another family, or does not fit the config.
        ConfigError: The config has unknown keys or unusable values.
    """
    manifest = read_manifest(folder)
    where = f"{folder / CONFIG}"
    if manifest["family"] != cls.family:
        raise CheckpointError(f"{folder} holds a {manifest['family']} checkpoint, not one of {cls.family}.")
    _require_name(manifest["name"], cls, where)
    files = manifest["files"]
    is_apart = cls.decoder_file and DECODER in files
    known = {WEIGHTS, *cls.asset_names, *([DECODER] if is_apart else []), *({TRAINING} & set(files))}
    if set(files) != known:
        raise CheckpointError(
            f"{where} lists the files {', '.join(sorted(files)) or 'none'}; a {cls.family} checkpoint has "
            f"{', '.join(sorted(known))}."
        )
    decoder = decoder or not cls.decoder_file
    try:
        assets = {name: _read(folder / name, files[name]) for name in cls.asset_names}
        with fresh():
            # Shapes come first, without data: a config that asks for terabytes is refused before any allocation.
            expected = _by_file(_expected(cls, manifest, assets, where, decoder), is_apart)
            if is_apart and decoder and DECODER not in expected:
                raise CheckpointError(f"{where} lists {DECODER}, and a tokenizer of its config has no decoder.")
            tensors: dict[str, Tensor] = {}
            for name, kinds in expected.items():
                prefix = _DECODER if name == DECODER else ""
                tensors |= {prefix + key: value for key, value in _tensors(folder / name, files[name], kinds, decoder)}
            tokenizer: Tokenizer = _build(cls, manifest, assets, where, decoder)
            tokenizer.load_state_dict(tensors, strict=True)
    except OSError as error:
        if isinstance(error, ZooError):
            raise
        raise CheckpointError(f"{folder} cannot be read: {error}.") from error
    tokenizer.name = manifest["name"]
    tokenizer.spec = replace(tokenizer.spec, licence=manifest["licence"])
    tokenizer.trained_on = manifest["trained_on"]
    tokenizer.facts = manifest.get("facts", {})
    tokenizer.source = str(folder)
    return tokenizer.eval()


def read_training(folder: Path) -> dict[str, Tensor]:
    """Return what a checkpoint has for training beside the tokenizer, floats as float32; empty if there is nothing.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    files = read_manifest(folder)["files"]
    if TRAINING not in files:
        return {}
    with _verified(folder / TRAINING, files[TRAINING]) as file:
        tensors = _weights.read(file)
    _weights.require_finite(tensors, f"{folder / TRAINING}")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _tensors(
    path: Path, facts: Mapping[str, Any], expected: _weights.Kinds, decoder: bool
) -> Iterable[tuple[str, Tensor]]:
    """Return the tensors of a file that has exactly the expected ones, those of a decoder that is not wanted aside."""
    with _verified(path, facts) as file:
        found = _weights.header(file)
        if not decoder:
            found = {name: kind for name, kind in found.items() if not name.startswith(_DECODER)}
        _weights.require_fit(expected, found, f"{path}")
        tensors = _weights.read(file, found)
    _weights.require_finite(tensors, f"{path}")
    return tensors.items()


def _round(tensors: dict[str, Tensor], names: set[str], dtype: torch.dtype) -> None:
    """Round the float32 tensors among `names` to a smaller dtype."""
    if dtype not in (torch.float16, torch.bfloat16):
        raise ConfigError(f"weights are rounded to torch.float16 or torch.bfloat16, not to {dtype}.")
    for name in names & tensors.keys():
        if tensors[name].dtype == torch.float32:
            tensors[name] = tensors[name].to(dtype)
    _weights.require_finite(tensors, f"what {dtype} can hold of these weights")


def _require_unrounded(tokenizer: Stored) -> None:
    """Raise `ConfigError` if a checkpoint would hold what fast mode has left of the weights."""
    if tokenizer.fast_dtype not in (None, *tokenizer.float_dtypes):
        raise ConfigError(
            f"{tokenizer.name} has weights converted to {tokenizer.fast_dtype} for fast mode, and a checkpoint of them "
            "would pass for the model: load it again without dtype, and save that; for a smaller file, by "
            "zoo.save(…, dtype=torch.float16)."
        )


def _require_name(name: str, cls: type[Stored], where: str) -> None:
    family = cls.family
    first = re.escape(family) if cls.has_own_names else r"[A-Za-z_]\w*"
    if not re.fullmatch(rf"{first}(\.{registry.VARIANT})?", name, re.ASCII):
        raise ConfigError(f"{where}: a name is {family}.variant, such as {family}.nano, got {name!r:.80}.")


def _by_file(tensors: Mapping[str, T], is_apart: bool) -> dict[str, dict[str, T]]:
    """Return what is of each file; in that of the decoder, if it is apart, names are those within the decoder."""
    files: dict[str, dict[str, T]] = {WEIGHTS: {}}
    for name, tensor in tensors.items():
        if is_apart and name.startswith(_DECODER):
            files.setdefault(DECODER, {})[name.removeprefix(_DECODER)] = tensor
        else:
            files[WEIGHTS][name] = tensor
    return files


def _weights_of(folder: Path) -> set[str]:
    """Return the names of the weights that a checkpoint in `folder` lists, if there is one."""
    try:
        return {name for name in read_manifest(folder)["files"] if name.endswith(".safetensors")}
    except ZooError:
        return set()


def _expected(
    cls: type[Stored], manifest: Mapping[str, Any], assets: Mapping[str, bytes], where: str, decoder: bool = True
) -> _weights.Kinds:
    """Return shape and dtype of every tensor that a checkpoint of this config has."""
    with fresh("meta"):
        skeleton = _build(cls, manifest, assets, where, decoder)
    return _weights.kinds_of(skeleton, where)


def _build(
    cls: type[Stored], manifest: Mapping[str, Any], assets: Mapping[str, bytes], where: str, decoder: bool
) -> Any:
    config = manifest["config"]
    options: dict[str, Any] = {} if decoder else {"decoder": False}
    if cls.asset_names:
        options["assets"] = assets
    return _building.built(lambda: cls.from_config(config, **options), f"{cls.family} tokenizer", where)


@contextmanager
def _verified(path: Path, facts: Mapping[str, Any]) -> Iterator[Any]:
    """Open a file of weights that is what `config.json` states, and stays so while it is open."""
    before = _stamp(path, facts)
    _verify(path, facts, _digest(path))
    with _weights.opened(path) as file:
        _require_same(path, facts, before)  # so what was verified is what is open
        yield file
        _require_same(path, facts, before)


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
    if any(path.parent.glob(f"{STAGING}*")):
        return "A save into this folder was interrupted, or is still running: save it again."
    return "Delete it, and download or copy it again."
