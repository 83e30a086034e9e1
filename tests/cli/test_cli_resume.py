"""`zoo encode` writes as it goes: what ends it loses nothing, and the same command goes on from there."""

import json
import os
import signal
from pathlib import Path

import children
import pytest
import toy
from cli_files import fails, ok, work, write

import zoo
from zoo import tokenfile
from zoo.checkpoint.atomic import held
from zoo.cli import main
from zoo.tokenfile import tables

__all__ = ["work"]  # a fixture

MODEL = "../models/image"
SPOOL = Path(".encoding-x.zoo")


def pictures(count, start=0):
    for number in range(start, start + count):
        write(Path("in", f"{number}.png").absolute(), "image", number)


@pytest.fixture
def counted(monkeypatch):
    """Numbers of items that were encoded, a batch each; `counted.stop` is after how many batches Ctrl-C comes."""
    encode = toy.ToyImage.encode

    class Calls(list):
        stop = None

    calls = Calls()

    def counting(self, x, **options):
        if len(calls) == calls.stop:
            raise KeyboardInterrupt
        calls.append(len(x))
        return encode(self, x, **options)

    monkeypatch.setattr(toy.ToyImage, "encode", counting)
    return calls


def interrupted(counted, after, *arguments):
    counted.stop = after
    assert main(["encode", MODEL, "in", "--batch-size", "2", "-o", *arguments]) == 130
    counted.clear()
    counted.stop = None


@pytest.mark.parametrize("suffix", [tokenfile.SUFFIX, *tables.SUFFIXES])
def test_an_interrupted_run_goes_on_and_gives_the_same_file(suffix, work, counted, capsys):
    pictures(7)
    (work / "in" / "1b.png").write_bytes(b"no picture")
    ok("encode", MODEL, "in", "-o", f"whole{suffix}", "--skip-bad", "--json")
    told = json.loads(capsys.readouterr().out)
    counted.clear()
    interrupted(counted, 2, f"x{suffix}", "--skip-bad")
    assert "4 encoded items kept in" in capsys.readouterr().err
    assert not Path(f"x{suffix}").exists()
    ok("encode", MODEL, "in", "-o", f"x{suffix}", "--batch-size", "3", "--skip-bad", "--json")
    shown = capsys.readouterr()
    assert counted == [3]
    assert "going on after 5 of 8 inputs" in shown.err
    assert Path(f"x{suffix}").read_bytes() == Path(f"whole{suffix}").read_bytes()
    assert not Path(f".encoding-x{suffix}").exists()
    again = json.loads(shown.out)
    assert [one["name"] for one in again["left_out"]] == ["1b.png"]
    assert {**told, "output": ""} == {**again, "output": ""}


def test_what_has_changed_since_is_encoded_again(work, counted, capsys):
    pictures(6)
    interrupted(counted, 2, "x.zoo")
    write(work / "in" / "3.png", "image", 77)
    ok("encode", MODEL, "in", "-o", "x.zoo", "--batch-size", "2")
    assert "going on after 2 of 6" in capsys.readouterr().err
    assert counted == [2, 2]
    ok("encode", MODEL, "in", "-o", "y.zoo")
    assert Path("x.zoo").read_bytes() == Path("y.zoo").read_bytes()


def test_another_model_or_other_settings_begin_anew(work, counted, capsys):
    pictures(6)
    interrupted(counted, 1, "x.zoo")
    ok("encode", MODEL, "in", "-o", "x.zoo", "--on-white")
    assert "other settings or other inputs, and is begun anew" in capsys.readouterr().err
    assert counted == [6]
    counted.clear()
    toy_model = toy.make("image", seed=3)
    zoo.save(toy_model, "../other")
    interrupted(counted, 1, "y.zoo")
    ok("encode", "../other", "in", "-o", "y.zoo")
    assert counted == [6]
    assert tokenfile.load("y.zoo").model == "toy_image.s3"


@pytest.mark.parametrize(("name", "kept"), [("ids", 2), ("journal.jsonl", 2)])
def test_what_a_failing_disk_has_lost_is_encoded_again(name, kept, work, counted, capsys):
    pictures(6)
    interrupted(counted, 2, "x.zoo")
    path = SPOOL / name
    path.write_bytes(path.read_bytes()[:-3])
    ok("encode", MODEL, "in", "-o", "x.zoo")
    assert f"going on after {kept} of 6" in capsys.readouterr().err
    ok("encode", MODEL, "in", "-o", "y.zoo")
    assert Path("x.zoo").read_bytes() == Path("y.zoo").read_bytes()


def test_a_bad_file_keeps_what_is_encoded_before_it(work, counted, capsys):
    pictures(5)
    (work / "in" / "4.png").write_bytes(b"no picture")
    assert main(["encode", MODEL, "in", "--batch-size", "2", "-o", "x.zoo"]) == 1
    assert "2 encoded items kept in" in capsys.readouterr().err
    counted.clear()
    ok("encode", MODEL, "in", "-o", "x.zoo", "--skip-bad")
    assert counted == [2]
    assert tokenfile.load("x.zoo").names == ("0.png", "1.png", "2.png", "3.png")


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_two_processes_do_not_write_one_file(work, capsys):
    pictures(1)
    with held(SPOOL):
        fails(capsys, ["encode", MODEL, "in", "-o", "x.zoo"], "another process is at work in .encoding-x.zoo")
    ok("encode", MODEL, "in", "-o", "x.zoo")
    assert sorted(path.name for path in work.iterdir()) == ["in", "x.zoo"]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
import toy
from zoo.cli import main
calls, original = [], toy.ToyImage.encode
def encode(self, x, **options):
    calls.append(0)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, x, **options)
toy.ToyImage.encode = encode
with toy.registered():
    main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_goes_on(work, counted, capsys):
    pictures(6)
    arguments = ["encode", MODEL, "in", "--batch-size", "2", "-o", "x.zoo"]
    assert children.run(KILLED, Path(toy.__file__).parent, *arguments).returncode == -signal.SIGKILL
    ok(*arguments)
    assert counted == [2]
    assert "going on after 4 of 6" in capsys.readouterr().err
    assert tokenfile.load("x.zoo").tokens.equal(toy.make("image").encode([f"in/{number}.png" for number in range(6)]))
