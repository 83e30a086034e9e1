"""The rows of the table of a suite of videos."""

from __future__ import annotations

from dataclasses import replace

from zoo.evaluation.report import Column
from zoo.evaluation.suites.image.columns import COLUMNS as OF_PICTURES

__all__ = ["COLUMNS", "MEASURES"]

_TITLES = {
    "exact": "frames as the original, of 100 dB, share",
    "bits": "bits a clip",
    "tokens": "tokens a clip",
    "latents": "latent numbers a clip",
    "encode_per_second": "clips encoded a second",
    "decode_per_second": "clips decoded a second",
    "round_trip_per_second": "clips made a second",
}
_FLICKER = Column("flicker", "flicker, relative to motion", "{:.2f}")
_BIT_RATE = Column("bits_per_second", "bits a second", "{:.0f}", False)


def _columns() -> tuple[Column, ...]:
    rows = []
    for column in OF_PICTURES:
        rows.append(replace(column, title=_TITLES.get(column.key, column.title)))
        rows += {"st_lpips": [_FLICKER], "bits_per_pixel": [_BIT_RATE]}.get(column.key, [])
    return tuple(rows)


COLUMNS = _columns()
"""The table without what depends on the data and the models."""

_MEASURED = ("psnr", "ssim", "st_lpips", "flicker", "feature_distance", "frechet_distance")
MEASURES = tuple(column for column in COLUMNS if column.key in _MEASURED)
"""Of clips."""
