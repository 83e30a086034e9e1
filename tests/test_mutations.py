"""Thousands of inputs that are wrong somewhere: each is used, or refused by an error of the library. Nothing else.

A few of each kind run always. All of them: `pytest -m mutations tests/test_mutations.py`; a fault's number is its seed.
"""

import json
import random
import shutil
import warnings
from typing import ClassVar

import flextok_released
import generator_plain
import larp_released
import numpy as np
import pytest
import soundfile
import torch
import yaml
from checkpoint_tools import seal
from mutations import mutate_bytes, mutate_values, time_limit
from safetensors.torch import load_file, save_file
from sounds import muxed
from tiny_stabletoken import TINY_DECODER, make
from tiny_textok import WordStates

import zoo
from zoo import registry, resources, tokenfile
from zoo.components.text import KnownCaptions, Precomputed
from zoo.data.actions import read_actions
from zoo.data.audio import read_audio
from zoo.data.images.layouts import find_pictures
from zoo.data.manifest import read_manifest
from zoo.errors import ZooError
from zoo.evaluation.suite import read_suite
from zoo.families.stabletoken.official import folder as official
from zoo.generator import GeneratorConfig, TokenGenerator

FEW, MANY, SECONDS = 6, 400, 5.0


class Kind:
    """One kind of input: `make(folder)` writes it once, `change(folder, random)` damages it, `use(folder)` reads it."""


def _dump(values):
    return json.dumps(values).encode("utf-8", "surrogatepass")


class TokenFile(Kind):
    def make(self, folder):
        tokenizer = zoo.load("binning")
        tokenfile.save(folder / "x.zoo", tokenizer.encode(torch.zeros(3, 20, 4)), tokenizer)

    def change(self, folder, random):
        (folder / "x.zoo").write_bytes(mutate_bytes((folder / "x.zoo").read_bytes(), random))

    def use(self, folder):
        tokenfile.load(folder / "x.zoo")


class Checkpoint(Kind):
    """A config by value or by byte, or weights with the right digest."""

    def __init__(self, name):
        self.name = name

    def make(self, folder):
        if self.name == "stabletoken":
            zoo.save(make(decoder=TINY_DECODER), folder / "m", name="stabletoken.tiny")
        else:
            zoo.save(zoo.load(self.name), folder / "m")

    def change(self, folder, random):
        path = folder / "m" / "config.json"
        kind = random.randrange(4)
        if kind == 0:
            path.write_bytes(mutate_bytes(path.read_bytes(), random))
        elif kind == 1:
            path.write_bytes(_dump(mutate_values(json.loads(path.read_text()), random)))
        elif kind == 2:
            values = json.loads(path.read_text())
            path.write_bytes(_dump(values | {"config": mutate_values(values["config"], random)}))
        else:
            weights = random.choice(sorted(folder.glob("m/*.safetensors")))
            tensors = load_file(weights)
            key = random.choice(sorted(tensors))
            value = tensors[key].clone()
            if value.numel():
                flat = value.view(-1)
                numbers = (0, 1, -1, 1e30, 3e38, 1e-40) if value.is_floating_point() else (0, 1, 2**31 - 1)
                flat[random.randrange(len(flat))] = random.choice(numbers)
            tensors[key] = random.choice(
                (value, value.flatten()[:-1], value.unsqueeze(0), value.double(), value.bool())
            )
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights)
            seal(folder / "m")

    def use(self, folder):
        tokenizer = zoo.load(folder / "m")
        if tokenizer.spec.modality == "speech":
            signal = 0.1 * torch.sin(torch.arange(1600) * 0.05)[None]
        else:
            horizon, dofs = tokenizer.spec.input_size
            signal = torch.linspace(-0.1, 0.1, horizon * dofs).view(1, horizon, dofs)
        tokens = tokenizer.encode(signal)
        decoded = tokenizer.decode(tokens)
        assert bool(torch.isfinite(decoded).all()), "a signal that is not finite"


class Released(Kind):
    """StableToken's released layout."""

    def make(self, folder):
        official.write(make(stored_positions=True, decoder=TINY_DECODER), folder / "m")

    def change(self, folder, random):
        path = random.choice(sorted(path for path in (folder / "m").rglob("*") if path.suffix in (".json", ".yaml")))
        if path.suffix == ".json" and random.random() < 0.7:
            path.write_bytes(_dump(mutate_values(json.loads(path.read_text()), random)))
        elif random.random() < 0.5:
            path.write_text(yaml.safe_dump(mutate_values(yaml.safe_load(path.read_text()), random)))
        else:
            path.write_bytes(mutate_bytes(path.read_bytes(), random))

    def use(self, folder):
        zoo.load(folder / "m")


