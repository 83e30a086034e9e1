"""The rows of the table of a suite of images."""

from __future__ import annotations

from dataclasses import replace

from zoo.evaluation.report import Column, Report

__all__ = ["COLUMNS", "MEASURES", "more_columns"]

MEASURES = (
    Column("psnr", "PSNR, dB", "{:.2f}"),
    Column("ssim", "SSIM", "{:.3f}"),
    Column("st_lpips", "ST-LPIPS", "{:.3f}"),
    Column("feature_distance", "feature distance", "{:.1f}"),
    Column("frechet_distance", "Fréchet distance of features", "{:.1f}", False),
)
"""Of pictures."""

COLUMNS = (
    *MEASURES,
    Column("exact", "pictures as the original, of 100 dB, share", "{:.3f}", False),
    Column("bits", "bits a picture", "{:.0f}", False),
    Column("bits_per_pixel", "bits a pixel", "{:.3f}", False),
    Column("tokens", "tokens a picture", "{:.1f}", False),
    Column("latents", "latent numbers a picture", "{:.0f}", False),
    Column("codebook_use", "codebook used, %", "{:.1f}", False),
    Column("codebook_use_even", "the same if all ids were as frequent, %", "{:.1f}", False),
    Column("perplexity", "perplexity of ids", "{:.0f}", False),
    Column("file_bits", "bits of the whole file", "{:.0f}", False),
    Column("coded_side", "coded at, pixels a side", "{:.1f}", False),
    Column("quality", "quality setting", "{:.1f}", False),
    Column("encode_per_second", "pictures encoded a second", "{:.1f}", False),
    Column("decode_per_second", "pictures decoded a second", "{:.1f}", False),
    Column("round_trip_per_second", "pictures made a second", "{:.1f}", False),
    Column("peak_memory", "memory of the accelerator beside weights, MiB", "{:.0f}", False),
)
"""The table without what depends on the data and the models."""

# Of these the first that was measured has rows for groups beside PSNR, the first two for prefixes; results have all.
_PERCEIVED = ("st_lpips", "feature_distance", "ssim")


def more_columns(report: Report) -> list[Column]:
    """Return rows for groups of pictures, and for the first tokens of ordered tokenizers."""
    measured = {name for figures in report.models.values() for name, figure in figures.items() if not figure.reason}
    perceived = [name for name in _PERCEIVED if name in measured]
    of_groups, of_prefixes = (
        [column for column in MEASURES if column.key in ("psnr", *perceived[:count])] for count in (1, 2)
    )
    lengths = sorted({length for found in report.data["prefixes"].values() for length in found})
    return [
        replace(column, key=f"{column.key}@{group}", title=f"{column.title}; {group}")
        for group in report.data["groups"]
        for column in of_groups
    ] + [
        replace(
            column,
            key=f"{column.key}@{length} tokens",
            title=f"{column.title}; first {'token' if length == 1 else f'{length} tokens'}",
        )
        for column in of_prefixes
        for length in lengths
    ]
