"""Reading what authors have released: which files their layouts have, JSON, YAML, and pickles of nothing but tensors.

A stranger's file is bytes of any kind, so all of this ends in a `CheckpointError` that names the file, and nothing in
one is imported or called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from zoo import strict
from zoo.checkpoint import weights
from zoo.errors import CheckpointError, shown
from zoo.strict.yaml import UntaggedLoader, parse_yaml

__all__ = [
    "fitted",
    "read_fitting",
    "read_json",
    "read_pickle",
    "read_tensors",
    "read_text",
    "read_yaml",
    "renamed",
    "weight_file",
    "weight_files",
]

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MAX_BYTES = 2**26
_MAX_YAML_BYTES = 2**20  # which take a second to parse


def weight_files(folder: Path) -> list[Path]:
    """Return the files of weights that the authors' code reads from a folder, as transformers' layout has them.

    That is `model.safetensors`, or, if there is none, the parts that `model.safetensors.index.json` lists. Other
    safetensors may lie beside them: the same weights in another precision, those of an optimizer, another network's.

    Raises:
        CheckpointError: There is neither, or the index is damaged, leads out of the folder, or lists what is missing.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    index = folder / _INDEX
    if not index.is_file():
        there = sorted(path.name for path in folder.glob("*.safetensors"))
        raise CheckpointError(
            f"{folder} has no {_WEIGHTS} and no {_INDEX}: download it again. "
            + (f"Which of {shown(there)} is meant is not guessed." if there else "Pickled weights are not read.")
        )
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index} must have a weight_map, of tensors to files, got {shown(places)}.")
    for name in places.values():
        # A folder in a name could lead anywhere, also the way that another system writes it.
        if not isinstance(name, str) or PurePosixPath(name).name != name or "\\" in name or ":" in name:
            raise CheckpointError(f"{index} must list names of files beside it, got {shown(name)}.")
        if not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} lists {shown(name)}, and nothing but safetensors is read: convert it.")
    names = sorted(set(places.values()))
    # Compared with what is there, since a name too long to look for would be an error of the system.
    if missing := sorted(set(names) - {path.name for path in folder.iterdir() if path.is_file()}):
        raise CheckpointError(f"{folder} lacks {shown(missing)}, which {index.name} lists: download it again.")
    return [folder / name for name in names]


def weight_file(folder: Path, stem: str) -> Path:
    """Return the file of weights of that stem: safetensors, or else pickled, `.pt`.

    Raises:
        CheckpointError: There is neither.
    """
    for path in (folder / f"{stem}.safetensors", folder / f"{stem}.pt"):
        if path.is_file():
            return path
    raise CheckpointError(f"{folder} has neither {stem}.pt nor {stem}.safetensors: download it again.")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        CheckpointError: It is missing, unreadable, implausibly large, or not a JSON object.
    """
    try:
        return strict.read_json(path, CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Download it again.") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file as plain values.

    Tags of OmegaConf and HyperPyYAML, which build any Python object and call any function, are dropped: `!new:Class`
    with a mapping is that mapping, `!ref <name>` is the text `<name>`. Nothing is imported or called.

    Raises:
        CheckpointError: It is missing, unreadable, implausibly large, not a YAML mapping, or asks for Python objects.
    """
    text = read_text(path, _MAX_YAML_BYTES)
    try:
        return parse_yaml(text, str(path), CheckpointError, UntaggedLoader)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Download it again.") from error


def read_text(path: Path, max_bytes: int = _MAX_BYTES) -> str:
    """Return the text in a file, a configuration or a vocabulary.

    Raises:
        CheckpointError: It is missing, unreadable, implausibly large, or not UTF-8.
    """
    try:
        return strict.read_text(path, CheckpointError, max_bytes)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Download it again.") from error


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a pickled state dict, on the CPU. Of a pickle nothing but tensors is read.

    Raises:
        CheckpointError: It is missing, damaged, or holds anything else.
    """
    try:
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's bytes, in whatever part of the reader they break
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} cannot be read as a dictionary of tensors ({reason:.200}), and nothing else is read, since "
            "unpickling can run code: download it again."
        ) from error
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{path} must hold a dictionary of tensors by name, got {type(tensors).__name__}.")
    plain: dict[str, Tensor] = tensors
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise CheckpointError(
                f"{path} must hold plain tensors by name; at {shown(key)} it has {type(value).__name__}."
            )
    return plain


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file, on the CPU: safetensors, or pickled if its name ends in `.pt`.

    Raises:
        CheckpointError: It is missing, damaged, or holds anything else.
    """
    if path.suffix == ".pt":
        return read_pickle(path)
    with weights.opened(path) as file:
        return weights.read(file)


def read_fitting(
    paths: Sequence[Path],
    expected: Mapping[str, Tensor],
    where: str,
    *,
    name: Callable[[str], str | None] = str,
    wanted: Container[str] | None = None,
) -> dict[str, Tensor]:
    """Return the tensors in some safetensors files, once their names, shapes and dtypes are those expected.

    Args:
        paths: The files.
        expected: Tensors of the shapes and dtypes that all files together must have, perhaps on the meta device.
        where: What is read, for error messages.
        name: What a tensor of a file is called in `expected`; None for one that is left out.
        wanted: Names in `expected` of the tensors whose values are read; all if None.

    Raises:
        CheckpointError: A tensor is missing, unexpected, there twice, of another kind, or not finite; or a file is
            damaged.
    """
    kinds: weights.Kinds = {}
    tensors: dict[str, Tensor] = {}
    for path in paths:
        with weights.opened(path) as file:
            for key, kind in weights.header(file).items():
                known = name(key)
                if known is None:
                    continue
                if known in kinds:
                    raise CheckpointError(f"{path} repeats {shown(key)}, which {where} has already as {shown(known)}.")
                kinds[known] = kind
    weights.require_fit(weights.kinds(expected), kinds, where)
    for path in paths:
        with weights.opened(path) as file:
            for key in file.keys():  # noqa: SIM118
                known = name(key)
                if known is not None and (wanted is None or known in wanted):
                    tensors[known] = file.get_tensor(key)
    weights.require_finite(tensors, where)
    return tensors


def renamed(name: str, table: Sequence[tuple[str, str]]) -> str:
    """Return a tensor's name with each regular expression of the table replaced, one after another."""
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


def fitted(
    found: Mapping[str, Tensor], names: Mapping[str, str], state: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Return released tensors under our names.

    Args:
        found: The tensors by their names, each of which must be used.
        names: Their name of each of ours.
        state: Tensors of the shapes and dtypes that ours have, perhaps on the meta device.
        where: What they were read from, for error messages.

    Raises:
        CheckpointError: A tensor is missing, unexpected, of another kind, or not finite.
    """
    expected = {theirs: state[ours] for ours, theirs in names.items()}
    weights.require_fit(weights.kinds(expected), weights.kinds(found), where)
    weights.require_finite(found, where)
    return {ours: found[theirs] for ours, theirs in names.items()}
