"""`zoo encode` and `zoo decode` of videos: of any length, as MP4 and GIF, and in parts where they are long."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import toy
from cli_files import fails, listed, ok, work, write
from PIL import Image

import zoo
from zoo import tokenfile
from zoo.cli._output import Ticker
from zoo.data import media
from zoo.data.signals import video as video_signal

__all__ = ["work"]  # a fixture


@pytest.fixture
def clips(work):
    for seed, (name, frames) in enumerate({"one": 1, "two": 2, "odd": 5}.items()):
        write(work / "clips" / f"{name}.mp4", "video", seed, frames=frames)
    ok("encode", "../models/video", "clips", "-o", "x.zoo", "--batch-size", "2")
    return work


def lengths(folder):
    return {path.name: media.read_video(path)[0].shape[1] for path in Path(folder).iterdir()}


def test_videos_of_any_length_come_back_as_long(clips, capsys):
    ok("decode", "x.zoo", "-o", "out")
    assert lengths("out") == {"one.mp4": 1, "two.mp4": 2, "odd.mp4": 5}
    assert "3 items decoded" in capsys.readouterr().out
    file = tokenfile.load("x.zoo")
    assert dict(zip(file.names, file.tokens.signal_lengths.tolist(), strict=True)) == lengths("clips")
    assert file.tokens.grid is None, "which several windows do not have"


def test_videos_are_written_as_gifs(clips, capsys):
    ok("decode", "x.zoo", "-o", "out", "--gif")
    assert listed("out") == ["odd.gif", "one.gif", "two.gif"]
    with Image.open("out/odd.gif") as image:
        assert image.size == (8, 8)
        assert image.info["loop"] == 0
    write(Path("a.png"), "image")
    ok("encode", "../models/image", "a.png", "-o", "y.zoo")
    fails(capsys, ["decode", "y.zoo", "-o", "gifs", "--gif"], "only videos are written as GIF")


def test_a_long_video_is_never_held(clips, monkeypatch):
    write(Path("long.mp4"), "video", 3, frames=41)
    arguments = ("../models/video", "clips", "long.mp4", "--bits")
    ok("encode", *arguments, "-o", "whole.zoo")
    read = []
    original = video_signal.frames_of

    def frames_of(file, **options):
        for frame in original(file, **options):
            if file.name == "long.mp4":
                read.append(file)
            yield frame

    ahead = []
    encode = toy.ToyVideo.encode

    def counting(self, x, lengths=None, **options):
        ahead.append(len(read))
        return encode(self, x, lengths, **options)

    monkeypatch.setattr(video_signal, "frames_of", frames_of)
    monkeypatch.setattr(toy.ToyVideo, "encode", counting)
    monkeypatch.setattr(video_signal, "_LONG", 8 * 8 * 3 * 20)
    ok("encode", *arguments, "-o", "parts.zoo", "--workers", "2")
    whole, parts = tokenfile.load("whole.zoo"), tokenfile.load("parts.zoo")
    assert parts.tokens.equal(whole.tokens)
    assert (parts.names, parts.rates) == (whole.names, whole.rates)
    of_long = ahead[-3:]  # 41 frames in windows of 2, eight at a time
    assert [later - earlier for earlier, later in pairwise(of_long)] == [16, 9]


def test_how_much_of_a_long_video_is_done_is_shown(work, monkeypatch):
    told = []
    monkeypatch.setattr(Ticker, "partly", lambda self, share: told.append(share))
    monkeypatch.setattr(video_signal, "_LONG", 8 * 8 * 3 * 20)
    write(Path("long.mp4"), "video", frames=41)
    ok("encode", "../models/video", "long.mp4", "-o", "x.zoo")
    assert told == [frame / 41 for frame in range(1, 42)]
    told.clear()
    ok("decode", "x.zoo", "-o", "out")
    assert told == [min(41, 2 * window) / 41 for window in range(1, 22)], "window by window"


def test_what_a_model_with_a_rate_does_with_other_rates(work, capsys):
    tokenizer = toy.make("video")
    tokenizer.spec = type(tokenizer.spec)(**{**vars(tokenizer.spec), "sample_rate": 25.0})
    write(work / "a.mp4", "video", frames=5)
    signal = video_signal.VideoSignal()
    reading = video_signal.Reading(resample=True)
    clip, rate = signal._read_file(work / "a.mp4", tokenizer.spec, reading)
    assert (clip.shape[1], rate) == (10, 25.0)


def test_decoded_parts_are_the_whole(clips):
    file = tokenfile.load("x.zoo")
    tokenizer = zoo.load("../models/video")
    ok("decode", "x.zoo", "-o", "out")
    row = file.names.index("odd.mp4")
    expected = tokenizer.decode(file.tokens[row])[0]
    media.write_mp4("expected.mp4", expected.clamp(0, 1), 12.5)
    assert torch.equal(media.read_video("out/odd.mp4")[0], media.read_video("expected.mp4")[0])
