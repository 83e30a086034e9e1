"""`zoo.load`: from a name, a folder or a Hub address to a tokenizer that is ready to use."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo import checkpoint, registry
from zoo.errors import CheckpointError, ConfigError, LicenceWarning, UnknownNameError, ZooError, near_matches, shown
from zoo.process.fresh import fresh
from zoo.strict import expanded, is_file
from zoo.tokenizer import Tokenizer

if TYPE_CHECKING:
    from zoo.generator.model import TokenGenerator

__all__ = ["family_of", "is_generator", "load", "load_generator", "training_parts"]

_HUB = "hf://"
_GENERATOR = "generator"
_DECODER_FILES = (checkpoint.DECODER, "decoder/*")  # of our layout, and of authors' layouts
_told: set[tuple[str, str]] = set()  # licences' restrictions that this process has said, by repository


def load(
    name: str | os.PathLike[str],
    *,
    family: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    token: str | None = None,
    decoder: bool = True,
    exact: bool = True,
) -> Tokenizer:
    """Load a tokenizer, in evaluation mode.

    Args:
        name: A model name (`"beast"`, `"beast.default"`; see `zoo.list_models`), a checkpoint folder, or
            `hf://owner/repo[@revision]`. A folder may also hold an author's released files as they are. Of authors who
            release each model as a file: `./file.safetensors`, or `hf://owner/repo/folder/file.safetensors[@revision]`.
        family: Which family reads the checkpoint; found out from the files if None.
        device: Where to put it; the CPU if None.
        dtype: Floating dtype of the weights; that of the family if None. Exact ids allow few, fast mode any.
        revision: Commit, tag or branch of a Hub repository; the registry's pinned one, or `main`, if None.
        token: Hub access token; the one that `hf auth login` stored if None.
        decoder: False for one that only encodes: where a family keeps its decoder in a file of its own, that is neither
            downloaded nor read.
        exact: False for fast mode, for accelerators and large corpora: whole batches in one kernel, half precision,
            autocast and TF32 as the caller likes. A few ids then depend on the batch they are in. A family whose
            arithmetic is exact at no price has no fast mode, and is loaded as ever; `tokenizer.is_exact` tells.

    Returns:
        The tokenizer. `tokenizer.source` says where it came from, a Hub address with its commit. A licence that
        restricts the use of the weights is a `LicenceWarning`, once in a process, before anything is downloaded.

    Raises:
        UnknownNameError: No such model or family; the message lists near matches.
        CheckpointError: The checkpoint is missing, incomplete, damaged or of another family.
        ConfigError: Its config has unknown keys, `dtype` would change the ids and `exact` is not False, or `revision`
            is given for a folder.
        HubError: The Hub cannot be reached or refuses, or the model is not in the cache in offline mode.
    """
    place = _device(device)
    text = os.fspath(name)
    if not isinstance(name, str) or _is_path(text):
        if revision is not None:
            raise ConfigError(f"revision is for Hub repositories, and {text!r} is a folder: leave it out.")
        tokenizer = _from_folder(expanded(text, CheckpointError), family, decoder)
    elif text.startswith(_HUB):
        tokenizer = _from_hub(text, family, revision, token, decoder)
    else:
        tokenizer = _from_name(text, family, revision, token, decoder)
    tokenizer.is_exact = exact or not tokenizer.fast_modules
    if dtype is not None:
        tokenizer = tokenizer.to_dtype(dtype)
    return tokenizer if place is None else tokenizer.to(place)


def load_generator(
    name: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> TokenGenerator:
    """Load an autoregressive model over a tokenizer's ids, in evaluation mode.

    It has a function of its own because it is no tokenizer: it neither encodes nor decodes. `generator.sample` draws
    tokens, and `zoo.load(generator.config.tokenizer)` decodes them, after `generator.require_made_by(tokenizer)`.

    Args:
        name: A generator's name (`"larp.L_long_ar"`; see `zoo.list_generators`), a folder that `zoo.save` or `zoo
            export` wrote or its authors released, or `hf://owner/repo[@revision]`.
        device: As of `load`.
        dtype: Floating dtype of the weights; float32 if None.
        revision: As of `load`.
        token: As of `load`.

    Raises:
        UnknownNameError: No such generator; the message lists near matches.
        CheckpointError: The folder is missing, incomplete, damaged, or of a tokenizer.
        ConfigError: Its config has unknown keys or unusable values.
        HubError: As of `load`.
    """
    place, text = _device(device), os.fspath(name)
    if not isinstance(name, str) or _is_path(text):
        if revision is not None:
            raise ConfigError(f"revision is for Hub repositories, and {text!r} is a folder: leave it out.")
        found: Any = _from_folder(expanded(text, CheckpointError), _GENERATOR, True)
    elif text.startswith(_HUB):
        found = _from_hub(text, _GENERATOR, revision, token, True)
    else:
        found = _named_generator(text, revision, token)
    generator: TokenGenerator = found if dtype is None else found.to_dtype(dtype)
    return generator if place is None else generator.to(place)


def _named_generator(name: str, revision: str | None, token: str | None) -> Any:
    entry = registry.generator(name)
    _tell_restrictions([entry])
    if entry.is_shipped:
        found: Any = _from_folder(entry.folder, _GENERATOR, True)
    else:
        address = entry.source if revision is None else entry.source.partition("@")[0]
        found = _from_hub(address, _GENERATOR, revision, token, True)
    found.name = entry.name
    found.spec = replace(found.spec, licence=entry.licence)
    found.trained_on = entry.trained_on or found.trained_on
    if not found.config.tokenizer:  # the authors' files do not say
        found.config = replace(found.config, tokenizer=entry.tokenizer)
    return found


def family_of(name: str | os.PathLike[str]) -> type[Tokenizer] | None:
    """Return the class that `load` would give, without loading it; None if only a repository on the Hub tells.

    Raises:
        UnknownNameError: No such model or family.
        CheckpointError: The folder holds no model.
    """
    text = os.fspath(name)
    if not isinstance(name, str) or _is_path(text):
        folder = expanded(text, CheckpointError)
        if checkpoint.is_checkpoint(folder):
            return registry.family(checkpoint.read_manifest(folder)["family"])
        cls: type[Tokenizer] | None = _recognised(folder, None)[0]
        if cls is None:
            raise CheckpointError(f"{folder} holds no model: give a folder with {checkpoint.CONFIG}, or a name.")
        return cls
    return None if text.startswith(_HUB) else registry.family(registry.model(text).family)


def is_generator(name: str | os.PathLike[str], *, token: str | None = None) -> bool:
    """Tell a generator over tokens, which `load_generator` loads, from whatever else; without reading its weights.

    Of a repository on the Hub the settings are downloaded.

    Raises:
        HubError: The Hub cannot be reached or refuses.
    """
    text = os.fspath(name)
    if text.startswith(_HUB):
        from zoo import hub

        folder = hub.download(hub.parse_uri(text), allow=("*.json",), token=token).folder
    elif isinstance(name, str) and not _is_path(text):
        return text in registry.list_generators()
    else:
        folder = expanded(text, CheckpointError)
    if checkpoint.is_checkpoint(folder):
        return bool(checkpoint.read_manifest(folder)["family"] == _GENERATOR)
    return bool(registry.official(_GENERATOR).recognises(folder))


def training_parts(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Return what a model that was loaded has for training beside the tokenizer, which loading does not read.

    Args:
        tokenizer: What `load` returned.

    Returns:
        Tensors by their names in the family's training module; none if the model was saved without.

    Raises:
        CheckpointError: The file is missing or damaged.
        HubError: The Hub cannot be reached or refuses.
    """
    official = registry.official(tokenizer.family) if tokenizer.family in registry.families() else None
    of_authors: Callable[[Path], dict[str, Tensor]] | None = getattr(official, "training_parts", None)
    if tokenizer.source.startswith(_HUB):
        from zoo import hub

        location = hub.parse_uri(tokenizer.source)
        if location.path:
            return {}
        folder = hub.download(location, allow=("*.json", checkpoint.TRAINING)).folder
        if of_authors is not None and not checkpoint.is_checkpoint(folder):
            folder = hub.download(location, allow=("*.json", "*.safetensors")).folder
    else:
        folder = Path(tokenizer.source)
    if checkpoint.is_checkpoint(folder):
        return checkpoint.read_training(folder)
    return {} if of_authors is None or not tokenizer.source else of_authors(folder)


