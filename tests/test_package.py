"""What an installed copy is: whole without the checkout. That it is light to import is in `test_loading.py`."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import children
import pytest
from PIL import Image

from zoo import registry

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel holds, as pip would unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    # hatchling builds from the files git knows, as for a release.
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    # Each of six families ships a model of up to 10 MB, StableToken one whose decoder is a second file of that size.
    assert wheel.stat().st_size < 60 * 2**20
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, code, cwd, *arguments):
    """Run code that imports what the wheel holds, and return what it prints."""
    done = children.run(f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def names():
    """What README, cards, suites and recipes name by a command that is no path of the checkout."""
    texts = [ROOT / "README.md", *ROOT.glob("model_cards/*.md"), *ROOT.glob("eval/*.yaml"), *ROOT.glob("recipes/**/*")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in texts if path.suffix in (".md", ".yaml", ".py"))
    assert "zoo eval eval/" not in text
    assert "--config recipes/" not in text
    return {
        "eval": sorted(set(re.findall(r"zoo eval ([a-z]+)\b(?![./])", text))),
        "recipe": sorted(set(re.findall(r"recipe:([a-z_]+/[a-z_]+)", text))),
        "data": sorted(set(re.findall(r"zoo data ([a-z]+)\b", text))),
    }


@pytest.fixture(scope="module")
def told(installed, names, tmp_path_factory):
    """What an installed copy says of its files, and below it a script's help: one process, for it imports torch."""
    code = """
import json, sys, zoo
from zoo import cli, resources
from zoo.cli.training import _with_files
from zoo.evaluation import read_suite
names = json.loads(sys.argv[1])
for name in names["eval"]:
    read_suite(resources.named_suite(name))
print(json.dumps({
    "models": zoo.list_models(),
    "loaded": zoo.load("beast").name,
    "paths": list(map(str, [
        zoo.__file__,
        resources.path("model_cards", "beast.default.md"),
        resources.path("eval", "action.yaml"),
        *(resources.named_recipe(name) for name in names["recipe"]),
        *(resources.named_script(name) for name in names["data"]),
    ])),
    "arguments": _with_files(
        ["--config", "recipe:stabletoken/nano", "--config=recipe:stabletoken/paper", "--x", "recipe:y"]
    ),
}), flush=True)
sys.exit(cli.main(["data", "stab", "--help"]))
"""
    facts, shown = run(installed, code, tmp_path_factory.mktemp("elsewhere"), json.dumps(names)).split("\n", 1)
    return json.loads(facts) | {"help": shown}


def test_the_wheel_loads_its_models_without_the_checkout(installed, told):
    assert {"beast.default", "binning.default", "fast.default"} <= set(told["models"])
    assert told["loaded"] == "beast.default"
    for path in told["paths"]:
        assert path.startswith(str(installed)), path
        assert Path(path).is_file(), path


def test_the_demo_shows_every_shipped_model_from_the_wheel(installed, tmp_path):
    shown = run(installed, "from zoo.cli.demo import main; main(['--out', 'out'])", tmp_path)
    shipped = [name for name in registry.list_models() if registry.model(name).is_shipped]
    assert {"beast.default", "stabletoken.nano"} <= set(shipped)
    shipped += [name for name in registry.list_generators() if registry.generator(name).is_shipped]
    for name in shipped:
        is_moving = registry.info(name)["modality"] == "video"
        file = f"{name}.{'gif' if is_moving else 'png'}"
        with Image.open(tmp_path / "out" / file) as picture:
            assert min(picture.size) > (250 if is_moving else 300)
            assert (getattr(picture, "n_frames", 1) > 1) == is_moving
            # More than a blank page: curves, axes and text.
            assert len(picture.convert("L").getcolors(2**20)) > 50
        assert file in shown


def test_the_wheel_has_no_tests_and_no_leftovers(installed):
    (wheel,) = installed.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    names.remove("zoo/testing.py")  # for other packages' tests
    assert not [name for name in names if "test" in name or name.endswith((".pyc", ".log"))]
    assert "zoo/py.typed" in names


def test_p5_names_that_the_readme_gives_work_in_the_wheel(installed, names, told):
    """Suites, recipes and data by the names that help and README use, which are no paths of the checkout."""
    assert {"action", "stab"} <= set(names["eval"])
    assert {"stabletoken/nano"} <= set(names["recipe"])
    assert {"speech", "metaworld"} <= set(names["data"])
    recipes = f"{installed}/zoo/_data/recipes/stabletoken"
    expected = ["--config", f"{recipes}/nano.yaml", f"--config={recipes}/paper.yaml", "--x", "recipe:y"]
    assert told["arguments"] == expected
    assert "usage:" in told["help"]
