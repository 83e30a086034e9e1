#!/usr/bin/env python3
"""Make the recordings that `eval/stab.yaml` compares: one text by several speakers, in several languages, long clips.

    python recipes/data/speech.py               # first: the corpus, whose splits and files this uses
    python recipes/data/stab.py
    python recipes/data/stab.py --without-kokoro    # without a minute of synthesis; the results differ

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/stab unless `--out` says otherwise: FLAC files (16
kHz, mono, 16 bits) and the manifest `stab.jsonl`, one JSON object a line:

    audio_filepath  below the folder
    duration        seconds
    text            what is said, "" if nobody wrote it down
    lang            ISO 639-1
    speaker         one voice
    source          tuxpaint, fillets, asterisk, hedgewars, librivox, flite, espeak, kokoro; or that of a noise
    split           of the corpus, by text: what is compared is of "test" or "val", and no model was trained on it
    parts           what it is for: speaker, language, long, train, test, noise, babble
    group           the sentence, its set before a colon; the same in all languages
    text_id         the wording: the group and its language

`speaker` are texts that several speakers say, `language` sentences in several languages, `long` single clips of 5 s and
more, to be disturbed and masked. `train` and `test` are items of the corpus's own splits, for codes to be made of and
to be measured on; of `noise` and `babble` backgrounds are mixed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

EXTRA = (
    ("asterisk-prompt-es-co", "0.20070403-2.1", "6702696e045514699e87dc8fb70f370717e5df91f821f7bec8dd0df1be008e83"),
)
# Of the corpus's manifests: which part they are for, and how many seconds of each source at most.
COPIED = (("train", "train", 150.0), ("test", "test", 75.0), ("val", "babble", 30.0))
NUM_NOISES = 60


def main() -> None:
    """Parse the command line; start over inside the corpus's environment, or make the folder when already there."""
    import speech
    from _packages import prepare

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Make the recordings that eval/stab.yaml compares.")
    parser.add_argument("--out", type=Path, default=cache / "stab", help="folder to write (%(default)s)")
    parser.add_argument("--speech", type=Path, default=cache / "speech", help="what speech.py made (%(default)s)")
    parser.add_argument("--env", type=Path, default=cache / "speech-env", help="virtual environment to make or use")
    parser.add_argument("--sources", type=Path, default=cache / "speech-sources", help="downloads (%(default)s)")
    parser.add_argument("--without-kokoro", action="store_true", help="leave out the slow synthesis")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        make(args.out, args.speech, args.sources, not args.without_kokoro, args.workers)
        return
    if not (args.speech / "test.jsonl").exists():
        raise SystemExit(f"{args.speech / 'test.jsonl'} does not exist: run recipes/data/speech.py first.")
    python = prepare(args.env, speech.PINS)
    settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [str(python), __file__, "--inside", *sys.argv[1:]]
    raise SystemExit(subprocess.run(command, env={**os.environ, **settings}, check=False).returncode)


