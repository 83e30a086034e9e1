"""Saving and loading: what goes in comes out, all of it or nothing."""

import json
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from checkpoint_tools import CONFIG, WEIGHTS, manifest, refused, refused_load, same, seal

import zoo
from zoo import checkpoint
from zoo.errors import CheckpointError, ConfigError, NotFittedError

MODALITIES = tuple(toy.CLASSES)


@pytest.fixture(autouse=True)
def toys():
    with toy.registered():
        yield


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_saved_is_what_is_loaded(modality, tmp_path):
    tok = toy.make(modality, seed=3)
    assert zoo.save(tok, tmp_path / "new" / "checkpoint") == tmp_path / "new" / "checkpoint"
    again = zoo.load(tmp_path / "new" / "checkpoint")
    assert same(again, tok)
    assert not again.training
    assert again.source == str(tmp_path / "new" / "checkpoint")
    x = toy.signals(modality, 5)
    tokens = tok.encode(x)
    assert again.encode(x).equal(tokens)
    assert torch.equal(again.decode(tokens), tok.decode(tokens))
    assert sorted(path.name for path in (tmp_path / "new" / "checkpoint").iterdir()) == [CONFIG, WEIGHTS]
    twice = zoo.save(again, tmp_path / "twice")
    assert (twice / WEIGHTS).read_bytes() == (tmp_path / "new" / "checkpoint" / WEIGHTS).read_bytes()
    assert (twice / CONFIG).read_bytes() == (tmp_path / "new" / "checkpoint" / CONFIG).read_bytes()


def test_facts_can_be_stated_when_saving(tmp_path):
    tok = toy.make("image")
    zoo.save(tok, tmp_path, name="toy_image.best", licence="CC-BY-4.0", trained_on="")
    again = zoo.load(tmp_path)
    assert (again.name, again.spec.licence, again.trained_on) == ("toy_image.best", "CC-BY-4.0", "")
    assert (tok.name, tok.spec.licence) == ("toy_image.s0", "Apache-2.0")
    assert manifest(tmp_path)["library_version"] == zoo.__version__


def test_text_of_all_languages_survives(tmp_path):
    zoo.save(toy.make("image"), tmp_path, trained_on="zwölf Bücher, 十二")
    assert zoo.load(tmp_path).trained_on == "zwölf Bücher, 十二"


def test_files_are_readable_by_whom_the_umask_says(tmp_path):
    (tmp_path / "plain").touch()
    zoo.save(toy.make("image"), tmp_path)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", CONFIG, WEIGHTS)}
    assert len(modes) == 1


