"""`zoo generate` of a generator that predicts frames: it goes on from the first frames of video files."""

import json

import pytest
import tiny_larp
import torch
from cli_files import fails, listed, ok, work, write

import zoo
from zoo.data import media
from zoo.errors import InputError
from zoo.generator import GeneratorConfig, Sampling, TokenGenerator, first_frames

__all__ = ["work"]  # a fixture

SIZES = {"modality": "video", "codebook_size": 32, "width": 16, "num_layers": 1, "num_heads": 2, "mlp_size": 16}


@pytest.fixture
def models(work):
    """A tokenizer of 6 tokens for 4 frames, and a generator of what follows the first 3 of these, in ../models."""
    tokenizer = tiny_larp.make()
    tokenizer.name = "larp.tiny"
    zoo.save(tokenizer, "../models/larp")
    tokenizer = zoo.load("../models/larp")
    torch.manual_seed(0)
    generator = TokenGenerator(GeneratorConfig(max_tokens=6, prefix_tokens=6, condition_frames=3, **SIZES))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.normal_(std=0.5)
    zoo.save(generator.of(tokenizer).eval(), "../models/frames", name="generator.frames")
    for seed, frames in enumerate((3, 7)):
        write(work / f"{frames}.mp4", "video", seed, frames=frames)
    write(work / "wide.mp4", "video", 5, size=(12, 16), frames=4)
    return tokenizer, generator


def generate(*arguments):
    return ("generate", "../models/frames", "--tokenizer", "../models/larp", "-o", "out", *arguments)


def test_clips_go_on_from_the_first_frames_of_files(models, capsys):
    tokenizer, generator = models
    ok(*generate("--condition", "7.mp4", "3.mp4", "wide.mp4", "--resize", "cut", "--json", "--top-k", "4"))
    told = json.loads(capsys.readouterr().out)
    assert (told["conditions"], told["tokens"]) == (["7.mp4", "3.mp4", "wide.mp4"], [6, 6, 6])
    assert listed("out") == ["0000.mp4", "0001.mp4", "0002.mp4"]
    clips = torch.stack([media.read_video(f"{name}.mp4", size=(8, 8))[0][:, :3] for name in ("7", "3", "wide")])
    known = first_frames(tokenizer, clips, 3)
    still = torch.cat([clips, clips[:, :, -1:]], 2)
    assert torch.equal(known.ids, tokenizer.encode(still).ids), "the last known frame stands still"
    tokens = generator.sample(prefix=known, sampling=Sampling(top_k=4))
    assert len({tuple(ids) for ids in tokens.tolist()}) == 3, "each clip goes on in its own way"
    for number in range(3):
        media.write_mp4("expected.mp4", tokenizer.decode(tokens[number])[0], 12.5)
        found, rate = media.read_video(f"out/{number:04d}.mp4")
        assert torch.equal(found, media.read_video("expected.mp4")[0])
        assert rate == 12.5, "that of the file which is continued"


def test_one_clip_goes_on_in_several_ways(models, capsys):
    ok(*generate("--condition", "7.mp4", "--num", "2", "--frame-rate", "5", "--json"))
    assert json.loads(capsys.readouterr().out)["conditions"] == ["7.mp4"] * 2
    first, second = (media.read_video(f"out/000{number}.mp4") for number in range(2))
    assert first[1] == 5
    assert not torch.equal(first[0], second[0])
    ok(*generate("--condition", "7.mp4", "--condition-frames", "1", "--overwrite"))
    assert not torch.equal(media.read_video("out/0000.mp4")[0], first[0]), "fewer frames are known"


def test_clips_are_written_as_gif_where_that_is_asked_for(models):
    ok(*generate("--condition", "7.mp4", "--gif"))
    assert listed("out") == ["0000.gif"]
    ok(*generate("--condition", "7.mp4", "--overwrite"))
    clips = [media.read_video(f"out/0000.{kind}")[0] for kind in ("gif", "mp4")]
    assert clips[0].shape == clips[1].shape


def test_what_cannot_be_continued_is_said(models, capsys):
    fails(capsys, generate(), "generator.frames predicts frames", "by --condition")
    fails(capsys, generate("--condition", "none.mp4"), "none.mp4")
    fails(capsys, generate("--condition", "3.mp4", "--condition-frames", "4"), "it has 3 frames, the model takes 4")
    fails(capsys, generate("--condition", "7.mp4", "--condition-frames", "5"), "the first of 4 frames", "were 5")
    fails(capsys, generate("--condition", "wide.mp4"), "12 pixels high and 16 wide", "pass --resize cut")
    fails(capsys, generate("--condition", "3.mp4", "7.mp4", "--num", "3"), "2 clips to go on from for 3 samples")
    fails(capsys, generate("--condition", "3.mp4", "--classes", "1"), "takes no labels")
    fails(capsys, generate("--resize", "cut", "--condition", "../models"), "has no files of video")


def test_what_predicts_no_frames_takes_no_condition(models, capsys):
    tokenizer, _ = models
    config = GeneratorConfig(max_tokens=6, **SIZES)
    zoo.save(TokenGenerator(config).of(tokenizer), "../models/own", name="generator.own")
    own = ("generate", "../models/own", "--tokenizer", "../models/larp", "-o", "out")
    fails(capsys, [*own, "--condition", "7.mp4"], "does not predict frames", "leave --condition out")
    fails(capsys, [*own, "--condition-frames", "2"], "are about the clips that --condition names")
    config = GeneratorConfig(max_tokens=6, prefix_tokens=6, **SIZES)
    zoo.save(TokenGenerator(config).of(tokenizer), "../models/untold", name="generator.untold")
    untold = ("generate", "../models/untold", "--tokenizer", "../models/larp", "-o", "out", "--condition", "7.mp4")
    fails(capsys, untold, "does not say how many frames it goes on from: pass --condition-frames")
    ok(*untold, "--condition-frames", "2")
    with pytest.raises(InputError, match="of 2"):
        first_frames(tokenizer, torch.zeros(1, 3, 2, 8, 8), 3)
