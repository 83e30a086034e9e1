"""`zoo decode`: which model, which files, and what happens when it cannot be done."""

import json
import shutil
from dataclasses import make_dataclass
from pathlib import Path

import pytest
import torch
import toy
from cli_files import fails, listed, ok, work, write

import zoo
from zoo import tokenfile
from zoo.data import media

__all__ = ["work"]  # a fixture


@pytest.fixture
def stored(work):
    """Tokens of two pictures, encoded with the toy in ../models/image."""
    write(work / "a.png", "image", 0)
    write(work / "b.png", "image", 1)
    ok("encode", "../models/image", "a.png", "b.png", "-o", "x.zoo")
    return work


def test_another_model_is_refused(stored, capsys):
    other = toy.make("image", seed=1)
    zoo.save(other, stored.parent / "other", name="toy_image.s0")
    parts = [
        "made by toy_image.s0 with the fingerprint",
        "Name the right one by --model, or decode nevertheless by --force",
    ]
    fails(capsys, ["decode", "x.zoo", "-o", "out", "--model", "../other"], *parts)
    ok("decode", "x.zoo", "-o", "out", "--model", "../other", "--force")
    expected = other.decode(toy.make("image").encode(["a.png", "b.png"]).ids)
    assert torch.allclose(media.read_image("out/a.png"), expected[0], atol=1 / 510 + 1e-6)
    fails(capsys, ["decode", "x.zoo", "-o", "o", "--model", "../models/speech", "--force"], "the tokens are of image")


def test_a_copy_elsewhere_under_another_name_is_the_same_model(stored, capsys):
    zoo.save(zoo.load("../models/image"), stored.parent / "copy", name="toy_image.copy")
    shutil.rmtree(stored.parent / "models")
    fails(capsys, ["decode", "x.zoo", "-o", "out"], "toy_image.s0, which cannot be loaded from", "name it by --model")
    ok("decode", "x.zoo", "-o", "out", "--model", "../copy")
    assert len(list(Path("out").iterdir())) == 2


def test_tokens_of_a_model_that_was_never_stored(work, capsys):
    tok = toy.make("image")
    tokenfile.save("x.zoo", tok.encode(toy.signals("image")), tok)
    fails(capsys, ["decode", "x.zoo", "-o", "out"], "toy_image.s0, which was never stored: say where it is by --model")
    ok("decode", "x.zoo", "-o", "out", "--model", "../models/image")
    assert listed("out") == ["item_000000.png", "item_000001.png", "item_000002.png"]


def test_nothing_is_overwritten_unless_asked(stored, capsys):
    out = write(stored / "out" / "b.png", "speech")
    before = out.read_bytes()
    fails(
        capsys, ["decode", "x.zoo", "-o", "out"], "out/b.png exists already: choose another folder, or pass --overwrite"
    )
    ok("decode", "x.zoo", "-o", "out", "--overwrite")
    assert out.read_bytes() != before
    assert listed("out") == ["a.png", "b.png"]
    fails(capsys, ["decode", "x.zoo", "-o", "a.png"], "a.png is a file: give a folder")
    Path("out/b.png").unlink()
    Path("out/b.png").mkdir()
    fails(
        capsys, ["decode", "x.zoo", "-o", "out", "--overwrite"], "out/b.png, where a file would be written, is a folder"
    )


def test_a_damaged_file_is_an_error(stored, capsys):
    content = Path("x.zoo").read_bytes()
    Path("x.zoo").write_bytes(content[:-1])
    fails(capsys, ["decode", "x.zoo", "-o", "out"], "x.zoo cannot be read as a token file")
    fails(capsys, ["decode", "y.zoo", "-o", "out"], "y.zoo does not exist")


def test_values_out_of_range_are_clipped_and_counted(work, capsys):
    zoo.save(toy.make("image", seed=20), "loud", trained_on="")
    media.write_png("a.png", torch.ones(3, 8, 8))
    with torch.no_grad():
        tok = toy.make("image")
        tok.decoder.weight.fill_(1.5)
        zoo.save(tok, "louder")
    ok("encode", "louder", "a.png", "-o", "x.zoo")
    capsys.readouterr()
    ok("decode", "x.zoo", "-o", "out", "--json")
    shown = capsys.readouterr()
    assert json.loads(shown.out)["clipped"] == 3 * 8 * 8
    assert shown.err == "note: 192 values of the decoded signals were out of range, and clipped to it.\n"


def test_videos_need_a_frame_rate(work, capsys):
    tok = zoo.load("../models/video")
    tokenfile.save("x.zoo", tok.encode(toy.signals("video", 1)), tok, ["clip.gif"])
    fails(capsys, ["decode", "x.zoo", "-o", "out"], "clip.gif: the frame rate is not known: pass --frame-rate HZ")
    ok("decode", "x.zoo", "-o", "out", "--frame-rate", "25")
    assert media.read_video("out/clip.mp4")[1] == 25


def test_noise_of_an_item_does_not_depend_on_the_others(work, monkeypatch):
    original = toy.ToyImage.decode

    def decode(self, tokens, lengths=None, *, generator):
        return original(self, tokens).clone() * torch.rand(len(tokens), 1, 1, 1, generator=generator)

    monkeypatch.setattr(toy.ToyImage, "decode", decode)
    monkeypatch.setattr(toy.ToyImage, "decode_options", make_dataclass("Options", [("generator", object, None)]))
    for seed, name in enumerate(["a.png", "b.png"]):
        write(work / name, "image", seed)
    ok("encode", "../models/image", "a.png", "b.png", "-o", "two.zoo")
    ok("encode", "../models/image", "b.png", "-o", "one.zoo")
    for name, seed in (("two", 0), ("one", 0), ("two", 1)):
        ok("decode", f"{name}.zoo", "-o", f"{name}{seed}", "--seed", seed)
    assert Path("two0/b.png").read_bytes() == Path("one0/b.png").read_bytes()
    assert Path("two0/b.png").read_bytes() != Path("two1/b.png").read_bytes()
