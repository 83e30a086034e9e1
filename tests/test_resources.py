"""Suites, recipes and scripts by name, as in a checkout so in a wheel; and where data lies."""

from pathlib import Path

import pytest
import yaml

from zoo import cli, resources
from zoo.checkpoint.whisper import read_whisper
from zoo.cli.training import _with_files
from zoo.data.manifest import default_folder
from zoo.data.speech import SpeechData
from zoo.errors import CheckpointError, ConfigError, UnknownNameError
from zoo.evaluation import items


def test_p5_suites_recipes_and_data_have_names():
    assert resources.named_suite("action").name == "action.yaml"
    assert resources.named_recipe("stabletoken/nano").parts[-3:] == ("recipes", "stabletoken", "nano.yaml")
    assert resources.named_script("speech").name == "speech.py"


@pytest.mark.parametrize(
    ("find", "name", "near"),
    [
        (resources.named_suite, "acton", "action"),
        (resources.named_suite, "../recipes/stabletoken/nano", "known"),
        (resources.named_suite, "", "known"),
        (resources.named_recipe, "stabletoken/nan", "stabletoken/nano"),
        (resources.named_recipe, "/etc/passwd", "known"),
        (resources.named_script, "_speech", "speech"),
        (resources.named_script, "x" * 5000, "known"),
    ],
)
def test_other_names_are_refused(find, name, near):
    with pytest.raises(UnknownNameError, match=near):
        find(name)


def test_p5_config_takes_names_and_paths():
    path = str(resources.named_recipe("stabletoken/nano"))
    given = ["--config", "recipe:stabletoken/nano", "--config=recipe:stabletoken/nano", "--config", "a=b.yaml", "--x=y"]
    assert _with_files(given) == ["--config", path, f"--config={path}", "--config", "a=b.yaml", "--x=y"]
    assert _with_files(["--config", "/dev/fd/0", "--config"]) == ["--config", "/dev/fd/0", "--config"]
    with pytest.raises(ConfigError, match="not a regular file"):
        _with_files(["--config", "/dev/zero"])
    with pytest.raises(UnknownNameError, match="did you mean 'stabletoken/nano'"):
        _with_files(["--config=recipe:stabletoken/nanno"])


def test_p5_help_names_nothing_by_its_path_in_the_checkout(capsys):
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "recipes/" not in shown.replace("recipes/data", "")
    assert "eval/" not in shown


def test_p5_data_is_made_by_name(capfd):
    assert cli.main(["data", "stab", "--help"]) == 0
    assert "usage: stab.py" in capfd.readouterr().out
    assert cli.main(["data", "stab", "--no-such-option"]) == 1
    assert "`zoo data stab` failed" in capfd.readouterr().err
    assert cli.main(["data", "stabb"]) == 1
    assert "did you mean 'stab'" in capfd.readouterr().err
    assert cli.main(["data"]) == 2


@pytest.fixture(params=["set", "empty", "unset"])
def cache(request, tmp_path, monkeypatch):
    """The cache that the environment says."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if request.param == "unset":
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other") if request.param == "set" else "")
    return (tmp_path / "other" if request.param == "set" else tmp_path / "home" / ".cache") / "tokenizer-zoo"


def test_h4_one_place_says_where_the_cache_is(cache):
    assert resources.cache() == items.cache() == cache
    assert default_folder() == SpeechData().folder == cache / "speech"
    assert SpeechData(folder="${cache}/mine").folder == cache / "mine"


def test_h4_every_recipe_finds_it(cache):
    found = set()
    for path in sorted(resources.path("recipes").glob("*/*.yaml")):
        assert "~/.cache" not in path.read_text(encoding="utf-8"), path
        whisper = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["init_args"].get("whisper", "")
        if whisper.startswith("$"):
            found.add(resources.expanded(whisper))
            with pytest.raises(CheckpointError, match=str(cache)):
                read_whisper(whisper)
    assert found == {cache / "whisper-tiny.en", cache / "whisper-base"}


def test_h4_other_paths_stay(cache, tmp_path):
    assert resources.expanded("${cache}") == cache
    for given in ("x/${cache}/y", "${cachet}/x", "/a/b", "rel"):
        assert resources.expanded(given) == Path(given)
    assert resources.expanded("~/x") == tmp_path / "home" / "x"
