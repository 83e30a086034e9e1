"""Pictures with captions as COCO has them: `annotations/captions_train2017.json` beside the folder `train2017`.

Each caption is an item of its own, so that a picture that has five is there five times (Chen et al., arXiv 1504.00325).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.data.datamodule import Split
from zoo.data.images.pictures import FilePictures
from zoo.data.layouts import NAMES
from zoo.errors import InputError, shown
from zoo.strict import is_there, parse_json, read_text

__all__ = ["coco_pictures", "find_coco"]

_MOST_BYTES = 2**30


def find_coco(folder: Path, split: Split) -> str | None:
    """Return the path below a folder of COCO's captions of a split; None if there are none."""
    for name in NAMES[split]:
        found = sorted((folder / "annotations").glob(f"captions_{name}*.json"))
        if found:
            return found[-1].relative_to(folder).as_posix()
    return None


def coco_pictures(path: Path) -> FilePictures | None:
    """Return the pictures and captions of a file; None if it is no object with `images` and `annotations`.

    Pictures are looked for in the folder that the file is named after (`captions_train2017.json`: `train2017`), in
    `images`, and beside the file, there and one folder up.

    Raises:
        InputError: It lists nothing, or contradicts itself, or has no pictures.
    """
    try:
        told = parse_json(read_text(path, InputError, _MOST_BYTES), str(path), InputError)
    except InputError:
        return None  # lines of JSON, perhaps
    images, captions = told.get("images"), told.get("annotations")
    if not isinstance(images, list) or not isinstance(captions, list):
        return None
    files = dict(_file(entry, f"{path}: images[{number}]") for number, entry in enumerate(images))
    pairs = []
    for number, entry in enumerate(captions):
        where = f"{path}: annotations[{number}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("caption"), str):
            raise InputError(f"{where} must have a caption, a text, got {shown(entry)}.")
        image = entry.get("image_id")
        if not isinstance(image, int | str) or image not in files:
            raise InputError(f"{where} is of the image {shown(image)}, which is not listed.")
        pairs.append((files[image], " ".join(entry["caption"].split())))
    if not pairs:
        raise InputError(f"{path} lists no captions.")
    place = _place(path, pairs[0][0])
    return FilePictures(str(path), [str(place / file) for file, _ in pairs], captions=[text for _, text in pairs])


def _file(entry: Any, where: str) -> tuple[int | str, str]:
    name = entry.get("file_name") if isinstance(entry, Mapping) else None
    key = entry.get("id") if isinstance(entry, Mapping) else None
    if not isinstance(name, str) or not name or "\0" in name or not isinstance(key, int | str):
        raise InputError(f"{where} must have an id and a file_name, got {shown(entry)}.")
    return key, name


def _place(path: Path, file: str) -> Path:
    """Return the folder that a picture is in."""
    named = re.sub(r"^captions_", "", path.stem)
    parts = (named, f"images/{named}", "images", ".")
    places = [root / part for root in (path.parent.parent, path.parent) for part in parts]
    for place in places:
        if is_there(place / file):
            return place
    raise InputError(f"{file} of {path} is in none of {', '.join(map(str, places))}: move the pictures there.")
