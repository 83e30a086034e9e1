#!/usr/bin/env python3
"""Count the ids that change with what must not matter: the batch, its order, its padding, threads, saving and loading.

    python eval/invariance.py stabletoken ~/.cache/tokenizer-zoo/speech/test.jsonl
    python eval/invariance.py ./my-model manifest.jsonl --items 200

Every utterance is encoded alone on one thread, then again in each other way, and ids are compared. For speech
tokenizers; the files are those of a manifest, in its order, evenly picked if there are more than are wanted.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

import zoo
from zoo.data.manifest import read_manifest
from zoo.data.media import read_audio

Ids = list[list[int]]


def encode(tokenizer: zoo.Tokenizer, waves: Sequence[Tensor], size: int, padding: int = 0) -> Ids:
    """Return the ids of waves encoded in batches, whose padding, and so much more of it, holds noise."""
    ids: Ids = []
    for batch in (waves[start : start + size] for start in range(0, len(waves), size)):
        lengths = torch.tensor([len(wave) for wave in batch])
        padded = 0.3 * torch.randn(len(batch), int(lengths.max()) + padding).clamp(-3, 3)
        for row, wave in zip(padded, batch, strict=True):
            row[: len(wave)] = wave
        ids += tokenizer.encode(padded, lengths).tolist()
    return ids


def ways(tokenizer: zoo.Tokenizer, waves: Sequence[Tensor]) -> Iterator[tuple[str, Ids]]:
    """Yield each way of encoding by name, and its ids in the waves' order."""
    for size in (2, 7, 32):
        yield f"batches of {size}", encode(tokenizer, waves, size)
    yield "padded by 3 s", encode(tokenizer, waves, 7, 48_000)
    order = random.Random(0).sample(range(len(waves)), len(waves))
    shuffled = encode(tokenizer, [waves[i] for i in order], 32)
    yield "shuffled", [ids for _, ids in sorted(zip(order, shuffled, strict=True))]
    torch.set_num_threads(2)
    yield "2 threads, alone", encode(tokenizer, waves, 1)
    yield "2 threads, batches of 32", encode(tokenizer, waves, 32)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        yield "saved and loaded", encode(zoo.load(zoo.save(tokenizer, Path(folder) / "x")), waves, 32)


def main() -> int:
    """Measure and print; return 1 if anything changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name, folder or Hub address")
    parser.add_argument("manifest", type=Path, nargs="+", help="JSON lines with audio_filepath and duration")
    parser.add_argument("--items", type=int, default=1000, help="utterances at most (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = zoo.load(arguments.model)
    listed = [utterance for manifest in arguments.manifest for utterance in read_manifest(manifest)]
    step = max(1.0, len(listed) / arguments.items)
    chosen = [listed[int(i * step)] for i in range(min(arguments.items, len(listed)))]
    waves = [read_audio(utterance.path)[0][0] for utterance in chosen]
    start = time.perf_counter()
    alone = encode(tokenizer, waves, 1)
    total = sum(map(len, alone))
    seconds = sum(map(len, waves)) / (tokenizer.spec.sample_rate or 1)
    print(f"{arguments.model}: {len(waves)} utterances, {seconds:.0f} s, {total} tokens")
    changed = 0
    for name, ids in ways(tokenizer, waves):
        wrong = [i for i, (a, b) in enumerate(zip(alone, ids, strict=True)) if a != b]
        changed += len(wrong)
        different = sum(x != y for i in wrong for x, y in zip(alone[i], ids[i], strict=False))
        print(f"{name:26} {different:6} ids in {len(wrong)} utterances changed", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
