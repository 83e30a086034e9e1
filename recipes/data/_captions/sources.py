"""The pictures of the packages that have a text which says what they show."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLIPART = "usr/share/openclipart"
STAMPS = "usr/share/tuxpaint/stamps"
# Text, plain shapes, maps of places nobody can picture, patterns, a deck of cards and alphabets, which are alike.
LEFT_OUT = {"buttons", "computer", "geography", "logos", "shapes", "signs_and_symbols", "special", "unsorted"}
CARDS, LETTERS = "recreation/games/cards", "alphabets"
EMOJI_LEFT_OUT = {"Component", "Flags", "Symbols"}
GENERIC = 4  # a title that so many pictures have says nothing of one
MOST_WORDS = 6
_PEOPLE = {"a", "an", "the", "of", "with", "man", "woman", "men", "women", "person", "people", "boy", "girl", "child"}


@dataclass(frozen=True)
class Picture:
    """A picture of a package.

    Attributes:
        path: Below the folder that the packages were unpacked to.
        source: clipart, stamps or emoji.
        name: Its name in the set, without suffix; unique.
        text: What it shows.
        group: What it has in common with pictures that are about the same: all of one group are in one split.
    """

    path: str
    source: str
    name: str
    text: str
    group: str


def pictures(root: Path) -> list[Picture]:
    """Return all pictures that are used, by name."""
    return sorted([*clipart(root), *stamps(root), *emoji(root)], key=lambda picture: picture.name)


def clipart(root: Path) -> Iterator[Picture]:
    """Yield Open Clip Art's pictures, with the titles and keywords of the drawings that they were made from."""
    png, svg = root / CLIPART / "png", root / CLIPART / "svg"
    found = []
    for path in sorted(png.rglob("*.png")):
        inside = path.relative_to(png)
        drawing = svg / inside.with_suffix(".svg")
        if path.is_symlink() or drawing.is_symlink() or not drawing.is_file():
            continue
        if inside.parts[0] in LEFT_OUT or inside.as_posix().startswith(CARDS):
            continue
        if (told := described(drawing)) is not None:
            found.append((inside, *told))
    often = Counter(title for _, title, _, _ in found)
    for inside, title, keywords, author in found:
        is_telling = title and often[title] < GENERIC and "clipart by" not in title.lower()
        subject = words(title) if is_telling else [w for w in words(inside.stem) if w not in words(author)]
        subject = [word for word in subject if not any(word in name for name in words(author) if len(word) > 3)]
        kinds = [k for k in map(str.lower, keywords) if re.fullmatch(r"[a-z ]{3,16}", k) and k not in ("hash", author)]
        subject = subject[:MOST_WORDS] or words(" ".join(kinds[:2]))
        if not subject:
            continue
        kind = next((k for k in kinds if not set(words(k)) & set(subject)), "")
        text = " ".join(subject) + (f", {kind}" if kind else "")
        name = inside.with_suffix("").as_posix().replace("/", "-")
        yield Picture(f"{CLIPART}/png/{inside}", "clipart", f"clipart/{name}", text, f"clipart {root_of(inside.stem)}")


def described(drawing: Path) -> tuple[str, list[str], str] | None:
    """Return title, keywords and author of a drawing; None if it is damaged."""
    title, author, keywords = "", "", []
    try:
        for element in ElementTree.parse(drawing).iter():
            tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
            text = " ".join((element.text or "").split())
            if tag == "title" and text:
                # The first is the document's or the creator's, told apart by what holds it; the longest is the title.
                title = title or text
            elif tag == "li" and text:
                keywords.append(text)
            elif tag == "creator":
                author = " ".join(" ".join(part.text or "" for part in element.iter()).split()).lower()
    except ElementTree.ParseError:
        return None
    return title, keywords, author


def stamps(root: Path) -> Iterator[Picture]:
    """Yield Tux Paint's stamps, with the first line of their texts."""
    for path in sorted((root / STAMPS).rglob("*.png")):
        told = path.with_suffix(".txt")
        if path.is_symlink() or not told.is_file() or LETTERS in path.parts:
            continue
        first = told.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        subject = words(re.sub(r"\(.*?\)", " ", first))
        subject = subject[1:] if subject[:1] and subject[0] in ("a", "an", "the", "some") else subject
        if not subject:
            continue
        inside = path.relative_to(root / STAMPS).with_suffix("")
        name = inside.as_posix().replace("/", "-")
        text = " ".join(subject[:MOST_WORDS])
        yield Picture(f"{STAMPS}/{inside}.png", "stamps", f"stamps/{name}", text, f"stamps {root_of(path.stem)}")


def emoji(root: Path) -> Iterator[Picture]:
    """Yield Google's emoji, one skin each, with their names."""
    place = root / "npm/emoji-datasource-google/package"
    for entry in json.loads((place / "emoji.json").read_text(encoding="utf-8")):
        path = place / "img/google/64" / entry["image"]
        if entry["category"] in EMOJI_LEFT_OUT or not entry.get("has_img_google") or not path.is_file():
            continue
        subject = words(entry["name"])
        kind = words(entry["subcategory"].replace("-", " "))
        kind = [word for word in kind if word not in subject and word not in ("other", "face", "body", "prop")]
        text = " ".join(subject[:MOST_WORDS]) + (f", {' '.join(kind[:2])}" if kind else "")
        name = f"emoji/{path.stem}"
        yield Picture(str(path.relative_to(root)), "emoji", name, text, f"emoji {root_of(' '.join(subject))}")


def words(text: str) -> list[str]:
    """Return the words of a text or a file's name, in lower case, without numbers."""
    return [word for word in re.split(r"[^a-z']+", text.lower()) if len(word) > 1 or word == "a"]


def root_of(name: str) -> str:
    """Return what a name says without numbers, single letters, articles and whom it shows."""
    kept = [word for word in words(name) if word not in _PEOPLE and len(word) > 1]
    return " ".join(kept[:2]) or name
