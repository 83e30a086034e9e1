"""The README's first example prints what it says, and what it names exists."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

import zoo
from zoo.data.media import read_image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]


def test_the_first_example_prints_its_comments(monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    promised = 0
    for line in FIRST.splitlines():
        code, _, comment = line.partition("#")
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(code, names)
        if code.startswith("print("):
            promised += 1
            assert comment.strip().startswith(shown.getvalue().strip()), line
    assert promised >= 4
    assert str(tuple(names["actions"].shape)) in FIRST
    assert str(tuple(names["wave"].shape)) in FIRST


def test_the_way_through_a_language_model_is_there_and_back():
    block = README.partition("## From Python")[2].partition("```python\n")[2].partition("```")[0]
    lines = [line for line in block.splitlines() if re.match(r"tokens = |shifted|back", line)]
    assert len(lines) == 4
    names = {"torch": torch, "zoo": zoo, "tok": zoo.load("beast")}
    exec("\n".join(lines), names)
    assert names["shifted"].ids.min() >= 50_000
    assert names["back"].tokens.tolist() == names["tokens"].tolist()
    assert names["tok"].decode(names["back"].tokens).shape == (32, 20, 4)


def test_a_picture_and_its_first_tokens(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "flextok" in text)
    names = {"zoo": zoo}
    exec(block, names)
    assert names["tokens"].ids.shape == (1, 32)
    assert names["few"].equal(names["flex"].encode(names["photo"], num_tokens=16))
    assert names["image"].shape == (1, 3, 64, 64)
    assert int(names["short"].lengths) in names["flex"].spec.trained_lengths
    assert names["flex"].spec.trained_lengths == (1, 2, 4, 8, 16, 32)


def test_a_caption_beside_tokens_and_latents_in_one_step(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if '"textok"' in text)
    photo = read_image("zoo/data/samples/dandelion.jpg", size=(64, 64))
    names = {"zoo": zoo, "read_image": read_image, "photo": photo}
    exec(block, names)
    assert names["tokens"].ids.shape == (1, 16)
    assert names["latents"].values.shape == (1, 64, 8)
    assert names["image"].shape == (1, 3, 64, 64)
    assert names["ids"].ids.shape == (1, 64)
    assert names["vae"].config.steps == 1


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_named_commands_exist(capsys):
    from zoo.cli import main

    with contextlib.suppress(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for command in set(re.findall(r"^zoo ([a-z-]+)", README, re.MULTILINE)):
        assert command in shown
