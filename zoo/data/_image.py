"""Reading and writing pictures: files and PIL images to float tensors, resizing on request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zoo.data._source import Source, describe, open_source, unreadable
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "SUFFIXES",
    "Crop",
    "Size",
    "checked_8_bit",
    "from_8_bit",
    "from_pil",
    "output_size",
    "read_image",
    "resize",
    "write_png",
]

Size = int | tuple[int, int]
Crop = Literal["center"] | None

_COMMON = ".png .apng .jpg .jpeg .jpe .jfif .webp .avif .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .pfm .jp2 .j2k"
_SELDOM = ".tga .qoi .pcx .sgi .ico .icns .dds .psd"
SUFFIXES = (*_COMMON.split(), *_SELDOM.split())
"""What the names of pictures end in, of the formats that Pillow reads by itself and that are not drawings."""

# The frames after the first are previews (phones' MPO) or layers (PSD), not a sequence.
_STILL_WITH_MORE_FRAMES = ("MPO", "PSD")
# Pillow hands these to other programs (Ghostscript) to be drawn.
_DRAWN = ("EPS", "WMF", "EMF")


def read_image(source: Source, *, size: Size | None = None, crop: Crop = "center", on_white: bool = False) -> Tensor:
    """Read a picture as (3, H, W), float32, 0…1.

    EXIF orientation is applied; grey, palette and CMYK become RGB; colour profiles are not applied.

    Args:
        source: A path, or a whole file in memory, of any format Pillow reads.
        size: Resize to (H, W), or to a square, with an antialiased bicubic filter whose overshoot is clamped to 0…1;
            None keeps the size.
        crop: How another aspect ratio is met: "center" covers the size and cuts the middle out, None stretches.
        on_white: Lay a picture with transparency on white; otherwise it is refused, unless fully opaque.

    Raises:
        InputError: The file is missing, unreadable, truncated, animated, transparent, or larger than Pillow's limit on
            the number of pixels.
    """
    from PIL import Image

    target = None if size is None else output_size(size, crop)
    limit = Image.MAX_IMAGE_PIXELS
    too_large = (
        f"{describe(source)} has more pixels than PIL.Image.MAX_IMAGE_PIXELS ({limit}), which guards against files "
        "made to fill the memory. If you trust it, raise that limit."
    )
    with open_source(source) as file, unreadable(source, "an image"):
        try:
            opened = Image.open(file)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InputError(too_large) from error
        with opened as image:
            if limit is not None and image.width * image.height > limit:
                raise InputError(too_large)
            if image.format in _DRAWN:
                raise InputError(f"{describe(source)} is a drawing ({image.format}): convert it to PNG first.")
            pixels = from_pil(image, on_white=on_white)
    return pixels if target is None else resize(pixels, target, crop)


def from_pil(image: Image, *, on_white: bool = False) -> Tensor:
    """Turn a PIL image of any mode into (3, H, W), float32, 0…1, upright.

    16-bit grey is divided by 65535, the rest is 8-bit RGB divided by 255. Mode F is taken as 0…1 and not looked at.

    Args:
        image: The image; it may be a file that was opened and not read yet.
        on_white: Lay an image with transparency on white.

    Raises:
        InputError: The image is animated, transparent, cannot be read, or has a mode without a full scale.
    """
    import numpy as np
    from PIL import Image, ImageOps

    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _STILL_WITH_MORE_FRAMES:
        raise InputError(f"the image has {frames} frames: encode it as a video, or pass one frame (`image.copy()`).")
    if image.width == 0 or image.height == 0:
        raise InputError(f"the image is empty: {image.width}×{image.height} pixels.")
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "F":
            # Pillow's own conversion to RGB clips these at 255.
            grey = torch.from_numpy(np.asarray(image).astype(np.float32))
            return (grey / 65535 if image.mode != "F" else grey).expand(3, -1, -1).contiguous()
        if image.mode == "I":
            raise InputError("32-bit integer images have no agreed full scale: scale it to 0…1 and pass an array.")
        if image.has_transparency_data:
            image = image.convert("LA") if image.mode == "La" else image
            image = image.convert("RGBA")
            if image.getchannel("A").getextrema() != (255, 255):
                if not on_white:
                    raise InputError(
                        "the image is transparent in places, and its tokens would depend on what lies behind: pass "
                        "on_white=True to lay it on white, or convert it to RGB yourself."
                    )
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        pixels = np.array(image.convert("RGB"))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, …
        raise InputError(f"the image cannot be read, it may be damaged or truncated ({error}).") from error
    return from_8_bit(torch.from_numpy(pixels).permute(2, 0, 1)).contiguous()


def from_8_bit(pixels: Tensor) -> Tensor:
    """Divide uint8 by 255."""
    # Given a Python number, CUDA multiplies by its reciprocal, which rounds otherwise than the division on a CPU.
    return pixels.float() / torch.full((), 255.0, dtype=torch.float32, device=pixels.device)


def output_size(size: Size, crop: Crop) -> tuple[int, int]:
    """Check the arguments of a resize and return (H, W)."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in pair):
        raise InputError(f"size must be a positive int or (H, W), got {size!r}.")
    if crop not in ("center", None):
        raise InputError(f"crop must be 'center' or None, got {crop!r}.")
    return pair[0], pair[1]


def resize(images: Tensor, size: tuple[int, int], crop: Crop) -> Tensor:
    """Resize (..., H, W) in 0…1 to `size`, see `read_image`; uint8 stays so, in a quarter of the time."""
    height, width = images.shape[-2:]
    if (height, width) == size:
        return images
    new = size
    if crop == "center":
        scale = max(size[0] / height, size[1] / width)
        new = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    flat = images.reshape(-1, 1, height, width)
    flat = torch.nn.functional.interpolate(flat, new, mode="bicubic", antialias=True)
    flat = flat.clamp(0, 1) if flat.is_floating_point() else flat
    top, left = (new[0] - size[0]) // 2, (new[1] - size[1]) // 2
    flat = flat[..., top : top + size[0], left : left + size[1]]
    return flat.reshape(*images.shape[:-2], *size)


def checked_8_bit(pixels: Tensor) -> Tensor:
    """Round 0…1 to uint8, refusing what would have to be clipped."""
    scaled = (pixels.detach().to("cpu", torch.float32) * 255).round()
    if not bool(((scaled >= 0) & (scaled <= 255)).all()):
        raise InputError("the pixels to write must be finite and within 0…1: clamp them first.")
    return scaled.to(torch.uint8)


def write_png(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write an image (3, H, W) in 0…1 as 8-bit PNG.

    Raises:
        InputError: The image has another shape, or values outside 0…1.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise InputError(f"an image to write is (3, H, W), got {tuple(image.shape)}.")
    from PIL import Image

    Image.fromarray(checked_8_bit(image).permute(1, 2, 0).contiguous().numpy()).save(path, format="PNG")
