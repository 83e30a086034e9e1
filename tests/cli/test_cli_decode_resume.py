"""`zoo decode` writes as it goes: what ends it leaves whole files, and the same command goes on from there."""

import json
import os
import shutil
import signal
from pathlib import Path

import children
import pytest
import toy
from cli_files import fails, listed, ok, work, write

import zoo
from zoo.checkpoint.atomic import held
from zoo.cli import main
from zoo.data.signals import ImageSignal

__all__ = ["work"]  # a fixture

NOTES = Path("out/.decoding-x.zoo")
COMMAND = ("decode", "x.zoo", "-o", "out", "--batch-size", "2")


@pytest.fixture
def stored(work):
    """Tokens of five pictures, encoded with the toy in ../models/image."""
    for number in range(5):
        write(Path("in", f"{number}.png").absolute(), "image", number)
    ok("encode", "../models/image", "in", "-o", "x.zoo")
    shutil.rmtree("in")
    return work


@pytest.fixture
def decoded(monkeypatch):
    """Numbers of items that were decoded, a batch each; `decoded.stop` is after how many batches Ctrl-C comes."""
    decode = toy.ToyImage.decode

    class Calls(list):
        stop = None

    calls = Calls()

    def counting(self, tokens, **options):
        if len(calls) == calls.stop:
            raise KeyboardInterrupt
        calls.append(len(tokens))
        return decode(self, tokens, **options)

    monkeypatch.setattr(toy.ToyImage, "decode", counting)
    return calls


def interrupted(decoded, after, *arguments):
    decoded.stop = after
    assert main([*COMMAND, *arguments]) == 130
    decoded.clear()
    decoded.stop = None


def contents(folder):
    return {name: Path(folder, name).read_bytes() for name in listed(folder)}


def test_an_interrupted_run_keeps_whole_files_and_goes_on(stored, decoded, capsys):
    ok("decode", "x.zoo", "-o", "whole")
    decoded.clear()
    interrupted(decoded, 1)
    assert "2 decoded items kept in out: the same command goes on from there" in capsys.readouterr().err
    assert listed("out") == [".decoding-x.zoo/journal.jsonl", "0.png", "1.png"]
    ok("decode", "./x.zoo", "-o", "out", "--json")
    shown = capsys.readouterr()
    assert decoded == [3]
    assert "going on after 2 of 5 items" in shown.err
    assert len(json.loads(shown.out)["outputs"]) == 5
    assert contents("out") == contents("whole")
    fails(capsys, COMMAND, "out/0.png exists already")


@pytest.mark.parametrize("place", ["decode", "write", "place"])
def test_a_run_that_made_nothing_leaves_nothing(place, stored, monkeypatch):
    before = sorted(stored.rglob("*"))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    owner, name = {"decode": (toy.ToyImage, "decode"), "write": (ImageSignal, "write"), "place": (Path, "replace")}[
        place
    ]
    monkeypatch.setattr(owner, name, interrupt)
    assert main(["decode", "x.zoo", "-o", "deep/out"]) == 130
    assert sorted(stored.rglob("*")) == before


def test_other_settings_do_not_pass_for_the_same(stored, decoded, capsys):
    interrupted(decoded, 1)
    notes = (NOTES / "journal.jsonl").read_bytes()
    zoo.save(toy.make("image", seed=1), "../other")
    for other in (["--seed", "3"], ["--model", "../other", "--force"]):
        fails(capsys, [*COMMAND, *other], "out/0.png exists already")
        assert (NOTES / "journal.jsonl").read_bytes() == notes
    assert decoded == []
    ok(*COMMAND, "--seed", "3", "--overwrite")
    assert decoded == [2, 2, 1]


def test_only_what_is_as_the_run_made_it_is_left_as_it_is(stored, decoded, capsys):
    ok("decode", "x.zoo", "-o", "whole")
    decoded.clear()
    interrupted(decoded, 2)
    Path("out/1.png").unlink()
    Path("out/2.png").write_bytes(b"another's")
    fails(capsys, COMMAND, "out/2.png exists already")
    interrupted(decoded, 1, "--overwrite")
    ok(*COMMAND, "--overwrite")
    assert decoded == [1]
    assert contents("out") == contents("whole")


@pytest.mark.parametrize("kept", [0, 5, -3])
def test_a_journal_that_is_cut_short(kept, stored, decoded):
    interrupted(decoded, 1)
    notes = (NOTES / "journal.jsonl").read_bytes()
    (NOTES / "journal.jsonl").write_bytes(notes[:kept])
    ok(*COMMAND, "--overwrite")
    assert sum(decoded) == 4 if kept < 0 else 5
    assert listed("out") == [f"{number}.png" for number in range(5)]


def test_clipped_values_are_counted_over_all_runs(stored, decoded, capsys, monkeypatch):
    clipped = ImageSignal.clipped
    monkeypatch.setattr(ImageSignal, "clipped", lambda self, signal: (clipped(self, signal)[0], 7))
    interrupted(decoded, 1)
    capsys.readouterr()
    ok(*COMMAND, "--json")
    assert json.loads(capsys.readouterr().out)["clipped"] == 35


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_two_processes_do_not_decode_one_file_into_one_folder(stored, capsys):
    NOTES.mkdir(parents=True)
    with held(NOTES):
        fails(capsys, COMMAND, "another process is at work in out/.decoding-x.zoo")
    ok(*COMMAND)


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize("most", [60, 600])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_disk_that_is_full_loses_nothing_that_was_there(command, most, stored, capsys):
    """As far as files can grow; what is written of them then is cut anywhere."""
    import resource

    before = contents(".")
    arguments = COMMAND
    if command == "encode":
        ok(*COMMAND)
        before = contents(".")
        arguments = ("encode", "../models/image", "out", "-o", "y.zoo", "--batch-size", "2")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        assert main([*arguments]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in capsys.readouterr().err
    there = contents(".")
    assert {name: there[name] for name in before} == before
    made = [name for name in there if name not in before and ".decoding-" not in name and ".encoding-" not in name]
    ok(*arguments)
    assert {name: there[name] for name in made} == {name: contents(".")[name] for name in made}
    if command == "encode":
        ok("encode", "../models/image", "out", "-o", "z.zoo")
        assert Path("y.zoo").read_bytes() == Path("z.zoo").read_bytes()


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
import toy
from zoo.cli import main
from zoo.data.signals import ImageSignal
calls, original = [], ImageSignal.write
def write(self, path, values, rate):
    calls.append(0)
    if len(calls) == 4:
        path.write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, path, values, rate)
ImageSignal.write = write
with toy.registered():
    main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_goes_on(stored, decoded, capsys):
    ok("decode", "x.zoo", "-o", "whole")
    decoded.clear()
    assert children.run(KILLED, Path(toy.__file__).parent, *COMMAND).returncode == -signal.SIGKILL
    assert [name for name in listed("out") if not name.startswith(".")] == ["0.png", "1.png", "2.png"]
    ok(*COMMAND)
    assert decoded == [2]
    assert contents("out") == contents("whole")
