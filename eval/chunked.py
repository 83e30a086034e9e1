#!/usr/bin/env python3
"""Count the tokens that change when long speech is cut otherwise than into segments of 30 s.

    python eval/chunked.py stabletoken ~/.cache/tokenizer-zoo/speech/test.jsonl -o chunked.json
    python eval/chunked.py ./my-model manifest.jsonl --clips 2 --seconds 60

StableToken is no streaming model: a token depends on all that is encoded with it. Compared with `encode(wave)` are,
token by token, segments that overlap (`encode(wave, overlap=…)`), chunks with surroundings (`encode_chunks`), and, to
see what a cut alone does, segments that begin 15 s later.

A clip is what one speaker of the manifest says, utterance after utterance, until it is long enough; speakers in the
order of how much there is of them, synthesisers left out. Intervals are 95 % bootstrap ones over clips. The sample that
ships with the library, 5.3 s, is a row of its own: no segment ends within it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import zoo
from zoo.data.manifest import Utterance, read_manifest
from zoo.data.media import read_audio
from zoo.evaluation.suite import environment
from zoo.families.stabletoken import StableTokenTokenizer
from zoo.metrics.bootstrap import bootstrap_interval

Encode = Callable[[Tensor], list[int]]

_SYNTHESISERS = ("flite", "kokoro", "piper", "espeak")
_OVERLAPS = (2.0, 5.0)
_CHUNKS = (2.0, 5.0, 10.0)
_SURROUNDINGS = (0.0, 1.0, 2.0, 5.0)
_LATER = 15


def clips(manifest: Path, num: int, seconds: float) -> dict[str, Tensor]:
    """Return waves by speaker, each at least `seconds` long."""
    said: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in read_manifest(manifest):
        if not utterance.source.startswith(_SYNTHESISERS):
            said[utterance.speaker].append(utterance)
    amounts = {speaker: sum(each.duration for each in listed) for speaker, listed in said.items()}
    enough = sorted((name for name in amounts if amounts[name] >= seconds), key=lambda name: (-amounts[name], name))
    waves = {}
    for speaker in enough[:num]:
        parts, total = [], 0.0
        for utterance in said[speaker]:
            if total < seconds:
                parts.append(read_audio(utterance.path)[0][0])
                total += utterance.duration
        waves[speaker] = torch.cat(parts)
    return waves


def ways(tokenizer: StableTokenTokenizer) -> dict[str, Encode]:
    """Return the ways of encoding by name."""

    def overlapped(seconds: float) -> Encode:
        return lambda wave: tokenizer.encode(wave, overlap=seconds).tolist()[0]

    def chunked(chunk: float, around: float) -> Encode:
        def encode(wave: Tensor) -> list[int]:
            parts = tokenizer.encode_chunks(wave, chunk=chunk, left=around, right=around)
            return [token for part in parts for token in part.tolist()[0]]

        return encode

    found = {f"overlap {seconds:g} s": overlapped(seconds) for seconds in _OVERLAPS}
    for chunk in _CHUNKS:
        for around in _SURROUNDINGS:
            found[f"chunk {chunk:g} s, {around:g} s on either side"] = chunked(chunk, around)
    return found


def changed(tokens: list[int], plain: list[int]) -> float:
    """Return the share of tokens that differ, of equally many."""
    if len(tokens) != len(plain):
        raise SystemExit(f"{len(tokens)} tokens instead of {len(plain)}: none may be lost or doubled.")
    return sum(a != b for a, b in zip(tokens, plain, strict=True)) / len(plain)


def main() -> None:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name, folder or Hub address of a StableToken model")
    parser.add_argument("manifest", type=Path, help="JSON lines with audio_filepath, duration, speaker and source")
    parser.add_argument("--clips", type=int, default=6, help="speakers at most (%(default)s)")
    parser.add_argument("--seconds", type=float, default=90.0, help="of each at least (%(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    tokenizer = zoo.load(arguments.model)
    if not isinstance(tokenizer, StableTokenTokenizer):
        raise SystemExit(f"{arguments.model} is not a StableToken model.")
    start = time.perf_counter()
    waves = clips(arguments.manifest, arguments.clips, arguments.seconds)
    if not waves:
        raise SystemExit(
            f"no speaker of {arguments.manifest} has {arguments.seconds:g} s: ask for less with --seconds."
        )
    sample = read_audio(Path(zoo.__file__).parent / "data" / "samples" / "austen.flac")[0][0]
    plain = {speaker: tokenizer.encode(wave).tolist()[0] for speaker, wave in waves.items()}
    of_sample = tokenizer.encode(sample).tolist()[0]
    rate = int(tokenizer.spec.sample_rate or 1)
    later = _LATER * rate // tokenizer.config.token_samples
    shares = {
        f"segments that begin {_LATER} s later": [
            changed(tokenizer.encode(wave[_LATER * rate :]).tolist()[0], plain[speaker][later:])
            for speaker, wave in waves.items()
        ]
    }
    sample_shares: dict[str, float] = {}
    for name, encode in ways(tokenizer).items():
        shares[name] = [changed(encode(wave), plain[speaker]) for speaker, wave in waves.items()]
        sample_shares[name] = changed(encode(sample), of_sample)
    rows = {}
    seconds = sum(map(len, waves.values())) / rate
    print(f"{tokenizer.name}: {len(waves)} clips, {seconds:.0f} s, {sum(map(len, plain.values()))} tokens")
    print("| cut | tokens that change | of the sample |\n|---|---|---|")
    for name, values in shares.items():
        interval = bootstrap_interval(values)
        rows[name] = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
        alone = sample_shares.get(name)
        rows[name] |= {} if alone is None else {"sample": alone}
        shown = "" if alone is None else f"{100 * alone:.1f} %"
        spread = f"{100 * interval.low:.1f} … {100 * interval.high:.1f}"
        print(f"| {name} | {100 * interval.estimate:.1f} % ({spread}) | {shown} |")
    print(f"{time.perf_counter() - start:.0f} s")
    if arguments.output:
        report = {
            "format": "tokenizer-zoo-chunked",
            "model": tokenizer.name,
            "clips": {speaker: len(wave) / rate for speaker, wave in waves.items()},
            "tokens": sum(map(len, plain.values())),
            "changed": rows,
            "environment": environment(),
        }
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
