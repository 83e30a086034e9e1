"""`zoo.load`: from a name, a folder or a Hub address to a tokenizer that is ready to use."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from zoo import checkpoint, registry, resources
from zoo.errors import CheckpointError, UnknownNameError, ZooError, near_matches
from zoo.tokenizer import Tokenizer

__all__ = ["load"]


def load(
    name: str | os.PathLike[str],
    *,
    family: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Tokenizer:
    """Load a tokenizer, in evaluation mode.

    Args:
        name: A model name (`"beast"`, `"beast.default"`; see `zoo.list_models`), a checkpoint folder, or
            `hf://owner/repo[@revision]`. A folder may also hold an author's released files as they are.
        family: Which family reads the checkpoint; found out from the files if None.
        device: Where to put it; the CPU if None.
        dtype: Floating dtype of the weights; that of the family if None.
        revision: Commit, tag or branch of a Hub repository; the registry's pinned one, or `main`, if None.
        token: Hub access token; the one that `hf auth login` stored if None.

    Returns:
        The tokenizer. `tokenizer.source` says where it came from, a Hub address with its commit.

    Raises:
        UnknownNameError: No such model or family; the message lists near matches.
        CheckpointError: The checkpoint is missing, incomplete, damaged or of another family.
        ConfigError: Its config has unknown keys, or `dtype` would change the ids.
        HubError: The Hub cannot be reached or refuses, or the model is not in the cache in offline mode.
    """
    text = os.fspath(name)
    if not isinstance(name, str) or _is_path(text):
        if revision is not None:
            raise ZooError(f"revision is for Hub repositories, and {text!r} is a folder.")
        tokenizer = _from_folder(Path(text).expanduser(), family)
    elif text.startswith("hf://"):
        tokenizer = _from_hub(text, family, revision, token)
    else:
        tokenizer = _from_name(text, family, revision, token)
    if dtype is not None:
        tokenizer = tokenizer.to_dtype(dtype)
    return tokenizer if device is None else tokenizer.to(device)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or text in (".", "..") or (os.sep in text and Path(text).is_dir())


def _from_name(name: str, family: str | None, revision: str | None, token: str | None) -> Tokenizer:
    try:
        entry = registry.model(name)
    except UnknownNameError:
        if Path(name).is_dir():
            raise UnknownNameError(
                f"there is no model {name!r}, but a folder of that name: write zoo.load('./{name}') for the folder."
            ) from None
        if "/" in name:
            raise UnknownNameError(
                f"there is neither a folder nor a model {name!r}: a Hub repository is written 'hf://{name}', a folder "
                f"'./{name}'."
            ) from None
        raise
    if family is not None and family != entry.family:
        raise UnknownNameError(f"{name!r} is a model of the family {entry.family!r}, not {family!r}.")
    if entry.is_shipped:
        if revision is not None:
            raise ZooError(f"revision is for Hub repositories, and {name!r} ships with the library.")
        return _from_folder(resources.path("checkpoints", entry.source), entry.family)
    return _from_hub(entry.source, entry.family, revision, token)


def _from_hub(address: str, family: str | None, revision: str | None, token: str | None) -> Tokenizer:
    from zoo import hub

    location = hub.parse_uri(address, revision=revision)
    snapshot = hub.download(location, token=token)
    tokenizer = _from_folder(snapshot.folder, family)
    tokenizer.source = f"hf://{snapshot.repo_id}@{snapshot.commit}"
    return tokenizer


def _from_folder(folder: Path, family: str | None) -> Tokenizer:
    if not folder.is_dir():
        kind = "a file, not a folder" if folder.exists() else "not there"
        raise CheckpointError(
            f"{folder} is {kind}: give a checkpoint folder (config.json and model.safetensors), a model name "
            f"({near_matches('', registry.families())}) or hf://owner/repo."
        )
    if checkpoint.is_checkpoint(folder):
        found = checkpoint.read_manifest(folder)["family"]
        if family is not None and family != found:
            raise CheckpointError(f"{folder} holds a {found} checkpoint, not one of {family}: leave family out.")
        return checkpoint.load(registry.family(found), folder)
    candidates = [family] if family is not None else registry.families()
    for candidate in candidates:
        cls = registry.family(candidate)
        if cls.recognises(folder):
            tokenizer = cls.from_official(folder).eval()
            tokenizer.source = str(folder)
            return tokenizer
    if family is not None:
        raise CheckpointError(
            f"{folder} holds neither a {family} checkpoint of this library nor the authors' released files: it has "
            f"{', '.join(sorted(entry.name for entry in folder.iterdir())) or 'nothing'}."
        )
    checkpoint.read_manifest(folder)  # says what is wrong with config.json
    raise CheckpointError(f"no family recognises the files in {folder}: name one with family=.")
