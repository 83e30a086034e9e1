#!/usr/bin/env python3
"""Encode speed and peak memory of StableToken against the bare network and transformers' encoder, in one run.

    python eval/benchmarks/speech.py
    python eval/benchmarks/speech.py --threads 2 --models stabletoken.nano
    python eval/benchmarks/speech.py --models stabletoken.large --seconds 30 --turns 2   # minutes; 3 GB
    python eval/benchmarks/speech.py --fast --models stabletoken.nano --turns 3          # fast mode against exact mode

* bare: the encoder's own layers on a mel spectrum that is there already, called as one usual batched forward pass: no
  features, no vote, no promise about ids.
* library: transformers' `WhisperEncoder` with as many layers of the same sizes, on a mel spectrum that is there. It
  takes 30 s, no more and no less, and gives vectors at twice the rate, not ids.
* ours: `tokenizer.encode(wave)`, from samples to ids that depend on nothing but the wave.

Random waves of 5 and 30 s, if not of others; best of several calls, taking turns. Memory is what a call adds to the
peak of a process of its own.

With --fast, `exact=False` against exact mode instead, on 32 clips of 5 s at once, on one thread and on two: time, and
the share of ids that differ. The clips are the sample that ships, begun at 32 places.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import zoo
from zoo.data.media import read_audio
from zoo.families.stabletoken import PRESETS, StableTokenTokenizer

Calls = dict[str, Callable[[], object]]

SAMPLE = Path(zoo.__file__).parent / "data/samples/austen.flac"
FAST_BATCH = (32, 5)  # clips, and seconds of each


def load(name: str, layers: int | None = None) -> StableTokenTokenizer:
    """Return a tokenizer by name; a preset that does not ship has random weights, as one cut to some layers has."""
    if layers is not None:
        config = PRESETS[name.partition(".")[2]]
        torch.manual_seed(0)
        tokenizer = StableTokenTokenizer(replace(config, num_layers=layers, pooling_position=layers)).eval()
    elif name in zoo.list_models() and zoo.info(name)["is_shipped"]:
        tokenizer = zoo.load(name)
    else:
        torch.manual_seed(0)
        tokenizer = StableTokenTokenizer(PRESETS[name.partition(".")[2]]).eval()
    if not isinstance(tokenizer, StableTokenTokenizer):
        raise SystemExit(f"{name} is not a StableToken model.")
    return tokenizer


def calls(tokenizer: StableTokenTokenizer, wave: Tensor) -> Calls:
    """Return what is compared."""
    mel = tokenizer.features.alone(wave)
    frames = torch.tensor([-(-len(wave) // tokenizer.config.hop_length)])
    library = whisper_encoder(tokenizer)
    whole = torch.zeros(1, len(mel[0]), 2 * tokenizer.config.max_positions)
    return {
        "bare": lambda: tokenizer.encoder(mel, frames),
        "library": lambda: library(whole),
        "ours": lambda: tokenizer.encode(wave),
    }


def whisper_encoder(tokenizer: StableTokenTokenizer) -> Callable[[Tensor], object]:
    """Return transformers' encoder of the same sizes, with random weights."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = tokenizer.config
    sizes = WhisperConfig(
        d_model=config.d_model,
        encoder_layers=config.num_layers,
        encoder_attention_heads=config.num_heads,
        encoder_ffn_dim=config.ffn_size,
        num_mel_bins=config.num_mel,
        max_source_positions=config.max_positions,
    )
    encoder: Callable[[Tensor], object] = WhisperEncoder(sizes).eval()
    return encoder


