"""Measures pictures that were made of tokens with their captions, without, and with another picture's.

A picture is a unit of the bootstrap. Which other caption a picture gets is the same for all models: that of the next
picture in an order that hashes of names give, which says something else.
"""

from __future__ import annotations

import hashlib
import lzma
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConfigError, InputError
from zoo.evaluation.figures import row_interval
from zoo.evaluation.items import balanced, load_for
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Column, Figure, Report
from zoo.evaluation.suite import environment
from zoo.evaluation.suites.image.captions.config import HOWS, CaptionSuite, How
from zoo.evaluation.suites.image.captions.page import write_page
from zoo.evaluation.suites.image.columns import MEASURES
from zoo.evaluation.suites.image.gallery import Gallery
from zoo.evaluation.suites.image.judges import Judges
from zoo.evaluation.suites.image.photos import Photo, photos_in
from zoo.metrics.feature_distance import feature_rows, paired_distance
from zoo.metrics.rows import mean_of
from zoo.spec import option_names
from zoo.tokenizer import Tokenizer

__all__ = ["CAPTIONS", "measure"]

_NO_NUMBER = "it is no finite number for some pictures"
_CUT = "cut"

_GAINS = {
    "gain": "PSNR with its caption over none, dB",
    "loss": "PSNR with another's under none, dB",
    "over_baseline": "PSNR with its caption over the baseline, dB",
}

COLUMNS = (
    *(
        Column(f"{column.key}@{how}", f"{column.title}; {title}", column.form)
        for column in MEASURES
        if column.has_interval
        for how, title in HOWS.items()
    ),
    *(Column(name, title, "{:+.2f}") for name, title in _GAINS.items()),
    Column("bits", "bits of the tokens of a picture", "{:.0f}", False),
    Column("tokens", "tokens a picture", "{:.0f}", False),
    Column("latents", "latent numbers a picture", "{:.0f}", False),
    Column("caption_bits", "bits of its caption as text, not counted above", "{:.0f}", False),
    Column("caption_bits_packed", "the same, all captions packed together", "{:.0f}", False),
)
"""The table."""


