"""Folders of pictures through `zoo encode` and `zoo decode`, with the options that a family declares."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import tiny_flextok
import torch
import toy
from cli_files import fails, listed, ok, work, write
from PIL import Image

import zoo
from zoo import tokenfile
from zoo.cli import main
from zoo.cli._declared import declared
from zoo.data import media
from zoo.data.signals import ImageSignal
from zoo.spec import DECODES

__all__ = ["work"]  # a fixture

FLEX = "../models/flex"


@pytest.fixture
def flex(work):
    """A random FlexTok, and three pictures for it in folders."""
    zoo.save(tiny_flextok.make(), work.parent / "models" / "flex", name="flextok.tiny")
    for number, name in enumerate(("a.png", "deep/er/b.png", "c.png")):
        (work / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        media.write_png(work / "in" / name, tiny_flextok.picture(number))
    return zoo.load(FLEX)


IN_ORDER = ["in/a.png", "in/c.png", "in/deep/er/b.png"]


def test_every_format_that_the_reader_knows_is_taken_from_folders(work):
    Image.init()
    saved = []
    for suffix in ImageSignal.suffixes:
        kind = Image.EXTENSION.get(suffix)
        assert kind in Image.OPEN, f"{suffix} is not read here"
        if kind in Image.SAVE:
            mode = {"PFM": "F", "PSD": None}.get(kind, "RGB")
            folder = Path("in", "more", suffix[1:])
            folder.mkdir(parents=True)
            Image.new("L" if suffix == ".pgm" else "RGB", (32, 32), 100).convert(mode).save(folder / f"x{suffix}")
            saved.append(f"more/{suffix[1:]}/x{suffix}")
    assert len(saved) > 20
    ok("encode", "../models/image", "in", "-o", "x.zoo", "--resize", "stretch", "--keep-folders")
    names = {name.partition("/")[2] if name.startswith("in/") else name for name in tokenfile.load("x.zoo").names}
    assert {f"more/{name}" if not name.startswith("more/") else name for name in names} == set(saved)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_files_read_ahead_keep_their_order_and_a_broken_one_is_named(workers, work, capsys):
    for number in range(12):
        write(work / "in" / f"{number}.png", "image", number)
    (work / "in" / "7.png").write_bytes((work / "in" / "6.png").read_bytes()[:70])
    arguments = ["encode", "../models/image", "in", "-o", "x.zoo", "--batch-size", "5", "--workers", workers]
    fails(capsys, [*arguments[:-4], "--workers", workers], "7.png", "cannot be read", "--skip-bad")
    ok(*arguments, "--skip-bad", "--json")
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["left_out"]] == ["7.png"]
    file = tokenfile.load("x.zoo")
    good = [number for number in range(12) if number != 7]
    assert file.names == tuple(f"{number}.png" for number in good)
    assert file.tokens.equal(toy.make("image").encode([f"in/{number}.png" for number in good]))


def test_a_family_s_own_options_of_encoding(flex, capsys):
    ok("encode", FLEX, "in", "-o", "x.zoo", "--num-tokens", "3")
    file = tokenfile.load("x.zoo")
    assert file.tokens.equal(flex.encode(IN_ORDER, num_tokens=3))
    assert file.names == ("a.png", "c.png", "b.png")
    assert file.spec.trained_lengths == flex.spec.trained_lengths
    capsys.readouterr()
    images = torch.stack([*map(media.read_image, IN_ORDER)])
    tokens = flex.encode(images)
    errors = [(flex.decode(tokens[:, :length]) - images).abs().mean((1, 2, 3)) for length in (1, 2, 4, 8)]
    bound = 1.001 * float(torch.stack(errors).amin(0).max())  # which each meets at some length
    ok("encode", FLEX, "in", "-o", "y.zoo", f"--max-error={bound}", "--measure", "mae", "--json")
    expected = flex.encode(IN_ORDER, max_error=bound, measure="mae")
    assert tokenfile.load("y.zoo").tokens.equal(expected)
    assert len(set(expected.lengths.tolist())) > 1, "the bound should tell the pictures apart"
    ok("decode", "y.zoo", "-o", "out")


def test_a_family_s_own_options_of_decoding(flex):
    ok("encode", FLEX, "in", "-o", "x.zoo")
    tokens = flex.encode(IN_ORDER)
    cases: list[tuple[list[str], dict[str, Any]]] = [
        (["--steps", "2", "--guidance", "1.5", "--seed", "4"], {"steps": 2, "guidance": 1.5, "seed": 4}),
        (["--steps=2", "--no-adaptive-guidance"], {"steps": 2, "adaptive_guidance": False}),
        (["--steps=2", "--adaptive-guidance"], {"steps": 2, "adaptive_guidance": True}),
    ]
    seen = []
    for number, (arguments, options) in enumerate(cases):
        ok("decode", "x.zoo", "-o", f"out{number}", *arguments)
        assert listed(f"out{number}") == ["a.png", "b.png", "c.png"]
        found = torch.stack([media.read_image(f"out{number}/{name}.png") for name in "acb"])
        torch.testing.assert_close(found, flex.decode(tokens, **options), rtol=0, atol=1 / 510 + 1e-6)
        seen.append(found)
    assert not any(torch.equal(seen[i], seen[j]) for i, j in [(0, 1), (1, 2)])


def test_the_model_of_the_command_line_says_which_options_there_are(flex, capsys):
    for arguments, parts in [
        (["encode", FLEX, "in", "-o", "x.zoo", "--nun-tokens", "3"], ["--nun-tokens", "flextok takes --num-tokens"]),
        (["encode", FLEX, "in", "-o", "x.zoo", "--num-tokens", "few"], ["'few' is not a whole number"]),
        (["encode", FLEX, "in", "-o", "x.zoo", "--measure", "psnr"], ["'psnr' is not 'mse' or 'mae'"]),
        (["encode", "beast", "in", "-o", "x.zoo", "--overlap", "3"], ["--overlap", "beast takes no options"]),
    ]:
        assert main(arguments) == 2
        shown = capsys.readouterr().err
        assert all(part in shown for part in parts), shown
    fails(capsys, ["encode", FLEX, "in", "-o", "x.zoo", "--num-tokens", "9"], "has 1 to 8 tokens an image")
    fails(capsys, ["encode", "flextalk", "in", "-o", "x.zoo", "--num-tokens", "9"], "there is no model 'flextalk'")
    assert main(["encode", FLEX, "--help"]) == 0
    assert "options of flextok" in capsys.readouterr().out
    assert main(["info", FLEX, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "--num-tokens a whole number" in facts["encode_options"]
    assert "--steps a whole number" in facts["decode_options"]
    assert main(["info", FLEX]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "8 for every image, 128 bits together" in shown
    assert "a coarser code of it; trained were 1, 2, 4, 8" in shown


def test_a_continuous_model_is_shown_too(work, capsys):
    from zoo.components.autoencoder_kl import ConvConfig
    from zoo.families.autoencoder_kl import AutoencoderKLConfig, AutoencoderKLTokenizer

    conv = ConvConfig(block_channels=(8, 12), layers_per_block=1, norm_groups=4)
    zoo.save(AutoencoderKLTokenizer(AutoencoderKLConfig(16, conv)), "vae", name="autoencoder_kl.tiny")
    ok("info", "./vae")
    shown = " ".join(capsys.readouterr().out.split())
    assert "tokens none: it is continuous latents 64 for every image, of 16 numbers each" in shown
    write(work / "a.png", "image", size=(16, 16))
    fails(capsys, ["encode", "./vae", "a.png", "-o", "x.zoo"], "continuous", "encode_latents")


@dataclass
class Options:
    """Options.

    Args:
        count: How many there are,
            or none.
    """

    start: Any = None
    count: int | float | None = None
    kind: Literal["a", "b"] | None = field(default=None, metadata=DECODES)
    is_on: bool = True
    table: dict[str, int] | None = None


def test_what_a_command_line_can_have_of_a_dataclass():
    count, kind, is_on = declared(Options)
    assert (count.flag, count.help) == ("--count", "how many there are, or none")
    assert (count.read("3"), count.read("3.5"), count.read("-1e3")) == (3, 3.5, -1000)
    assert type(count.read("3")) is int
    assert (kind.values, kind.decodes, count.decodes) == ("'a' or 'b'", True, False)
    assert (is_on.flag, is_on.default) == ("--is-on", True)
