"""What a suite of captioned images measures, as YAML read strictly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from zoo.errors import ConfigError
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.suites.image.config import ImageFiles, Measure, Network
from zoo.evaluation.utterances import require_no_gripper

__all__ = ["HOWS", "CaptionSuite", "How"]

How = Literal["true", "none", "shuffled", "swapped"]

HOWS: dict[How, str] = {
    "true": "its caption",
    "none": "no caption",
    "shuffled": "another's caption",
    "swapped": "decoded with another's",
}
"""What a picture is encoded and decoded with, and what that is called."""


@dataclass(frozen=True)
class CaptionSuite:
    """A suite for image tokenizers that read captions, and for those beside them that do not.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to measure on: pictures with captions.
        models: Registered names, or folders.
        measures: What is measured of each picture.
        baseline: The model without text that the others are compared with, picture by picture; none if "".
        features: The network of `feature_distance`.
        st_lpips: Weights of ST-LPIPS, a path; those in the package stlpips-pytorch if None.
        max_items: Pictures to measure on, as many of each source as there are; all if None.
        num_examples: Pictures on the page.
        batch_size: Pictures that are encoded and decoded together.
        device: Where models and networks are.
        bootstrap: How intervals are made.
    """

    kind: Literal["captions"]
    title: str
    data: ImageFiles
    models: tuple[str, ...]
    measures: tuple[Measure, ...] = ("psnr",)
    baseline: str = ""
    features: Network | None = None
    st_lpips: str | None = None
    max_items: int | None = None
    num_examples: int = 6
    batch_size: int = 16
    device: str = "cpu"
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 2:
            raise ConfigError(f"max_items must be at least 2, so that captions can be exchanged, got {self.max_items}.")
        if self.batch_size < 1 or self.num_examples < 0:
            raise ConfigError(
                f"batch_size must be at least 1 and num_examples at least 0, got {self.batch_size} and "
                f"{self.num_examples}."
            )
        if "frechet_distance" in self.measures:
            raise ConfigError("frechet_distance is of sets: the suite of images measures it.")
        if not self.measures:
            raise ConfigError("measures must name at least one, such as psnr.")
        if self.features is None and "feature_distance" in self.measures:
            raise ConfigError("feature_distance is of a network: name it under features.")

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> CaptionSuite:
        """Return the suite for pictures somebody points at, called by their name; itself for a set like its own."""
        require_no_gripper(gripper)
        if path.is_dir() and self.data.has_form(path):
            return self
        title = f"{self.title}: {path.resolve().name}"
        return replace(self, title=title, data=replace(self.data, sha256=""))
