"""What a run starts from: a model, or the training checkpoint of an earlier run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo import config as configs
from zoo import resources
from zoo.errors import shown
from zoo.training.checkpoint_file import LICENCE, read_checkpoint, state_of, tokenizer_part, training_parts

__all__ = ["Origin", "differences", "licence_of_card", "read_origin"]

_MOST_DIFFERENCES = 6
_LICENCE = re.compile(r"\A---\n(?:(?!---).*\n)*?license:[ \t]*[\"']?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    """What a run starts from.

    Attributes:
        family: Of the tokenizer.
        config: Plain values of its config.
        tokenizer: The tokenizer's tensors.
        parts: All others that there are, by their names in the training module.
        needed: Those among `parts` that a later training needs.
        licence: Of the weights, "" if unknown, None if they started from nobody's.
    """

    family: str
    config: dict[str, Any]
    tokenizer: dict[str, Tensor]
    parts: dict[str, Tensor]
    needed: dict[str, Tensor]
    licence: str | None


def read_origin(weights: str, family: str = "") -> Origin:
    """Read a model as `zoo.load` finds it, with what it has for training, or a training checkpoint (`.ckpt`).

    Args:
        weights: The model.
        family: "generator" for one that `zoo.load_generator` finds.

    Raises:
        ZooError: There is none, or it is damaged.
    """
    if weights.endswith(".ckpt"):
        content = read_checkpoint(resources.expanded(weights))
        state = state_of(content, str(weights))
        tokenizer = tokenizer_part(state)
        parts = {name: tensor for name, tensor in state.items() if not name.startswith("tokenizer.")}
        identity = content["zoo_tokenizer"]
        return Origin(
            identity["family"], identity["config"], tokenizer, parts, training_parts(content), content.get(LICENCE)
        )
    import zoo

    start: Any = zoo.load_generator(weights) if family == "generator" else zoo.load(weights)
    needed = zoo.training_parts(start)
    config = configs.to_dict(start.config)
    return Origin(start.family, config, start.state_dict(), needed, needed, start.spec.licence)


def differences(there: Mapping[str, Any], here: Mapping[str, Any], ignored: Iterable[str] = ()) -> str:
    """Return which settings differ, in a few words; "" if none does."""
    flat_there, flat_here = _flat(there), _flat({key: value for key, value in here.items() if key not in ignored})
    # Of another kind, all settings are others.
    kinds = {key for key in flat_there.keys() & flat_here.keys() if key.endswith(".kind")}
    other_kinds = tuple(key.removesuffix("kind") for key in kinds if flat_there[key] != flat_here[key])
    found = [f"{key}kind is {flat_there[key + 'kind']} there and {flat_here[key + 'kind']} here" for key in other_kinds]
    found += [
        f"{key} is {shown(flat_there.get(key))} there and {shown(flat_here.get(key))} here"
        for key in sorted(flat_there.keys() | flat_here.keys())
        if flat_there.get(key) != flat_here.get(key) and not key.startswith(other_kinds)
    ]
    more = len(found) - _MOST_DIFFERENCES
    return "; ".join(found[:_MOST_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


def licence_of_card(folder: Path) -> str:
    """Return the licence in the front matter of a Hub repository's README.md, "" if there is none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    found = _LICENCE.match(text)
    return "" if found is None else found[1]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
