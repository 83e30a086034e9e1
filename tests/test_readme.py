"""The README's first example prints what it says, and what it names exists."""

import contextlib
import io
import re
from pathlib import Path

import pytest

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