class ReleasedFlexTok(Released):
    """FlexTok's released layout."""

    def make(self, folder):
        flextok_released.write(folder / "m")


class ReleasedLARP(Released):
    """LARP's released layout."""

    def make(self, folder):
        larp_released.write(folder / "m")


class GeneratorCheckpoint(Checkpoint):
    """A generator over ids, of one class of three, with an end."""

    def make(self, folder):
        config = GeneratorConfig("action", 7, 5, has_end=True, num_classes=3, width=8, num_layers=1, num_heads=2)
        zoo.save(TokenGenerator(config), folder / "m", name="generator.tiny")

    def use(self, folder):
        zoo.load_generator(folder / "m").sample(labels=[0])


class ReleasedGenerator(Released):
    """The layout in which LARP's authors released theirs."""

    def make(self, folder):
        (folder / "m").mkdir()
        save_file(generator_plain.tensors(generator_plain.SMALL), folder / "m" / "model.safetensors")
        (folder / "m" / "config.json").write_text(json.dumps(generator_plain.SMALL))

    def use(self, folder):
        zoo.load_generator(folder / "m").sample()


class Registry(Kind):
    def make(self, folder):
        shutil.copy(resources.path("checkpoints", "registry.yaml"), folder / "r.yaml")

    def change(self, folder, random):
        content = (folder / "r.yaml").read_bytes()
        if random.random() < 0.5:
            values = mutate_values(yaml.safe_load(content), random)
            (folder / "r.yaml").write_text(yaml.safe_dump(values), encoding="utf-8", errors="surrogatepass")
        else:
            (folder / "r.yaml").write_bytes(mutate_bytes(content, random))

    def use(self, folder):
        registry.parse((folder / "r.yaml").read_bytes().decode(errors="replace"))


class SuiteFile(Registry):
    def __init__(self, name):
        self.name = name

    def make(self, folder):
        shutil.copy(resources.path("eval", f"{self.name}.yaml"), folder / "r.yaml")

    def use(self, folder):
        read_suite(folder / "r.yaml")


class Manifest(Kind):
    LINE: ClassVar = {"audio_filepath": "a.wav", "duration": 1.0, "offset": 0.0, "text": "a\u2028b", "lang": "en"}

    def make(self, folder):
        (folder / "m.jsonl").write_bytes(_dump(self.LINE) + b"\n" + _dump(self.LINE) + b"\n")

    def change(self, folder, random):
        if random.random() < 0.5:
            (folder / "m.jsonl").write_bytes(_dump(mutate_values(self.LINE, random)))
        else:
            (folder / "m.jsonl").write_bytes(mutate_bytes((folder / "m.jsonl").read_bytes(), random))

    def use(self, folder):
        read_manifest(folder / "m.jsonl")


class CocoCaptions(Kind):
    TOLD: ClassVar = {
        "images": [{"id": 7, "file_name": "1.png"}],
        "annotations": [{"image_id": 7, "caption": "a cat"}, {"image_id": 7, "caption": "a dog"}],
    }

    def make(self, folder):
        (folder / "annotations").mkdir()
        (folder / "annotations/captions_train.json").write_bytes(_dump(self.TOLD))
        (folder / "1.png").write_bytes(b"")

    def change(self, folder, random):
        path = folder / "annotations/captions_train.json"
        is_value = random.random() < 0.7
        path.write_bytes(
            _dump(mutate_values(self.TOLD, random)) if is_value else mutate_bytes(_dump(self.TOLD), random)
        )

    def use(self, folder):
        pictures = find_pictures(folder, "train", {})
        for number in range(len(pictures)):
            pictures.read(number)


class KnownStates(Kind):
    """States of captions, as a checkpoint that reads captions brings some."""

    def make(self, folder):
        known = KnownCaptions.of(WordStates(), ["a cat", "two dogs"])
        (folder / "captions.safetensors").write_bytes(known.to_bytes())

    def change(self, folder, random):
        path = folder / "captions.safetensors"
        path.write_bytes(mutate_bytes(path.read_bytes(), random))

    def use(self, folder):
        known = KnownCaptions.from_file(folder / "captions.safetensors")
        Precomputed(known, 6).encode(["a cat", *known.captions])


