"""Pictures for training: folders, class folders, manifests, tar shards, Parquet and Arrow tables."""

from zoo.data.images.module import ImageBatch, ImageData, ImageItems

__all__ = ["ImageBatch", "ImageData", "ImageItems"]
