"""What arguments and a model's settings make impossible is said before anything is encoded, drawn or decoded."""

from pathlib import Path

import pytest
import tiny_flextok
import tiny_larp
import tiny_ssdd
import tiny_stabletoken
import tiny_textok
from cli_files import fails, work, write
from motion import smooth

import zoo
from zoo import tokenfile
from zoo.cli import main
from zoo.data import signals
from zoo.errors import ConfigError, InputError, TokenError
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.families.fast.options import DecodeOptions as FastOptions
from zoo.generator import GeneratorConfig, TokenGenerator
from zoo.modalities.video import VideoTokenizer
from zoo.spec import TokenSpec
from zoo.tokens import Tokens

__all__ = ["work"]  # a fixture

SIZES = {"modality": "video", "codebook_size": 32, "width": 16, "num_layers": 1, "num_heads": 2, "mlp_size": 16}


@pytest.fixture
def larp(work):
    tokenizer = tiny_larp.make()
    tokenizer.name = "larp.tiny"
    zoo.save(tokenizer, "../models/larp")
    return zoo.load("../models/larp")


def generator(tokenizer, path, **settings):
    model = TokenGenerator(GeneratorConfig(max_tokens=6, **settings, **SIZES)).of(tokenizer).eval()
    zoo.save(model, path, name="generator.tiny")


@pytest.fixture
def nothing_is_made(monkeypatch):
    """Drawing, encoding and decoding are mistakes."""

    def made(*arguments, **options):
        raise AssertionError("work was begun")

    monkeypatch.setattr(TokenGenerator, "sample", made)
    for name in ("encode", "decode"):
        monkeypatch.setattr(VideoTokenizer, name, made)
    monkeypatch.setattr("zoo.generator.first_frames", made)


def test_before_drawing(larp, capsys, nothing_is_made):
    generator(larp, "../models/ids")
    draw = ("generate", "../models/ids", "--tokenizer", "../models/larp", "-o", "out")
    fails(capsys, draw, "0000: the frame rate is not known: pass --frame-rate HZ")
    rated = [*draw, "--frame-rate", "5"]
    fails(capsys, [*rated, "--num-frames", "9"], "whole windows of 6 tokens", "6 tokens of 9 frames")
    fails(capsys, [*rated, "--num-frames", "0"], "at least 1")
    fails(capsys, [*rated, "--classes", "0,1"], "has no classes")
    fails(capsys, [*rated, "--guidance", "2"], "guidance is towards a class")
    write(Path("out/0001.mp4"), "video")
    fails(capsys, [*rated, "--num", "2"], "0001.mp4 exists already")


def test_before_reading_what_is_continued(larp, work, capsys, nothing_is_made):
    generator(larp, "../models/frames", prefix_tokens=6, condition_frames=3)
    write(work / "a.mp4", "video", frames=4)
    go_on = ("generate", "../models/frames", "--tokenizer", "../models/larp", "-o", "out", "--condition", "a.mp4")
    fails(capsys, [*go_on, "--classes", "1"], "takes no labels")
    fails(capsys, [*go_on, "--guidance", "2"], "guidance is towards a class")
    fails(capsys, [*go_on, "a.mp4", "--num", "3"], "2 clips to go on from for 3 samples")
    fails(capsys, [*go_on, "--num-frames", "9"], "6 tokens of 9 frames")


def test_before_decoding(larp, capsys, nothing_is_made):
    tokens = Tokens.from_ids([[0] * 6] * 2, codebook_size=32, model=larp.name)
    tokenfile.save("a.zoo", tokens, larp, ["one", "two"], rates=[5.0, None])
    decode = ("decode", "a.zoo", "-o", "out")
    fails(capsys, decode, "two: the frame rate is not known")  # the first one is not written either
    fails(capsys, [*decode, "--frame-rate", "60", "--gif"], "a GIF has up to 50")
    fails(capsys, [*decode, "--frame-rate", "5", "--num-frames", "9"], "6 tokens of 9 frames")


def test_frames_that_mp4_cannot_have():
    spec = TokenSpec("video", 32, num_tokens=6, input_size=(4, 9, 8))
    with pytest.raises(InputError, match="9 × 8"):
        signals.of("video").check_writing(Path("a.mp4"), spec, 5.0)
    signals.of("video").check_writing(Path("a.gif"), spec, 5.0)


STABLETOKEN = {"decoder": tiny_stabletoken.TINY_DECODER}


@pytest.mark.parametrize(
    ("make", "kind", "options", "error"),
    [
        (tiny_stabletoken.make, "encode", {"overlap": 40.0}, ConfigError),
        (tiny_stabletoken.make, "decode", {}, TokenError),  # there is no decoder
        (lambda: tiny_stabletoken.make(**STABLETOKEN), "decode", {"steps": 0}, ConfigError),
        (lambda: tiny_stabletoken.make(**STABLETOKEN), "decode", {"guidance": float("nan")}, ConfigError),
        (tiny_flextok.make, "encode", {"num_tokens": 1000}, TokenError),
        (tiny_flextok.make, "encode", {"max_error": -1.0}, ConfigError),
        (tiny_flextok.make, "decode", {"steps": 0}, ConfigError),
        (tiny_ssdd.make, "decode", {"steps": 0}, ConfigError),
        (lambda: tiny_textok.make(text_in="none"), "encode", {"caption": "a cat"}, ConfigError),
        (lambda: tiny_textok.make(text_in="none"), "decode", {"caption": "a cat"}, ConfigError),
        (lambda: BeastTokenizer(BeastConfig(2, 8, 5)), "decode", {"derivative": -1}, InputError),
    ],
)
def test_families_check_their_options_without_a_signal(make, kind, options, error):
    with pytest.raises(error):
        getattr(make(), f"check_{kind}")(**options)


def test_options_that_are_fine_pass():
    tokenizer = tiny_larp.make()
    tokens = tokenizer.encode([tiny_larp.clip(frames=3), tiny_larp.clip(frames=4)])
    tokenizer.check_decode(tokens, clamp=False)
    tokenizer.check_decode(tokens[1:], num_frames=2)
    tokenizer.check_encode(on_white=True)
    BeastTokenizer(BeastConfig(2, 8, 5)).fit(smooth(3, 16, 2)).check_decode(derivative=1)
    with pytest.raises(TokenError, match="num_chunks"):
        FastOptions(0)
    with pytest.raises(TypeError):
        tokenizer.check_encode(overlap=1.0)


@pytest.mark.parametrize("flag", ["--out", "--markdown", "--html"])
def test_before_measuring(flag, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("zoo.evaluation.run", lambda *arguments, **options: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "x"):
        assert main(["eval", "image", flag, str(path)]) == 1
        assert "folder" in capsys.readouterr().err
