"""Suites, recipes and scripts by name, as in a checkout so in a wheel."""

import pytest

from zoo import cli, resources
from zoo.cli.training import _with_files
from zoo.errors import ConfigError, UnknownNameError


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
