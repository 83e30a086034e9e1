"""What a suite of images measures, as YAML read strictly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from zoo import resources
from zoo.errors import CheckpointError, ConfigError
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.suite import DataFolder
from zoo.evaluation.suites.image.photos import photos_in
from zoo.evaluation.utterances import require_no_gripper

__all__ = ["Group", "ImageFiles", "ImageSuite", "Measure", "Network", "Variant"]

Measure = Literal["psnr", "ssim", "st_lpips", "feature_distance", "frechet_distance"]


@dataclass(frozen=True)
class ImageFiles(DataFolder):
    """Which pictures a suite is about.

    Args:
        file: Name of the folder in the library's data cache.
        sha256: Of the files that the published figures are of.
        made_by: The command that makes the folder.
        test: The manifest: JSON lines with `image_filepath` and `source`.
    """

    test: str = "test.jsonl"

    forms: ClassVar[str] = "a folder of pictures, a manifest, or a .tar or .parquet file"

    @property
    def needed(self) -> tuple[str, ...]:
        """The manifest."""
        return (self.test,)


@dataclass(frozen=True)
class Group:
    """Pictures of which figures are also given apart.

    Args:
        name: What the report calls them.
        sources: Where they are from, as the manifest says.
    """

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A frozen network in whose features pictures are compared.

    Args:
        values: As `zoo.components.features.build` takes them; `${cache}` at the beginning of `file` is the library's
            data cache. It returns one layer.
        made_by: The command that makes its weights, "" if there is none.
    """

    values: dict
    made_by: str = ""

    def resolved(self) -> dict[str, Any]:
        """Return the values with the whole path of the file."""
        file = self.values.get("file")
        if not isinstance(file, str):
            return dict(self.values)
        return self.values | {"file": str(resources.expanded(file, CheckpointError))}


@dataclass(frozen=True)
class Variant:
    """A model once more, decoded otherwise.

    Args:
        name: What the report calls it.
        model: Registered name, folder, or Hub address.
        decode: Options of `decode` beside the suite's, or instead of them.
    """

    name: str
    model: str
    decode: dict


@dataclass(frozen=True)
class ImageSuite:
    """A suite for image tokenizers.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to measure on.
        models: Registered names, folders, or `module:function`.
        measures: What is measured of each picture, and of all together.
        features: The network of `feature_distance` and `frechet_distance`; neither is measured if None.
        st_lpips: Weights of ST-LPIPS, a path; those in the package stlpips-pytorch if None.
        variants: Models decoded otherwise.
        peers: Codecs, each with at most the bits that each model's tokens take.
        decode: Options of `decode`, such as `steps`, for the models that declare them.
        seed: Of what a decoder draws.
        size: Height and width of the pictures; None is what the models take, and 256 if they take any. A model that
            takes another size than this gets pictures that are scaled to it, and what it makes is scaled back.
        prefixes: Numbers of tokens that ordered tokenizers decode; None is what a model was trained for.
        groups: Of which pictures figures are also given apart.
        max_items: Pictures to measure on, as many of each source as there are; all if None.
        max_prefix_items: Of these for prefixes; all if None.
        num_examples: Pictures on the page.
        batch_size: Pictures that are encoded and decoded together.
        device: Where models and networks are.
        bootstrap: How intervals are made.
    """

    kind: Literal["image"]
    title: str
    data: ImageFiles
    models: tuple[str, ...]
    measures: tuple[Measure, ...]
    features: Network | None = None
    st_lpips: str | None = None
    variants: tuple[Variant, ...] = ()
    peers: tuple[Literal["JPEG", "WEBP"], ...] = ("JPEG", "WEBP")
    decode: dict = field(default_factory=dict)
    seed: int = 0
    size: int | None = None
    prefixes: tuple[int, ...] | None = None
    groups: tuple[Group, ...] = ()
    max_items: int | None = None
    max_prefix_items: int | None = None
    num_examples: int = 6
    batch_size: int = 16
    device: str = "cpu"
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        for name in ("max_items", "max_prefix_items", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, or null, got {value}.")
        if self.batch_size < 1 or self.num_examples < 0:
            raise ConfigError(
                f"batch_size must be at least 1 and num_examples at least 0, got {self.batch_size} and "
                f"{self.num_examples}."
            )
        lengths = self.prefixes
        if lengths is not None and (not lengths or list(lengths) != sorted(set(lengths)) or lengths[0] < 1):
            raise ConfigError(f"prefixes must ascend from at least 1 token, or be null, got {list(lengths)}.")
        if self.features is None and (lacking := {"feature_distance", "frechet_distance"} & set(self.measures)):
            raise ConfigError(f"{' and '.join(sorted(lacking))} are of a network: name it under features.")

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> ImageSuite:
        """Return the suite for pictures that somebody points at, called by their name; itself for a set like its own.

        Nobody says of which sources they are, so that there are no groups.
        """
        require_no_gripper(gripper)
        if path.is_dir() and self.data.has_form(path):
            known = {source for group in self.groups for source in group.sources}
            if not known or any(photo.source in known for photo in photos_in(path, self.data.test)):
                return self
        title = f"{self.title}: {path.resolve().name}"
        return replace(self, title=title, data=replace(self.data, sha256=""), groups=())