class Actions(Kind):
    def __init__(self, suffix):
        self.suffix = suffix

    def make(self, folder):
        values = np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2)
        path = folder / f"a{self.suffix}"
        if self.suffix == ".npy":
            np.save(path, values)
        elif self.suffix == ".npz":
            np.savez(path, action=values, offsets=np.array([0, 8, 20]), dof_names=np.array(["x", "y"]))
        elif self.suffix == ".csv":
            rows = [f"{number // 8},{number},{x},{y}" for number, (x, y) in enumerate(values)]
            path.write_text("\n".join(["episode,step,x,y", *rows]))
        else:
            arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            columns = {"action": values.tolist(), "episode_index": [0] * 8 + [1] * 12}
            parquet.write_table(arrow.table(columns), path)

    def change(self, folder, random):
        path = folder / f"a{self.suffix}"
        path.write_bytes(mutate_bytes(path.read_bytes(), random))

    def use(self, folder):
        read_actions(folder / f"a{self.suffix}")


class Sound(Kind):
    def __init__(self, suffix):
        self.suffix = suffix

    def make(self, folder):
        soundfile.write(folder / f"a{self.suffix}", 0.3 * np.sin(0.05 * np.arange(8000)), 16000)

    def change(self, folder, random):
        path = folder / f"a{self.suffix}"
        content = path.read_bytes()
        head = random.choice((48, len(content)))  # headers say how much memory to ask for
        path.write_bytes(mutate_bytes(content[:head], random) + content[head:])

    def use(self, folder):
        read_audio(folder / f"a{self.suffix}")


class Stream(Sound):
    """Sound in a container that FFmpeg alone reads."""

    CODECS: ClassVar = {
        "nut": ("pcm_s16le", 16000),
        "rm": ("ac3", 48000),
        "swf": ("libmp3lame", 44100),
        "smjpeg": ("pcm_s16le", 16000),
        "adx": ("adpcm_adx", 16000),
        "ast": ("pcm_s16be_planar", 16000),
        "gxf": ("pcm_s16le", 48000),
        "mpeg": ("mp2", 16000),
    }

    def make(self, folder):
        codec, rate = self.CODECS[self.suffix]
        (folder / f"a{self.suffix}").write_bytes(muxed(self.suffix, codec, rate=rate))


KINDS = {
    "token file": TokenFile(),
    **{f"checkpoint of {name}": Checkpoint(name) for name in ("beast", "binning", "fast", "stabletoken")},
    "released stabletoken": Released(),
    "released flextok": ReleasedFlexTok(),
    "released larp": ReleasedLARP(),
    "checkpoint of a generator": GeneratorCheckpoint("generator"),
    "released generator": ReleasedGenerator(),
    "registry": Registry(),
    **{f"suite {name}": SuiteFile(name) for name in ("action", "image", "noise", "resynthesis", "stab", "invariance")},
    "suite predictability": SuiteFile("predictability"),
    "suite captions": SuiteFile("captions"),
    "captions of COCO": CocoCaptions(),
    "states of captions": KnownStates(),
    "manifest": Manifest(),
    **{f"actions {suffix}": Actions(suffix) for suffix in (".npy", ".npz", ".parquet", ".csv")},
    **{f"sound {suffix}": Sound(suffix) for suffix in (".wav", ".flac", ".ogg", ".mp3")},
    **{f"stream {name}": Stream(name) for name in Stream.CODECS},
}


def faults(kind, tmp_path, numbers):
    """Return what was neither used nor refused by the library, by number."""
    (tmp_path / "whole").mkdir()
    kind.make(tmp_path / "whole")
    kind.use(tmp_path / "whole")
    found = {}
    for number in numbers:
        place = tmp_path / "damaged"
        shutil.copytree(tmp_path / "whole", place)
        kind.change(place, random.Random(number))
        try:
            with time_limit(SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind.use(place)
        except ZooError as error:
            if "\x1b" in str(error):
                found[number] = f"an escape sequence in {error}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            found[number] = f"{type(error).__name__}: {error!s:.200}"
        shutil.rmtree(place)
    return found


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_few_mutations(kind, tmp_path):
    assert not faults(kind, tmp_path, range(FEW))


@pytest.mark.mutations
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_many_mutations(kind, tmp_path):
    assert not faults(kind, tmp_path, range(FEW, FEW + MANY))
