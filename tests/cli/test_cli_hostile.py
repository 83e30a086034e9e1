"""What a stranger's files, a closed stream or a full machine make of a command: one line, and no traceback."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from checkpoint_tools import change
from tiny_stabletoken import make

import zoo
from zoo import cli
from zoo.cli._output import print_facts, print_json, print_table
from zoo.data._video_writing import write_mp4
from zoo.data.audio import write_wav
from zoo.errors import harmless

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\u202eevil\nname  forged"


def failed(capsys, *arguments, code=1):
    """Run a command that fails, and return the one line that it says."""
    assert cli.main([str(argument) for argument in arguments]) == code
    text = capsys.readouterr().err
    assert text.startswith("zoo"), text
    assert len(text) < 2000, text
    assert "Traceback" not in text
    return text


@pytest.fixture
def stranger(tmp_path):
    folder = zoo.save(zoo.load("beast"), tmp_path / "m", name="beast.mine")
    change(folder, licence=ESCAPES, trained_on=ESCAPES)
    return folder


def test_x10_escape_sequences_of_a_stranger_are_shown(stranger, capsys):
    assert cli.main(["info", str(stranger)]) == 0
    shown = capsys.readouterr().out
    assert "\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\r\\u202eevil\\nname  forged" in shown
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(shown)
    assert not any(line.strip().startswith("name  forged") for line in shown.splitlines())
    assert cli.main(["info", str(stranger), "--json"]) == 0
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(shown)
    assert json.loads(shown)["licence"] == ESCAPES


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b31m", "\u202e", "\u2066", "\x08", "\ud800", "\u2028"])
def test_x10_wherever_text_is_printed(text, capsys):
    print_facts(text, {text: text})
    print_table(["a"], [[text]])
    print_json({text: [text]})
    cli._complain(text)
    shown = capsys.readouterr()
    assert text not in shown.out + shown.err
    assert harmless("ordinary, ü 音 😀 [b]") == "ordinary, ü 音 😀 [b]"


@pytest.mark.parametrize("suite", ["/dev/zero", "/dev/full", "/nowhere.yaml", "/", "/nowhere", "a\0b", "x" * 5000])
def test_x13_a_suite_that_is_no_file(suite, capsys):
    text = failed(capsys, "eval", suite)
    assert any(reason in text for reason in ("is not a regular file", "does not exist", "no suite", "character 0"))


def test_x13_pipes_as_config_files(tmp_path, capsys):
    os.mkfifo(tmp_path / "config.json")
    os.mkfifo(tmp_path / "s.yaml")
    assert "not a file" in failed(capsys, "info", tmp_path)
    assert "not a regular file" in failed(capsys, "eval", tmp_path / "s.yaml")
    assert "not a regular file" in failed(capsys, "fit", "--config", tmp_path / "s.yaml")
    assert "not a regular file" in failed(capsys, "fit", "--config=/dev/zero")


def test_x13_a_device_without_values(capsys, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 4)))
    text = failed(capsys, "encode", "beast", tmp_path / "a.npy", "-o", tmp_path / "a.zoo", "--device", "meta")
    assert "the device 'meta' cannot be used here" in text


@pytest.mark.parametrize("value", ["1e308", "-1e308", "-1", "1e9", "1e300"])
def test_x13_an_overlap_beyond_all_numbers(value, capsys, tmp_path):
    folder = zoo.save(make(), tmp_path / "m", name="stabletoken.tiny")
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    text = failed(capsys, "encode", folder, tmp_path / "a.wav", "-o", tmp_path / "a.zoo", f"--overlap={value}")
    assert "overlap is in seconds" in text


@pytest.mark.parametrize("value", ["9" * 20, str(2**64), "-1", "x", "1.5", "٣x", ""])
def test_x13_a_seed_beyond_64_bits(value, capsys):
    assert "is not a whole number from 0" in failed(capsys, "decode", "x.zoo", "-o", "out", f"--seed={value}", code=2)


@pytest.mark.parametrize("redirection", ["1>&-", "1>&- 2>&-", "1>&- 0<&-", "2>&-"])
def test_x13_closed_streams(redirection):
    command = f"{sys.executable} -m zoo.cli list --json {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    if redirection == "2>&-":
        assert done.returncode == 0
        assert "beast.default" in [entry["name"] for entry in json.loads(done.stdout)]
    else:
        assert done.returncode == 1
        assert "standard output is closed" in done.stderr or "2>&-" in redirection


@pytest.mark.parametrize("command", ["info ~nouser/m", "encode beast ~nouser/x.npy -o {}/a.zoo", "push ~nouser/m a/b"])
def test_x13_a_home_that_there_is_not(command, capsys, tmp_path):
    assert "home" in failed(capsys, *command.format(tmp_path).split())


def test_x13_a_sound_of_no_users_home(capsys, tmp_path):
    folder = zoo.save(make(), tmp_path / "m", name="stabletoken.tiny")
    assert "home" in failed(capsys, "encode", folder, "~nouser/x.wav", "-o", tmp_path / "a.zoo")


def test_x13_digits_that_are_no_numbers(capsys, tmp_path):
    folder = zoo.save(make(), tmp_path / "m", name="stabletoken.tiny")
    (tmp_path / "in").mkdir()
    for name in ("1²2.flac", "1²10.flac", "٣.flac"):
        soundfile.write(tmp_path / "in" / name, np.zeros(1600), 16000)
    assert cli.main(["encode", str(folder), str(tmp_path / "in"), "-o", str(tmp_path / "a.zoo")]) == 0
    assert zoo.tokenfile.load(tmp_path / "a.zoo").names == ("1²2.flac", "1²10.flac", "٣.flac")


@pytest.mark.parametrize(
    "write", [lambda p: write_wav(p, torch.zeros(99), 16000), lambda p: write_mp4(p, torch.zeros(3, 2, 16, 16), 8)]
)
def test_x13_a_full_disk_is_an_error_of_the_system(write):
    with pytest.raises(OSError, match="No space left on device"):
        write("/dev/full")


def test_x13_no_memory_left(capsys, monkeypatch):
    def exhaust(**_):
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr("zoo.cli.list_models.list_models", exhaust)
    assert "there is not enough memory" in failed(capsys, "list")
