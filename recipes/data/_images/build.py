"""Bring a photograph to the form of the set."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from _images.sources import Photo

SHORT_SIDE = 512
LEAST_SIDE = 200  # smaller pictures of the sky are left out
TEST_SHARE, VAL_SHARE = 0.15, 0.10  # of a source's scenes
QUALITY = {"quality": 95, "subsampling": 0}  # 4:4:4
Image.MAX_IMAGE_PIXELS = None  # the packages' own pictures, checked by digest


def make(root: Path, out: Path, photo: Photo) -> dict | str:
    """Write a photo and return its line of a manifest, or say why it is left out."""
    with Image.open(root / photo.path) as file:
        picture = file.convert("RGBA") if file.mode == "RGBA" or "transparency" in file.info else file.convert("RGB")
        picture = to_srgb(picture, file.info.get("icc_profile"))
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255):
        return refuse(photo, "transparent")
    picture = picture.convert("RGB")
    if photo.turn:
        picture = picture.rotate(photo.turn, expand=True)  # exact by quarters
    if min(picture.size) < LEAST_SIDE:
        return refuse(photo, f"smaller than {LEAST_SIDE}")
    scale = SHORT_SIDE / min(picture.size)
    if scale < 1:
        size = tuple(max(SHORT_SIDE, round(side * scale)) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    target = out / f"{photo.name}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    picture.save(part, format="JPEG", **QUALITY)
    part.replace(target)
    return {
        "image_filepath": str(target.relative_to(out)),
        "width": picture.width,
        "height": picture.height,
        "source": photo.source,
        "package": photo.package,
        "scene": photo.scene,
    }


def refuse(photo: Photo, why: str) -> str:
    """Return why a photo is left out, which must not happen to one that was chosen by hand."""
    if photo.chosen:
        raise SystemExit(f"{photo.path} is {why}: take it off the list in _images/sources.py.")
    return why


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture in sRGB. Grey profiles are printing curves, and sRGB's own would only round."""
    if not profile:
        return picture
    found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if found.profile.xcolor_space.strip() != "RGB" or "srgb" in ImageCms.getProfileDescription(found).lower():
        return picture
    return ImageCms.profileToProfile(picture, found, ImageCms.createProfile("sRGB"), outputMode=picture.mode)


def split_scenes(lines: list[dict]) -> dict[str, str]:
    """Return the split of each scene: a hash chooses which of each source's are for the test and for validation."""
    splits = {}
    for source in {line["source"] for line in lines}:
        scenes = sorted({line["scene"] for line in lines if line["source"] == source}, key=_shuffled)
        test, val = round(TEST_SHARE * len(scenes)), round(VAL_SHARE * len(scenes))
        for place, scene in enumerate(scenes):
            splits[scene] = "test" if place < test else "val" if place < test + val else "train"
    return splits


def _shuffled(scene: str) -> str:
    return hashlib.sha256(f"images {scene}".encode()).hexdigest()
