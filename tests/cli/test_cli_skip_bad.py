"""`zoo encode --skip-bad`: what cannot be encoded is left out and reported, all of it; the rest is encoded."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch
from cli_files import fails, ok, work, write

import zoo
from zoo import tokenfile
from zoo.cli import main

__all__ = ["work"]  # a fixture

MODEL = "../models/speech"


def damaged(folder):
    """Write good sounds with bad ones between them; return the names of both."""
    for number, name in enumerate(("a", "d", "h", "k")):
        write(folder / f"{name}.wav", "speech", number, size=37 - number)
    whole = (folder / "a.wav").read_bytes()
    (folder / "b.wav").write_bytes(whole[:-20])
    (folder / "c.wav").write_bytes(b"")
    soundfile.write(folder / "e.wav", np.array([0.1, np.nan, 0.2] * 9), 16000, subtype="FLOAT")
    soundfile.write(folder / "f.wav", np.zeros((30, 2)), 16000)
    write(folder / "g.wav", "speech", rate=8000)
    (folder / "i.wav").write_bytes(os.urandom(200))
    return ["a.wav", "d.wav", "h.wav", "k.wav"], [f"{name}.wav" for name in "bcefgi"]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_s2_bad_files_are_left_out_and_all_reported(batch_size, work, capsys):
    good, bad = damaged(work / "in")
    ok("encode", MODEL, "in", "-o", "x.zoo", "--skip-bad", "--batch-size", batch_size, "--json")
    shown = capsys.readouterr()
    left_out = json.loads(shown.out)["left_out"]
    assert sorted(one["name"] for one in left_out) == bad
    reasons = {one["name"]: one["reason"] for one in left_out}
    for name, part in (("c.wav", "empty"), ("e.wav", "NaN"), ("f.wav", "--mix-down"), ("g.wav", "--resample")):
        assert part in reasons[name]
    file = tokenfile.load("x.zoo")
    assert list(file.names) == good
    assert file.tokens.equal(zoo.load(MODEL).encode([f"in/{name}" for name in good]))


def test_s2_without_the_flag_the_first_bad_file_ends_the_run_and_the_flag_is_named(work, capsys):
    damaged(work / "in")
    fails(capsys, ["encode", MODEL, "in", "-o", "x.zoo"], "b.wav", "--skip-bad")
    fails(capsys, ["encode", MODEL, "in/e.wav", "in/a.wav", "-o", "x.zoo"], "e.wav", "NaN", "--skip-bad")
    assert main(["encode", MODEL, "in/e.wav", "-o", "x.zoo"]) == 1
    assert "--skip-bad" not in capsys.readouterr().err, "of one file nothing would remain"


def test_s2_people_are_told_after_the_result(work, capsys):
    _, bad = damaged(work / "in")
    ok("encode", MODEL, "in", "-o", "ids.jsonl", "--skip-bad")
    shown = capsys.readouterr()
    assert "4 items encoded" in shown.out
    assert "6 items, see below" in shown.out
    assert sorted(line.split(": ")[1] for line in shown.err.splitlines()) == [f"left out {name}" for name in bad]


# Relatives


def test_s2_it_is_an_error_if_nothing_remains(work, capsys):
    (work / "a.wav").write_bytes(b"RIFF")
    (work / "b.wav").write_bytes(b"")
    fails(
        capsys, ["encode", MODEL, "a.wav", "b.wav", "-o", "x.zoo", "--skip-bad"], "left out a.wav: ", "left out b.wav"
    )
    fails(capsys, ["encode", MODEL, "a.wav", "b.wav", "-o", "x.zoo", "--skip-bad"], "none of the inputs")


def test_s2_pictures_of_a_wrong_size_and_broken_ones(work, capsys):
    for number in range(3):
        write(work / "in" / f"{number}.png", "image", number)
    write(work / "in" / "wide.png", "image", size=(8, 12))
    (work / "in" / "half.png").write_bytes((work / "in" / "0.png").read_bytes()[:60])
    ok("encode", "../models/image", "in", "-o", "x.zoo", "--skip-bad", "--json")
    assert {one["name"] for one in json.loads(capsys.readouterr().out)["left_out"]} == {"wide.png", "half.png"}
    assert tokenfile.load("x.zoo").names == ("0.png", "1.png", "2.png")


def test_s2_files_of_actions_are_read_before_anything_is_encoded(work, capsys):
    rows = np.linspace(-0.5, 0.5, 160, dtype=np.float32).reshape(40, 4)
    for name in ("a", "b", "d"):
        np.save(f"{name}.npy", rows)
    (work / "b.npy").write_bytes((work / "b.npy").read_bytes()[:-8])
    np.save("c.npy", np.where(rows > 0.4, np.nan, rows))
    inputs = ["a.npy", "b.npy", "c.npy", "d.npy"]
    fails(capsys, ["encode", "beast", *inputs, "-o", "x.zoo"], "b.npy", "--skip-bad")
    ok("encode", "beast", *inputs, "-o", "x.zoo", "--skip-bad", "--json")
    assert {one["name"] for one in json.loads(capsys.readouterr().out)["left_out"]} == {"b.npy", "c.npy"}
    assert len(tokenfile.load("x.zoo").names) == 2


def test_s2_names_that_cannot_be_stored_and_files_that_are_not_there(work, capsys):
    write(work / "a.wav", "speech")
    write(work / "in" / "b\tc.wav", "speech")
    ok("encode", MODEL, "a.wav", "gone.wav", "in", "-o", "x.zoo", "--skip-bad", "--json")
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["left_out"]] == ["gone.wav", "b\tc.wav"]
    assert tokenfile.load("x.zoo").names == ("a.wav",)


def test_s2_nothing_to_leave_out_changes_nothing(work, capsys):
    for number, name in enumerate("ab"):
        write(work / f"{name}.wav", "speech", number)
    ok("encode", MODEL, "a.wav", "b.wav", "-o", "x.zoo")
    ok("encode", MODEL, "a.wav", "b.wav", "-o", "y.zoo", "--skip-bad")
    assert (work / "x.zoo").read_bytes() == (work / "y.zoo").read_bytes()
    assert torch.equal(tokenfile.load("x.zoo").tokens.ids, tokenfile.load("y.zoo").tokens.ids)
    capsys.readouterr()
    ok("encode", MODEL, "a.wav", "-o", "z.zoo", "--json")
    assert json.loads(capsys.readouterr().out)["left_out"] == []