def _device(device: torch.device | str | None) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"there is no device {device!r}: give one such as 'cpu', 'cuda' or 'cuda:1'.") from error


def _is_path(text: str) -> bool:
    marked = text in (".", "..") or text.startswith(("/", "./", "../", ".\\", "..\\", "~"))
    is_released = text.endswith(".safetensors") and is_file(text)
    return marked or is_released or Path(text).is_absolute() or (("/" in text or os.sep in text) and _is_dir(text))


def _is_dir(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except OSError:  # a name too long for the file system, or a folder that may not be looked into
        return False


def _from_name(name: str, family: str | None, revision: str | None, token: str | None, decoder: bool) -> Tokenizer:
    try:
        entry = registry.model(name)
    except UnknownNameError as error:
        raise UnknownNameError(_explain(name) or str(error)) from None
    if family is not None and family != entry.family:
        raise UnknownNameError(
            f"{name!r} is a model of the family {entry.family!r}, not {family!r}: leave family out, or take another "
            "model."
        )
    _tell_restrictions([entry])
    if entry.is_shipped:
        if revision is not None:
            raise ConfigError(f"revision is for Hub repositories, and {name!r} ships with the library: leave it out.")
        tokenizer = _from_folder(entry.folder, entry.family, decoder)
    else:
        address = entry.source if revision is None else entry.source.partition("@")[0]
        tokenizer = _from_hub(address, entry.family, revision, token, decoder)
    if tokenizer.name == tokenizer.family:  # the authors' files, or a checkpoint that was saved without a name
        tokenizer.name = entry.name
        tokenizer.spec = replace(tokenizer.spec, licence=entry.licence)
        tokenizer.trained_on = entry.trained_on or tokenizer.trained_on
    if tokenizer.name != entry.name:
        raise CheckpointError(f"{tokenizer.source} is mislabelled: it should be {entry.name}, and is {tokenizer.name}.")
    return tokenizer


def _explain(name: str) -> str:
    """Say what a name that is no model may have been meant as, or nothing."""
    if not name:
        return f"a name is empty; {near_matches(name, registry.list_models())} A folder is written './folder'."
    if "://" in name or name.lower().startswith("hf:"):
        page = re.match(r"(?:https?://(?:huggingface|hf)\.co/|hf:/*)([\w.-]+/[\w.-]+)", name, re.IGNORECASE)
        repository = page[1] if page else "owner/repo"
        return f"{name!r} is an address that is not read: a Hub repository is written '{_HUB}{repository}'."
    if _is_dir(name):
        return f"there is no model {name!r}, but a folder of that name: write zoo.load('./{name}') for the folder."
    if "/" in name or "\\" in name:
        return (
            f"there is neither a folder nor a model {name!r}: a Hub repository is written '{_HUB}{name}', a folder "
            f"'./{name}'."
        )
    return ""


def _tell_restrictions(entries: Iterable[registry.ModelEntry]) -> None:
    """Warn of licences that restrict the use of models about to be loaded, once in a process."""
    for entry in entries:
        key = (entry.source.partition("@")[0], entry.restriction)
        if entry.restriction and key not in _told:
            message = f"{entry.name} is under the licence {entry.licence}: {entry.restriction}"
            warnings.warn(message, LicenceWarning, stacklevel=4)
            _told.add(key)


def _from_hub(address: str, family: str | None, revision: str | None, token: str | None, decoder: bool) -> Tokenizer:
    from zoo import hub

    location = hub.parse_uri(address, revision=revision)
    _tell_restrictions(registry.published_at(address))
    if location.path:
        snapshot = hub.download(location, allow=(glob.escape(location.path),), token=token)
        tokenizer = _from_official(snapshot.folder / location.path, family, decoder)
        tokenizer.source = f"{_HUB}{snapshot.repo_id}/{location.path}@{snapshot.commit}"
        return tokenizer
    snapshot = hub.download(location, ignore=(checkpoint.TRAINING, *(() if decoder else _DECODER_FILES)), token=token)
    if not checkpoint.is_checkpoint(snapshot.folder):
        _, reader, _ = _recognised(snapshot.folder, family)
        if decoder and reader is not None and reader.EXTRA_FILES:
            hub.complete(snapshot, reader.EXTRA_FILES, token=token)
    tokenizer = _from_folder(snapshot.folder, family, decoder)
    tokenizer.source = f"{_HUB}{snapshot.repo_id}@{snapshot.commit}"
    return tokenizer


def _from_folder(folder: Path, family: str | None, decoder: bool) -> Tokenizer:
    if folder.suffix == ".safetensors" and is_file(folder):  # as some authors release them
        return _from_official(folder, family, decoder)
    if not _is_dir(str(folder)):
        # lexists also sees links that lead nowhere, and never raises
        kind = "a file or a broken link, not a folder" if os.path.lexists(folder) else "not there"
        raise CheckpointError(
            f"{folder} is {kind}: give a folder with {checkpoint.CONFIG} and {checkpoint.WEIGHTS}, the name of a model "
            f"(zoo.list_models() has them), or {_HUB}owner/repo."
        )
    if checkpoint.is_checkpoint(folder):
        found = checkpoint.read_manifest(folder)["family"]
        if family is not None and family != found:
            remedy = "zoo.load loads it" if family == _GENERATOR else "leave family out"
            raise CheckpointError(f"{folder} holds a {found} checkpoint, not one of {family}: {remedy}.")
        if found == _GENERATOR != family:
            raise CheckpointError(
                f"{folder} holds a generator over tokens, no tokenizer: load it by zoo.load_generator."
            )
        if found not in registry.families() and found != _GENERATOR:
            raise CheckpointError(
                f"{folder / checkpoint.CONFIG} is of the family {shown(found)}, which is not there; "
                f"{near_matches(found[:80], registry.families())} If another package brings it, install that."
            )
        return checkpoint.load(registry.stored(found), folder, decoder=decoder)
    return _from_official(folder, family, decoder)


def _from_official(folder: Path, family: str | None, decoder: bool) -> Tokenizer:
    cls, reader, broken = _recognised(folder, family)
    if reader is not None:
        options = {} if decoder or not cls.decoder_file else {"decoder": False}
        with fresh():
            tokenizer: Tokenizer = reader.load(folder, **options).eval()
        tokenizer.source = str(folder)
        return tokenizer
    if family is None and registry.official(_GENERATOR).recognises(folder):
        raise CheckpointError(f"{folder} holds a generator over tokens, no tokenizer: load it by zoo.load_generator.")
    try:
        checkpoint.read_manifest(folder)
    except CheckpointError as error:
        who = f"the {family} authors' released files" if family else "released files that a family recognises"
        raise CheckpointError(f"{error} Nor does it hold {who}.{''.join(broken)}") from None
    raise CheckpointError(f"{folder} changed while it was being read: load it again.")


def _recognised(folder: Path, family: str | None) -> tuple[Any, Any, list[str]]:
    """Return whose authors' files these are, family and reader, if any, and what is wrong with some families."""
    broken = []
    for candidate in registry.families() if family is None else [family]:
        try:
            reader = registry.official(candidate)
        except ZooError as error:  # one package that cannot be imported must not keep the others from reading
            if family is not None:
                raise
            broken.append(f" {error}")
            continue
        if reader is not None and reader.recognises(folder):
            return registry.stored(candidate), reader, broken
    return None, None, broken