def measure(suite: CaptionSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run a suite of captioned pictures. See `zoo.evaluation.run`.

    Raises:
        InputError: Pictures have no captions, or all the same, or a model tokenizes something else.
        ConfigError: Models take pictures of different sizes, or the baseline is not measured.
    """
    progress("reading models", 0, 1)
    names = list(suite.models if models is None else models)
    tokenizers = {name: load_for(name, "image", suite.device) for name in names}
    if suite.baseline and models is None and suite.baseline not in names:
        raise ConfigError(f"the baseline {suite.baseline!r} must be one of the models: {', '.join(names)}.")
    size = _size(tokenizers)
    found = photos_in(path, suite.data.test)
    photos = balanced(found, lambda photo: photo.source, lambda photo: photo.key, suite.max_items)
    captions = [photo.pictures.read(photo.index).caption for photo in photos]
    others = _others(captions, photos)
    judges, gallery = Judges(suite, size), Gallery(photos, suite.num_examples)

    hows = {name: _hows(tokenizer, size, captions[0]) for name, tokenizer in tokenizers.items()}
    rows: dict[str, list[dict[str, float]]] = {f"{name}: {HOWS[how]}": [] for name in names for how in hows[name]}
    facts: dict[str, dict[str, Figure]] = {}
    digest = hashlib.sha256()
    for start in range(0, len(photos), suite.batch_size):
        part = slice(start, start + suite.batch_size)
        contents = [photo.content() for photo in photos[part]]
        for content, caption in zip(contents, captions[part], strict=True):
            digest.update(hashlib.sha256(content).digest() + caption.encode())
        originals = torch.stack([p.read(c, size) for p, c in zip(photos[part], contents, strict=True)])
        originals = originals.to(suite.device)
        judged = judges.against(originals)
        gallery.add("original", start, originals.cpu())
        for name, tokenizer in tokenizers.items():
            progress(f"measuring {name}", start, len(photos))
            for how in hows[name]:
                key = f"{name}: {HOWS[how]}"
                made, facts[name] = _made(tokenizer, originals, how, captions[part], others[part])
                new, pairs = judged(made)
                if pairs is not None and "feature_distance" in suite.measures:
                    for row, pair in zip(new, feature_rows(pairs[:, 0], pairs[:, 1]), strict=True):
                        row["feature_distance"] = paired_distance(pair[None])
                rows[key] += new
                gallery.add(key, start, made.cpu())
    progress("resampling pictures", len(photos), len(photos))

    is_own = not suite.data.sha256
    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=_protocol(suite, judges, size, len(photos), len(found)),
        data={
            "file": path.resolve().name if is_own else suite.data.file,
            "sha256": digest.hexdigest(),
            "is_reference": digest.hexdigest() == suite.data.sha256,
            "made_by": "" if is_own else suite.data.made_by,
            "size": list(size),
            "pictures": len(photos),
            "sources": dict(sorted(Counter(photo.source for photo in photos).items())),
            "baseline": suite.baseline,
            "networks": judges.networks,
            "not_measured": judges.missing,
            "suite": {"bootstrap": asdict(suite.bootstrap)},
        },
        environment=environment(),
        pictures=gallery.pictures(rows),
    )
    text = _text_bits(captions)
    for name in names:
        own = {how: rows[f"{name}: {HOWS[how]}"] for how in hows[name]}
        figures = _figures(suite, judges, own) | facts[name]
        baseline = rows.get(f"{suite.baseline}: {HOWS['none']}")
        if baseline and "true" in own:
            figures["over_baseline"] = _difference(suite, own["true"], baseline)
        report.models[name] = figures | (text if "true" in own else {})
        report.settings[name] = {"model": tokenizers[name].name, "captions": "true" in own}
    return report


def _hows(tokenizer: Tokenizer, size: tuple[int, int], caption: str) -> tuple[How, ...]:
    """Return what pictures can be encoded and decoded with: of a model that knows no text, nothing."""
    if "caption" not in option_names(tokenizer.encode_options):
        return ("none",)
    try:
        _made(tokenizer, torch.full((1, 3, *size), 0.5, device=tokenizer.device), "true", [caption], [caption])
    except ConfigError:
        return ("none",)
    return tuple(HOWS)


def _made(
    tokenizer: Tokenizer, originals: Tensor, how: How, captions: Sequence[str], others: Sequence[str]
) -> tuple[Tensor, dict[str, Figure]]:
    """Return what becomes of pictures, and the size of their codes."""
    encoding: dict[str, Any] = {}
    decoding: dict[str, Any] = {}
    if how != "none":
        encoding["caption"] = list(others if how == "shuffled" else captions)
        if _CUT in option_names(tokenizer.encode_options):
            encoding[_CUT] = True
    if how == "swapped":
        decoding = {**encoding, "caption": list(others)}
    with warnings.catch_warnings():
        # That it was trained with captions throughout is what is measured here.
        warnings.filterwarnings("ignore", "this model was trained with a caption", UserWarning)
        if tokenizer.spec.is_continuous:
            latents = tokenizer.encode_latents(originals, **encoding)
            made = tokenizer.decode_latents(latents, **decoding)
            return made, {"latents": Figure(float(latents.values[0].numel()))}
        tokens = tokenizer.encode(originals, **encoding)
        made = tokenizer.decode(tokens, **decoding)
    return made, {"bits": Figure(float(tokens.num_bits.mean())), "tokens": Figure(float(tokens.lengths[0]))}


def _figures(suite: CaptionSuite, judges: Judges, own: dict[How, list[dict[str, float]]]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for how, rows in own.items():
        for name in suite.measures:
            if reason := judges.missing.get(name):
                figures[f"{name}@{how}"] = Figure.missing(reason)
            else:
                kept: list[dict[str, float]] = [{name: row[name]} for row in rows]
                figures[f"{name}@{how}"] = row_interval(kept, mean_of(name), suite.bootstrap, _NO_NUMBER)
    if "true" in own:
        figures["gain"] = _difference(suite, own["true"], own["none"])
        figures["loss"] = _difference(suite, own["none"], own["shuffled"])
    return figures


def _difference(suite: CaptionSuite, rows: Sequence[dict[str, float]], less: Sequence[dict[str, float]]) -> Figure:
    """Return the mean difference of PSNR, picture by picture."""
    if "psnr" not in suite.measures:
        return Figure.missing("PSNR was not asked for")
    pairs = [{"psnr": one["psnr"] - other["psnr"]} for one, other in zip(rows, less, strict=True)]
    return row_interval(pairs, mean_of("psnr"), suite.bootstrap, _NO_NUMBER)


def _others(captions: Sequence[str], photos: Sequence[Photo]) -> list[str]:
    """Return for each picture the caption of a later one that says something else.

    Raises:
        InputError: A picture has none, or all say the same.
    """
    missing = [photo.name for photo, caption in zip(photos, captions, strict=True) if not caption]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(photos)} pictures have no caption, such as {missing[0]}: give them some, by a "
            "manifest with `text`, or by a text beside each (x.txt)."
        )
    if len(set(captions)) < 2:
        raise InputError("all pictures have the same caption, so that none can be exchanged.")
    doubled = [*captions, *captions]
    return [
        next(other for other in doubled[number + 1 :] if other != caption) for number, caption in enumerate(captions)
    ]


def _text_bits(captions: Sequence[str]) -> dict[str, Figure]:
    """Return how large captions are, which are side information of the tokens."""
    raw = sum(len(caption.encode()) for caption in captions)
    packed = len(
        lzma.compress("\n".join(captions).encode(), format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
    )
    return {
        "caption_bits": Figure(8 * raw / len(captions)),
        "caption_bits_packed": Figure(8 * packed / len(captions)),
    }


def _size(tokenizers: dict[str, Tokenizer]) -> tuple[int, int]:
    sizes = {tokenizer.spec.input_size: name for name, tokenizer in tokenizers.items() if tokenizer.spec.input_size}
    if len(sizes) != 1:
        told = ", ".join(f"{name}: {size}" for size, name in sizes.items()) or "none says a size"
        raise ConfigError(f"the models must take pictures of one size ({told}): measure them apart.")
    height, width = next(iter(sizes))
    return height, width


def _protocol(suite: CaptionSuite, judges: Judges, size: tuple[int, int], count: int, total: int) -> str:
    text = (
        f"Means over {count} pictures, scaled to cover {size[0]} × {size[1]} and cut in the middle; intervals of "
        f"{suite.bootstrap.confidence:.0%} from resampling pictures. Both networks get the picture's caption, none, or "
        "that of another picture, the same for all models; or the decoder alone gets another's. A caption is no part "
        "of the tokens and must be known to decode: its bits are as UTF-8, and as all captions take when packed "
        "together (LZMA)."
    )
    if suite.baseline:
        text += f" The baseline is {suite.baseline}, without text."
    if "st_lpips" in judges.networks:
        text += f" ST-LPIPS has weights of SHA-256 {judges.networks['st_lpips']['sha256'][:16]}…, and is not LPIPS."
    if count < total:
        text += f" {count} of the data's {total} pictures were measured, since the suite says max_items."
    for name, reason in judges.missing.items():
        text += f" Not measured: {name} ({reason.rstrip('.')})."
    return text


CAPTIONS = SuiteKind(CaptionSuite, measure, COLUMNS, page=write_page)
"""The kind of suite."""