def best(compared: Calls, turns: int) -> dict[str, float]:
    """Return each call's best time in seconds."""
    times = dict.fromkeys(compared, float("inf"))
    for call in compared.values():
        call()
    for _ in range(turns):
        for name, call in compared.items():
            start = time.perf_counter()
            call()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def peak(model: str, seconds: float, which: str, threads: int, layers: int | None) -> float:
    """Return the MiB that a call adds to the peak of a process of its own."""
    command = [sys.executable, __file__, "--models", model, "--threads", str(threads), "--probe", which, str(seconds)]
    command += [] if layers is None else ["--layers", str(layers)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def probe(model: str, which: str, seconds: float, layers: int | None) -> None:
    """Print what `peak` asks for."""
    tokenizer = load(model, layers)
    with torch.inference_mode():
        compared = calls(tokenizer, _wave(tokenizer, seconds))
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, which loading may have set
        before = _peak()
        compared[which]()
        print(_peak() - before)


def _peak() -> float:
    """Return the process's peak in MiB; Linux only."""
    status = Path("/proc/self/status").read_text()
    return float(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024


def _wave(tokenizer: StableTokenTokenizer, seconds: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(round(seconds * tokenizer.config.sample_rate), generator=generator)


def fast_rows(name: str, tokenizer: StableTokenTokenizer, turns: int) -> Iterator[str]:
    """Yield lines that compare fast mode with exact mode, by threads and dtype."""
    wave = read_audio(SAMPLE)[0][0]
    count, size = FAST_BATCH
    places = range(0, len(wave), -(-len(wave) // count))
    clips = torch.stack([wave.roll(-place)[: size * tokenizer.config.sample_rate] for place in places])
    modes = {"exact float32": tokenizer}
    for dtype in (torch.float32, torch.bfloat16):
        other = copy.deepcopy(tokenizer)
        other.is_exact = False
        modes[f"fast {str(dtype).removeprefix('torch.')}"] = other.to_dtype(dtype)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        took = best({mode: lambda one=one: one.encode(clips) for mode, one in modes.items()}, turns)
        exact = tokenizer.encode(clips).ids
        for mode, one in modes.items():
            seconds = took[mode]
            changed = (one.encode(clips).ids != exact).float().mean()
            yield (
                f"{name:18} {threads:7} {mode:14} {seconds:8.3f} {seconds / took['exact float32']:8.2f} "
                f"{clips.numel() / tokenizer.config.sample_rate / seconds:11.1f} {changed:11.2%}"
            )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["stabletoken.nano", "stabletoken.large"])
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="calls of each, after one more (%(default)s)")
    parser.add_argument("--seconds", nargs="+", type=float, default=[5.0, 30.0], help="of speech (5 30)")
    parser.add_argument("--layers", type=int, help="cut the networks to so many layers; memory hardly depends on it")
    parser.add_argument("--fast", action="store_true", help="compare fast mode with exact mode instead")
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.probe:
        probe(arguments.models[0], arguments.probe[0], float(arguments.probe[1]), arguments.layers)
        return
    print(
        f"tokenizer-zoo {zoo.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, "
        + (
            "batch {} of {} s".format(*FAST_BATCH)
            if arguments.fast
            else f"{arguments.threads} thread(s), float32, batch 1"
        )
        + ("" if arguments.layers is None else f", {arguments.layers} layers of each network")
    )
    if arguments.fast:
        print(f"{'':18} threads {'':14}  seconds  / exact × real time ids changed")
        for name in arguments.models:
            for row in fast_rows(name, load(name, arguments.layers), arguments.turns):
                print(row, flush=True)
        return
    titles = f"{'bare s':>8} {'lib. s':>8} {'ours s':>8} {'ours/bare':>10} {'ours/lib.':>10} {'× real time':>12}"
    titles += f" {'MiB bare':>9} {'lib.':>6} {'ours':>6}"
    print(f"{'':18} {'speech':>7} {titles}")
    for name in arguments.models:
        tokenizer = load(name, arguments.layers)
        for seconds in arguments.seconds:
            with torch.inference_mode():
                took = best(calls(tokenizer, _wave(tokenizer, seconds)), arguments.turns)
            bare, library, ours = took.values()
            figures = f"{bare:8.3f} {library:8.3f} {ours:8.3f} {ours / bare:10.2f} {ours / library:10.2f}"
            memory = " ".join(
                f"{peak(name, seconds, which, arguments.threads, arguments.layers):6.0f}" for which in took
            )
            print(f"{name:18} {seconds:5.0f} s {figures} {seconds / ours:12.1f}    {memory}", flush=True)


if __name__ == "__main__":
    main()