def make(out: Path, corpus: Path, cache: Path, kokoro: bool, workers: int) -> None:
    """Fetch, write the sound files and the manifest, and print what it holds. Called inside the environment."""
    from _packages import fetch_debs
    from _speech import fetch, parallel
    from _speech.audio import number
    from speech import replace

    root = fetch.fetch(cache, kokoro)
    fetch_debs(cache, EXTRA, root)

    wanted = parallel.recordings(root, kokoro)
    with ProcessPoolExecutor(workers) as pool:
        lines = [line for line in pool.map(partial(write_one, root, out), wanted, chunksize=4) if line is not None]
    lines = complete(lines)
    for manifest, part, seconds in COPIED:
        lines += copied(corpus, out, manifest, part, seconds)
    for manifest in ("noise-test", "noise-ood"):
        clips = read(corpus / f"{manifest}.jsonl")
        clips.sort(key=lambda line: number(f"stab {line['audio_filepath']}"))
        lines += [take(corpus, out, line, "test", "noise") for line in clips[: NUM_NOISES // 2]]
    lines.sort(key=lambda line: (line["audio_filepath"], line["group"]))
    written = {line["audio_filepath"] for line in lines}
    for path in out.rglob("*.flac*"):
        if str(path.relative_to(out)) not in written:
            path.unlink()
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    replace(out / "stab.jsonl", text)
    report(out, lines, hashlib.sha256(text.encode()).hexdigest())


def write_one(root: Path, out: Path, recording) -> dict | None:  # noqa: ANN001 - numpy and all are not there yet
    """Write a recording and return its line of the manifest; None if it is silent, or too short or long."""
    from _speech import audio, build

    clip = recording.clip
    samples = build.load(root, clip)
    if samples is None or not recording.seconds[0] <= len(samples) / audio.RATE <= recording.seconds[1]:
        return None
    digest = hashlib.sha256(clip.path.encode()).hexdigest()[:10]
    name = f"audio/{clip.source}/{clip.speaker.removeprefix(f'{clip.source}-').replace('+', '_')}-{digest}.flac"
    if not (out / name).exists():
        audio.write(out / name, samples)
    return {
        "audio_filepath": name,
        "duration": round(len(samples) / audio.RATE, 4),
        "text": clip.text,
        "lang": clip.lang,
        "speaker": clip.speaker,
        "source": clip.source,
        "split": recording.split,
        "parts": list(recording.parts),
        "group": recording.group,
        "text_id": f"{recording.group}@{clip.lang}",
    }


def complete(lines: list[dict]) -> list[dict]:
    """Return lines without those whose group lost what they were to be compared with, and few long ones a source."""
    from _speech import parallel

    speakers, languages, longs = defaultdict(set), defaultdict(set), Counter()
    for line in lines:
        if "speaker" in line["parts"]:
            speakers[line["text_id"]].add(line["speaker"])
        if "language" in line["parts"]:
            languages[line["group"]].add(line["lang"])
    most = Counter()
    for group, langs in languages.items():
        name = group.partition(":")[0]
        most[name] = max(most[name], len(langs))
    kept = []
    for line in lines:
        parts = []
        for part in line["parts"]:
            if part == "speaker" and len(speakers[line["text_id"]]) < 2:
                continue
            if part == "language" and len(languages[line["group"]]) < most[line["group"].partition(":")[0]]:
                continue
            if part == "long":
                if longs[line["source"]] == parallel.NUM_LONG:
                    continue
                longs[line["source"]] += 1
            parts.append(part)
        if parts:
            kept.append({**line, "parts": parts})
    return kept


def copied(corpus: Path, out: Path, manifest: str, part: str, seconds: float) -> list[dict]:
    """Copy so much of each source of one of the corpus's manifests."""
    from _speech.audio import number

    spent: Counter = Counter()
    lines = []
    for line in sorted(read(corpus / f"{manifest}.jsonl"), key=lambda line: number(f"stab {line['audio_filepath']}")):
        if spent[line["source"]] + line["duration"] <= seconds:
            spent[line["source"]] += line["duration"]
            lines.append(take(corpus, out, line, manifest, part))
    return lines


def take(corpus: Path, out: Path, line: dict, split: str, part: str) -> dict:
    """Copy a file of the corpus and return its line of the manifest."""
    name = f"{part}/{line['audio_filepath'].removeprefix('audio/').removeprefix('noise/')}"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(corpus / line["audio_filepath"], out / name)
    group = f"{part}:{line['audio_filepath']}"
    empty = {"text": "", "lang": "", "speaker": ""}
    return {**empty, **line, "audio_filepath": name, "split": split, "parts": [part], "group": group, "text_id": group}


def read(path: Path) -> list[dict]:
    """Return the lines of a manifest."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def report(out: Path, lines: list[dict], digest: str) -> None:
    """Print what there is of each part and source."""
    table = defaultdict(list)
    for line in lines:
        for part in line["parts"]:
            table[part, line["group"].partition(":")[0] if part in ("speaker", "language") else line["source"]].append(
                line
            )
    print(
        "| part | set or source | recordings | groups | speakers | languages | minutes |\n|---|---|---|---|---|---|---|"
    )
    for (part, name), members in sorted(table.items()):
        counts = (len({line[key] for line in members}) for key in ("text_id", "speaker", "lang"))
        minutes = sum(line["duration"] for line in members) / 60
        print(f"| {part} | {name} | {len(members)} | {' | '.join(map(str, counts))} | {minutes:.1f} |")
    print(f"\n{out}\nSHA-256 of the manifest {digest}")


if __name__ == "__main__":
    main()
