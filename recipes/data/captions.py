#!/usr/bin/env python3
"""Make a set of pictures with captions from packages of Debian and npm.

    zoo data captions

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/captions unless `--out` says otherwise. The script
downloads 390 MB once, makes a virtual environment of its own in the cache (100 MB) and runs itself inside it. It needs
Python >= 3.11, x86-64 Linux with `apt-get` and `dpkg` (no root), pip and npm; it imports nothing of this library.

    train.jsonl, val.jsonl, test.jsonl   one JSON object a line
        image_filepath  below the manifest's folder: JPEG, 128 × 128, 4:4:4, quality 95
        text            its caption, such as "small yellow daffodil, flower, at the left, on blue"
        source          clipart, stamps or emoji

**Choice.** Drawings and cut-out photographs whose package says what they show: titles and keywords of Open Clip Art,
the English texts of Tux Paint's stamps, the names of Google's emoji. Left out are those without a telling text, plain
shapes, patterns, maps, playing cards, flags and symbols (`_captions/sources.py`).
**Composition.** Each picture is laid on a ground of one colour, large in the middle or small in one of five places, so
that a caption can say something that is to be seen: it names size, main colours, what it is, place and ground, all of
them as drawn. A training picture is composed three times, others once. Do not mirror them: captions name sides.
**Split.** By group: pictures of one text, of one name but for numbers, or that look alike are in one split.
**Licences.** Open Clip Art is in the public domain, Tux Paint's stamps are GPL-2, the emoji Apache-2.0. Two runs give
the same bytes.
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

from _packages import fetch_debs, prepare, run, unpack

PINS = ("numpy==2.4.6", "pillow==13.0.0")
DEBS = (
    ("openclipart-png", "1:0.18+dfsg-19", "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02"),
    ("openclipart-svg", "1:0.18+dfsg-19", "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"),
    ("tuxpaint-stamps-default", "2022.06.04-1", "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"),
)
TARBALLS = (("emoji-datasource-google", "16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),)
SPLITS = ("train", "val", "test")


def main() -> None:
    """Parse the command line; install and start over inside the environment, or make the set when already there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Make a set of pictures with captions from packages.")
    parser.add_argument("--out", type=Path, default=cache / "captions", help="folder to write (%(default)s)")
    parser.add_argument("--env", type=Path, default=cache / "captions-env", help="virtual environment to make or use")
    parser.add_argument("--sources", type=Path, default=cache / "captions-sources", help="downloads (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        make(args.out, args.sources, args.workers)
        return
    python = prepare(args.env, PINS)
    raise SystemExit(subprocess.run([str(python), __file__, "--inside", *sys.argv[1:]], check=False).returncode)


def make(out: Path, cache: Path, workers: int) -> None:
    """Fetch, compose, write, and say what was made. Called inside the environment."""
    from _captions import build, sources

    root = cache / "root"
    fetch_debs(cache, DEBS, root)
    for name, version, digest in TARBALLS:
        path = cache / "downloads" / f"{name}-{version}.tgz"
        if not path.exists():
            run(["npm", "pack", f"{name}@{version}", "--pack-destination", str(path.parent)], "The npm registry")
        unpack(path, digest, root / "npm" / name, cache)
    pictures = sources.pictures(root)
    with ProcessPoolExecutor(workers) as pool:
        smalls = list(pool.map(partial(build.small, root), pictures, chunksize=16))
        kept = [(picture, one) for picture, one in zip(pictures, smalls, strict=True) if one is not None]
        pictures = [picture for picture, _ in kept]
        groups = build.grouped(pictures, [one for _, one in kept])
        splits = build.split_groups(pictures, groups)
        made = list(pool.map(partial(build.make, root, out), pictures, splits, chunksize=16))
    print(f"{len(smalls)} pictures, {len(pictures)} of a usable size, in {len(set(groups))} groups")
    lines = [{**line, "split": split} for split, several in zip(splits, made, strict=True) for line in several]
    written = {line["image_filepath"] for line in lines}
    for path in (path for source in {picture.source for picture in pictures} for path in (out / source).iterdir()):
        if str(path.relative_to(out)) not in written:  # of an earlier version of this script, or cut off
            path.unlink()
    write_manifests(out, lines)


def write_manifests(out: Path, lines: list[dict]) -> None:
    """Write a manifest for each split, and print what they hold."""
    manifests, digest = hashlib.sha256(), hashlib.sha256()
    for split in SPLITS:
        shown = ({k: v for k, v in line.items() if k != "split"} for line in lines if line["split"] == split)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in shown)
        part = out / f"{split}.jsonl.part"
        part.write_text(text, encoding="utf-8")
        part.replace(out / f"{split}.jsonl")
        manifests.update(text.encode())
    counts = Counter((line["source"], line["split"]) for line in lines)
    print("\n| pictures | " + " | ".join(SPLITS) + " |\n|---|" + "---|" * len(SPLITS))
    for source in sorted({line["source"] for line in lines}):
        print(f"| {source} | " + " | ".join(str(counts[source, split]) for split in SPLITS) + " |")
    print("| all | " + " | ".join(str(sum(line["split"] == split for line in lines)) for split in SPLITS) + " |")
    for line in lines:
        digest.update((out / line["image_filepath"]).read_bytes())
    print(f"\n{out}\nSHA-256 of the manifests {manifests.hexdigest()}\nSHA-256 of the pictures  {digest.hexdigest()}")


if __name__ == "__main__":
    main()
