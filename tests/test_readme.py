"""The README's first example prints what it says, and what it names exists."""

import contextlib
import io
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_flextok
import torch
import toy

import zoo
from zoo import registry

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


def test_a_picture_and_its_first_tokens(monkeypatch, tmp_path):
    """The block as it is, with a random model of a few thousand numbers under the name that it loads."""
    monkeypatch.chdir(ROOT)
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "flextok" in text)
    name = re.search(r'zoo\.load\("([^"]+)"\)', block)[1]
    config = replace(tiny_flextok.CONFIG, num_tokens=32, steps=1, guidance=1.0)
    zoo.save(tiny_flextok.make(config), tmp_path, name=name)
    entry = replace(registry.model(name), source=str(tmp_path), restriction="")
    names = {"zoo": zoo}
    with toy.registered():
        zoo.register(entry, replace=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "1 of 1 images do not come back")  # it is random
            exec(block, names)
    assert names["tokens"].ids.shape == (1, 32)
    assert names["few"].equal(names["flex"].encode(names["photo"], num_tokens=16))
    assert names["image"].shape == (1, 3, 16, 16)
    assert 1 <= int(names["short"].lengths) <= 32


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