def test_loading_does_not_depend_on_the_callers_defaults_and_leaves_them_alone(tmp_path, monkeypatch):
    build = toy.Scale.__init__
    monkeypatch.setattr(toy.Scale, "__init__", lambda self: build(self, float(torch.rand((), device="cpu"))))
    tok = toy.make("image", seed=1)
    zoo.save(tok, tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dtype = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("meta"):
            again = zoo.load(tmp_path)
            zoo.save(again, tmp_path / "again")
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(dtype)
    assert same(again, tok)
    assert again.device.type == "cpu"
    assert same(zoo.load(tmp_path / "again"), tok)
    assert torch.equal(torch.rand(3), expected)


def test_tied_weights_are_tied_again(tmp_path, monkeypatch):
    def tie(self, config):
        build(self, config)
        self.decoder.weight = self.encoder.weight

    build = toy.ToyImage.__init__
    monkeypatch.setattr(toy.ToyImage, "__init__", tie)
    tok = toy.make("image", seed=2)
    zoo.save(tok, tmp_path)
    again = zoo.load(tmp_path)
    assert same(again, tok)
    assert again.decoder.weight is again.encoder.weight


def test_views_of_larger_tensors_are_saved_as_what_they_show(tmp_path):
    tok = toy.make("image")
    tok.encoder.weight = torch.nn.Parameter(torch.arange(10.0)[3:4])
    zoo.save(tok, tmp_path)
    assert zoo.load(tmp_path).encoder.weight.tolist() == [3]
    assert (tmp_path / WEIGHTS).stat().st_size < 1000


# -------------------------------------------------------------------------------------------------------------- assets


class WithPalette(toy.ToyImage):
    """An image toy that needs a file beside its weights."""

    family = "toy_palette"
    asset_names = ("palette.json",)
    palette = b"[]"

    @classmethod
    def from_config(cls, config, assets=None):
        tok = cls(zoo.config.from_dict(cls.config_class, config))
        tok.palette = (assets or {})["palette.json"]
        json.loads(tok.palette)
        return tok

    def assets(self):
        return {"palette.json": self.palette}


@pytest.fixture
def with_palette(tmp_path):
    with toy.registered(WithPalette):
        tok = WithPalette(toy.ImageConfig())
        tok.palette = b'["red", "green"]'
        yield zoo.save(tok, tmp_path / "palette")


def test_assets_travel_with_the_weights(with_palette):
    assert zoo.load(with_palette).palette == b'["red", "green"]'
    assert set(manifest(with_palette)["files"]) == {"palette.json", WEIGHTS}


def test_damaged_assets_are_refused(with_palette):
    asset = with_palette / "palette.json"
    asset.write_bytes(b'["red", "greed"]')
    refused_load(with_palette, CheckpointError, "palette.json is damaged")
    asset.write_bytes(b"[]")
    refused_load(with_palette, CheckpointError, "palette.json is truncated: 2 bytes instead of the 16")
    asset.unlink()
    refused_load(with_palette, CheckpointError, "palette.json is missing")


def test_assets_that_the_family_cannot_read_are_refused(with_palette):
    (with_palette / "palette.json").write_bytes(b"{{{")
    seal(with_palette)
    refused_load(with_palette, ConfigError, CONFIG, "no toy_palette tokenizer can be built", "JSONDecodeError")


def test_assets_must_be_the_ones_that_the_family_names(with_palette, tmp_path, monkeypatch):
    tok = zoo.load(with_palette)
    monkeypatch.setattr(WithPalette, "assets", lambda self: {})
    with refused(ConfigError, "assets() gives [], asset_names says ['palette.json']"):
        zoo.save(tok, tmp_path / "other")


# ------------------------------------------------------------------------------------ what load would refuse, save does


def test_a_checkpoint_is_not_overwritten_by_accident(tmp_path):
    zoo.save(toy.make("image", seed=1), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with refused(CheckpointError, tmp_path, f"already holds a checkpoint ({CONFIG}, {WEIGHTS})", "pass overwrite=True"):
        zoo.save(toy.make("image", seed=2), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_nor_is_a_file_of_something_else(tmp_path, name, kind):
    (tmp_path / name).write_text("mine") if kind == "file" else (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with refused(CheckpointError, f"already holds a checkpoint ({name})"):
        zoo.save(toy.make("image"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_overwriting_keeps_other_files_and_does_not_write_through_links(tmp_path):
    folder, stored = tmp_path / "checkpoint", tmp_path / "stored"
    zoo.save(toy.make("image", seed=1), folder)
    (folder / "README.md").write_text("card")
    (folder / WEIGHTS).rename(stored)
    (folder / WEIGHTS).symlink_to(stored)
    before = stored.read_bytes()
    tok = toy.make("video", seed=2)
    zoo.save(tok, folder, overwrite=True)
    assert same(zoo.load(folder), tok)
    assert stored.read_bytes() == before
    assert (folder / "README.md").read_text() == "card"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]


def broken(modality="image", **changes):
    tok = toy.make(modality)
    for name, value in changes.items():
        setattr(tok, name, value)
    return tok


@dataclass(frozen=True)
class Longer(toy.ImageConfig):
    extra: int = 3


UNSAVABLE = {
    "NaN": (lambda: broken(encoder=toy.Scale(torch.nan)), CheckpointError, "infinite values in encoder.weight"),
    "other module": (
        lambda: broken(quantizer=toy.Levels(8)),
        CheckpointError,
        "table has the shape (8,) instead of (16,)",
    ),
    "missing module": (
        lambda: broken(decoder=None),
        CheckpointError,
        "do not fit its config: decoder.weight is missing",
    ),
    "more modules": (lambda: broken(head=toy.Scale()), CheckpointError, "head.weight is unexpected"),
    "float64": (lambda: toy.make("image").double(), CheckpointError, "holds torch.float64 values, torch.float32 was"),
    "no values": (lambda: toy.make("image").to("meta"), CheckpointError, "encoder.weight is on the meta device"),
    "NumPy in the config": (
        lambda: toy.make("speech", sample_rate=np.int64(16000)),
        ConfigError,
        "sample_rate must be int, got ",
        "(int64)",
    ),
    "NaN in the config": (
        lambda: broken("speech", config=toy.SpeechConfig(mu=float("nan"))),
        ConfigError,
        "mu must be",
    ),
    "subclass of the config": (lambda: broken(config=Longer()), ConfigError, "unknown key 'extra'"),
    "name of another family": (
        lambda: broken(name="toy_video.x"),
        ConfigError,
        "such as toy_image.nano, got 'toy_video.x'",
    ),
    "name that is a path": (lambda: broken(name="toy_image/../x"), ConfigError, "got 'toy_image/../x'"),
    "no name": (lambda: broken(name=""), ConfigError, "got ''"),
    "a long story": (lambda: broken(trained_on="x" * 2**20), ConfigError, "a config takes at most 1048576 bytes"),
}


@pytest.mark.parametrize("case", UNSAVABLE)
def test_what_could_not_be_loaded_is_not_saved(case, tmp_path):
    make, kind, *parts = UNSAVABLE[case]
    tok = make()
    old = toy.make("image", seed=1)
    zoo.save(old, tmp_path)
    with refused(kind, *parts):
        zoo.save(tok, tmp_path, overwrite=True)
    assert same(zoo.load(tmp_path), old)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]


def test_what_is_not_ready_is_not_saved(tmp_path, monkeypatch):
    def refuse(self):
        raise NotFittedError("call fit first.")

    monkeypatch.setattr(toy.ToyImage, "require_ready", refuse)
    with refused(NotFittedError, "call fit first"):
        zoo.save(toy.make("image"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_places_that_cannot_be_written(tmp_path):
    tok = toy.make("image")
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused(CheckpointError, f"cannot write a checkpoint to {folder}: [Errno "):
            zoo.save(tok, folder)
    (tmp_path / "taken" / WEIGHTS / "x").mkdir(parents=True)
    with refused(CheckpointError, "cannot write a checkpoint to"):
        zoo.save(tok, tmp_path / "taken", overwrite=True)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == [WEIGHTS]


def test_a_read_only_folder(tmp_path):
    tok = toy.make("image")
    if os.geteuid():
        folder = tmp_path / "locked"
        folder.mkdir()
        folder.chmod(0o555)
    elif Path("/proc/self/fd").is_dir():
        folder = Path("/proc/self/fd")  # which not even the superuser can write to
    else:
        pytest.skip("the superuser can write everywhere")
    with refused(CheckpointError, f"cannot write a checkpoint to {folder}: [Errno "):
        zoo.save(tok, folder)


def test_a_full_disk(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def fail(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device")

    zoo.save(toy.make("image", seed=1), tmp_path)
    monkeypatch.setattr(checkpoint.folder, "save_file", fail)
    with refused(CheckpointError, tmp_path, "No space left on device"):
        zoo.save(toy.make("image", seed=2), tmp_path, overwrite=True)
    assert zoo.load(tmp_path).name == "toy_image.s1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]


def test_same_sees_differences():
    assert same(toy.make("image"), toy.make("image"))
    assert not same(toy.make("image", seed=1), toy.make("image", seed=2))
    other = toy.make("image")
    other.spec = replace(other.spec, licence="MIT")
    assert not same(toy.make("image"), other)
