"""`zoo encode` and `zoo decode`: real files to tokens and back, equal to what the Python API gives."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import children
import numpy as np
import pytest
import torch
import toy
from cli_files import fails, listed, ok, work, write

import zoo
from zoo import tokenfile
from zoo.data import media
from zoo.data.actions import read_actions

__all__ = ["work"]  # a fixture

ZOO = Path(sys.executable).with_name("zoo")
SAMPLE = Path(zoo.__file__).parent / "data" / "samples" / "metaworld_expert.npz"
ENDINGS = {"speech": "wav", "image": "png", "video": "mp4"}


# Round trips


@pytest.mark.parametrize("modality", ENDINGS)
def test_files_come_back_as_the_python_api_gives_them(modality, work, capsys):
    ending = ENDINGS[modality]
    files = [write(work / "in" / f"{name}.{ending}", modality, seed) for seed, name in enumerate("cab")]
    model = f"../models/{modality}"
    ok("encode", model, *files, "-o", "x.zoo", "--batch-size", "2")
    tok = zoo.load(model)
    tokens = tok.encode([str(file) for file in files])
    file = tokenfile.load("x.zoo")
    assert file.tokens.equal(tokens)
    assert file.names == tuple(path.name for path in files)
    rates = {"speech": 16000, "image": None, "video": 12.5}
    assert file.rates == (rates[modality],) * 3
    assert file.source == str(Path(model).resolve())
    ok("decode", "x.zoo", "-o", "deep/out")
    assert listed("deep/out") == [f"{name}.{ending}" for name in "abc"]
    for path, expected in zip(files, tok.decode(tokens), strict=True):
        found = Path("deep/out", path.name)
        if modality == "speech":
            wave, rate = media.read_audio(found)
            assert rate == 16000
            assert torch.allclose(wave[0], expected.clamp(-1, 1), atol=2**-15)
        elif modality == "image":
            assert torch.allclose(media.read_image(found), expected, atol=1 / 510 + 1e-6)
        else:
            clip, rate = media.read_video(found)
            assert rate == 12.5
            assert clip.shape == expected.shape
    assert "3 items decoded with toy_" in capsys.readouterr().out


def test_actions_through_the_installed_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [ZOO, "encode", "beast", str(SAMPLE), "-o", "x.zoo", "--bits", "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stderr == "note: not read: task, success, action_noise, about.\n"  # of the sample's arrays
    summary = json.loads(shown.stdout)
    data, tok = read_actions(SAMPLE), zoo.load("beast")
    tokens = tok.encode(data)
    file = tokenfile.load(tmp_path / "x.zoo")
    assert file.tokens.equal(tokens)
    assert (file.source, file.names, set(file.rates)) == ("beast.default", tuple(data.names), {80.0})
    assert summary["tokens"] == int(tokens.lengths.sum())
    assert summary["bits"] == float(tokens.num_bits.sum())
    assert summary["bytes"] == (tmp_path / "x.zoo").stat().st_size
    assert summary["raw_bits"] == 32 * sum(episode.size for episode in data.episodes)
    assert summary["compression"] == pytest.approx(summary["raw_bits"] / summary["bits"])
    assert summary["seconds"] == pytest.approx(data.num_steps / 80)
    assert [each["name"] for each in summary["per_item"]] == data.names
    assert sum(each["tokens"] for each in summary["per_item"]) == summary["tokens"]

    ok("decode", "x.zoo", "-o", "out", "--json")
    shown = capsys.readouterr()
    assert shown.err == ""
    written = json.loads(shown.out)
    assert written["outputs"] == [f"out/{name}.npy" for name in data.names]
    for name, expected, episode in zip(data.names, tok.decode(tokens), data.episodes, strict=True):
        actions = np.load(tmp_path / "out" / f"{name}.npy")
        assert actions.dtype == np.float32
        assert np.array_equal(actions, expected[: len(episode)].numpy())


def test_through_the_hub(work, hub, capsys):
    """The file names the commit, and is all that another machine needs."""
    ok("push", "../models/image", "alice/toy")
    write(work / "a.png", "image")
    ok("encode", "hf://alice/toy", "a.png", "-o", "x.zoo")
    assert tokenfile.load("x.zoo").source == f"hf://alice/toy@{hub.repos['alice/toy'].branches['main']}"
    shutil.rmtree(work.parent / "models")
    capsys.readouterr()
    ok("decode", "x.zoo", "-o", "out")
    assert Path("out/a.png").exists()
    assert "the token file names hf://alice/toy@" in capsys.readouterr().err


def test_summary_for_people(work, capsys):
    write(work / "a.wav", "speech")
    write(work / "b.wav", "speech", size=8)
    ok("encode", "../models/speech", work, "-o", "x.zoo", "--bits")
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = [re.sub(" +", " ", line).strip() for line in shown.out.splitlines()]
    assert lines == [
        "tokens bits compression seconds item",
        "10 80 7.4 : 1 0.00 a.wav",
        "2 16 8 : 1 0.00 b.wav",
        "",
        "x.zoo: 2 items encoded with toy_speech.s0",
        "tokens 12 (2 to 10 an item)",
        "bits 96 (8 a token; 34.1 kbit a second of signal)",
        "compression 7.5 : 1, against 16 bits a value",
        lines[-1],
    ]
    assert re.fullmatch(r"file \d+ B", lines[-1])


# Inputs


def test_a_folder_is_read_in_natural_order_and_what_is_left_out_is_said(work, capsys):
    for name in ("10.PNG", "2.png", "sub/1.png", ".hidden.png"):
        write(work / "in" / name, "image")
    Path("in/notes.txt").write_text("no picture")
    ok("encode", "../models/image", "in", "-o", "x.zoo")
    assert tokenfile.load("x.zoo").names == ("2.png", "10.PNG", "1.png")
    assert capsys.readouterr().err == "note: left out 1 file of in, since only files of image are taken: .txt.\n"
    ok("encode", "../models/image", "in", "-o", "y.zoo", "--keep-folders")
    assert tokenfile.load("y.zoo").names == ("2.png", "10.PNG", "sub/1.png")
    ok("decode", "y.zoo", "-o", "out")
    assert listed("out") == ["10.png", "2.png", "sub/1.png"]


def test_x13_names_with_raised_digits_and_homes_of_nobody(work, capsys):
    for name in ("10.wav", "1²2.wav", "١.wav", "2.wav"):
        write(work / "in" / name, "speech")
    ok("encode", "../models/speech", "in", "-o", "x.zoo")
    assert tokenfile.load("x.zoo").names == ("1²2.wav", "2.wav", "10.wav", "١.wav")
    fails(capsys, ["encode", "../models/speech", "~nobody-of-this-name/x.wav", "-o", "y.zoo"], "not the path of a file")
    fails(capsys, ["encode", "../models/speech", "nowhere.wav", "-o", "y.zoo"], "'nowhere.wav' does not exist")


def test_x12_long_files_are_not_held_together(work, monkeypatch):
    for number in range(5):
        write(work / "in" / f"{number}.wav", "speech")
    ok("encode", "../models/speech", "in", "-o", "x.zoo")
    largest = max(len(media.read_audio(path)[0][0]) for path in Path("in").iterdir())
    monkeypatch.setattr("zoo.cli._encoding._MOST_VALUES", 2 * largest)
    sizes, encode = [], toy.ToySpeech.encode
    monkeypatch.setattr(toy.ToySpeech, "encode", lambda self, x: sizes.append(len(x)) or encode(self, x))
    ok("encode", "../models/speech", "in", "-o", "y.zoo")
    assert sizes == [2, 2, 1]
    assert tokenfile.load("x.zoo").tokens.equal(tokenfile.load("y.zoo").tokens)


@pytest.mark.parametrize(("rate", "options"), [(16000, []), (8000, ["--resample"])])
def test_hard_long_files_are_encoded_segment_by_segment(work, monkeypatch, rate, options):
    """Three hours of sound are three hours of tokens, and never in memory as a whole."""
    waves = [torch.rand(round(seconds * rate), generator=torch.Generator().manual_seed(3)) - 0.5 for seconds in (65, 2)]
    for name, wave in zip("ab", waves, strict=True):
        media.write_wav(f"{name}.wav", wave, rate)
    tok = zoo.load("stabletoken", decoder=False)
    expected = tok.encode(["a.wav", "b.wav"], resample=rate != 16000)
    monkeypatch.setattr("zoo.data.signals.speech._LONG", Path("b.wav").stat().st_size + 1)
    lengths, encode = [], type(tok).encode_segments
    monkeypatch.setattr(
        type(tok), "encode_segments", lambda self, waves, finish: lengths.append(waves) or encode(self, waves, finish)
    )
    ok("encode", "stabletoken", "a.wav", "b.wav", "-o", "x.zoo", *options)
    assert [[len(wave) for wave in waves] for waves in lengths] == [[480000], [480000], [80000], [32000]]
    file = tokenfile.load("x.zoo")
    assert file.tokens.equal(expected)
    assert file.rates == (16000.0, 16000.0)


def test_hard_an_error_far_into_a_long_file_names_it(work, monkeypatch, capsys):
    media.write_wav("a.wav", torch.zeros(40 * 16000), 16000)
    content = Path("a.wav").read_bytes()
    Path("a.wav").write_bytes(content[:-1000])
    monkeypatch.setattr("zoo.data.signals.speech._LONG", 1)
    fails(capsys, ["encode", "stabletoken", "a.wav", "-o", "x.zoo"], "a.wav", "truncated")


def test_names_that_would_collide(work, capsys):
    for name in ("a/x.wav", "b/x.wav", "a/x.flac"):
        write(work / name, "speech")
    model = "../models/speech"
    fails(capsys, ["encode", model, "a", "b", "-o", "x.zoo"], "two items have the name 'x.wav': pass --keep-folders")
    ok("encode", model, "a", "b", "-o", "x.zoo", "--keep-folders")
    assert tokenfile.load("x.zoo").names == ("a/x.flac", "a/x.wav", "b/x.wav")
    ok("decode", "x.zoo", "-o", "out")
    assert listed("out") == ["a/x.flac.wav", "a/x.wav.wav", "b/x.wav"]


def test_several_sources_of_actions(work, capsys):
    episodes = toy.signals("action", 4)
    np.save("left.npy", episodes[:2].numpy())
    np.save("right.npy", episodes[2].numpy())
    np.savez("third.npz", actions=episodes[3:].numpy(), names=["grasp"], other=np.zeros((8, 2)))
    ok("encode", "../models/action", "left.npy", "right.npy", "third.npz", "-o", "x.zoo")
    file = tokenfile.load("x.zoo")
    assert file.names == ("left.000000", "left.000001", "right", "third.grasp")
    assert file.tokens.equal(toy.make("action").encode(episodes))
    ok("encode", "../models/action", "third.npz", "--key", "other", "-o", "y.zoo")
    assert len(tokenfile.load("y.zoo").tokens) == 1
    fails(capsys, ["encode", "../models/action", "third.npz", "--key", "mine", "-o", "z.zoo"], "no array 'mine'")


def test_nothing_is_changed_unless_asked(work, capsys):
    media.write_wav("stereo.wav", torch.zeros(2, 800), 8000)
    write(work / "big.png", "image", size=(20, 16))
    write(work / "long.mp4", "video", size=(16, 16), frames=5)
    cases = [
        ("speech", "stereo.wav", ["2 channels", "pass --mix-down"], ["--mix-down"]),
        ("speech", "stereo.wav", ["8000 Hz, 16000 Hz is expected", "pass --resample"], ["--mix-down", "--resample"]),
        (
            "image",
            "big.png",
            ["20 pixels high and 16 wide", "the model takes 8 × 8", "--resize cut"],
            ["--resize", "cut"],
        ),
        ("video", "long.mp4", ["16 pixels high and 16 wide"], ["--trim", "--resize", "stretch"]),
    ]
    flags = {}
    for modality, name, parts, more in cases:
        fails(capsys, ["encode", f"../models/{modality}", name, "-o", "x.zoo", *flags.get(modality, [])], name, *parts)
        flags[modality] = more
    for modality, name in (("speech", "stereo.wav"), ("image", "big.png"), ("video", "long.mp4")):
        ok("encode", f"../models/{modality}", name, "-o", f"{modality}.zoo", *flags[modality])
    assert tokenfile.load("speech.zoo").tokens.signal_lengths.tolist() == [1600]
    expected = toy.make("image").encode(media.read_image("big.png", size=(8, 8)))
    assert tokenfile.load("image.zoo").tokens.equal(expected)


def test_transparent_pictures(work, capsys):
    from PIL import Image

    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save("clear.png")
    fails(capsys, ["encode", "../models/image", "clear.png", "-o", "x.zoo"], "clear.png", "pass --on-white")
    ok("encode", "../models/image", "clear.png", "-o", "x.zoo", "--on-white")
    assert tokenfile.load("x.zoo").tokens.ids.tolist() == [[15] * 4]


def test_inputs_that_cannot_be_encoded(work, capsys):
    write(work / "good.png", "image")
    Path("bad.png").write_bytes(b"no picture")
    Path("empty").mkdir()
    bad = toy.signals("action", 2).numpy()
    np.save("nan.npy", np.where(np.arange(2)[:, None, None] == 1, np.nan, bad))
    np.save("wide.npy", bad[:, :, :1])
    cases = [
        (["image", "good.png", "bad.png"], ["bad.png", "cannot be read as an image"]),
        (["image", "empty"], ["the folder 'empty' has no files of image"]),
        (["image", "none.png"], ["'none.png' does not exist"]),
        (["action", "nan.npy"], ["nan.000001", "holds nan at step 0"]),
        (["action", "wide.npy"], ["wide.000000: ", "toy_action.s0 takes (B, 8, 2)"]),
        (["speech", "good.png"], ["good.png", "has no sound track"]),
        (["none", "good.png"], ["../models/none is not there"]),
    ]
    for (modality, *inputs), parts in cases:
        fails(capsys, ["encode", f"../models/{modality}", *inputs, "-o", "x.zoo"], *parts)
    Path("good.png").rename("goo\\d.png")
    fails(capsys, ["encode", "../models/image", "goo\\d.png", "-o", "x.zoo"], "names are relative paths")


def test_outputs_are_looked_at_before_the_work(work, capsys):
    write(work / "a.png", "image")
    write(work / "there.zoo", "image")
    Path("folder.zoo").mkdir()
    for target, part in [
        ("there.zoo", "exists already: choose another path, or pass --overwrite"),
        ("folder.zoo", "is a folder"),
        ("none/x.zoo", "the folder none does not exist"),
    ]:
        fails(capsys, ["encode", "no-such-model", "a.png", "-o", target], part)
    ok("encode", "../models/image", "a.png", "-o", "there.zoo", "--overwrite")
    assert len(tokenfile.load("there.zoo").tokens) == 1


def test_a_model_at_another_rate_is_pointed_out(work, capsys):
    np.savez("slow.npz", actions=np.zeros((30, 4)), control_rate=10.0)
    ok("encode", "beast", "slow.npz", "-o", "x.zoo")
    assert capsys.readouterr().err == "note: the data has 10 commands a second, the model was made for 80.\n"


# Kills


KILLED = """
import os, signal, sys
from zoo import families, tokenfile
from zoo.cli import main
from zoo.families.beast import BeastTokenizer

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv.pop(1)
if where == "encode":
    calls, original = [], BeastTokenizer.encode
    BeastTokenizer.encode = lambda *a: calls.append(0) or (kill() if len(calls) == 3 else original(*a))
else:
    os.fsync = kill
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_kill_leaves_no_output(tmp_path):
    arguments = ["encode", "beast", str(SAMPLE), "--batch-size", "1", "-o"]
    for where in ("encode", "write"):
        done = children.run(KILLED, where, *arguments, tmp_path / f"{where}.zoo")
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.glob("[!.]*")) == []
    ok(*arguments, tmp_path / "write.zoo")
    assert len(tokenfile.load(tmp_path / "write.zoo").tokens) == 4
