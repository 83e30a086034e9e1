"""What an installed copy is: light to import, and whole without the checkout."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

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


def run(installed, code, cwd):
    script = f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_loads_its_models_without_the_checkout(installed, tmp_path):
    code = """
import json, zoo
from zoo import resources
tok = zoo.load("beast")
print(json.dumps([zoo.__file__, zoo.list_models(), tok.name, str(resources.path("model_cards", "beast.default.md")),
                  str(resources.path("eval", "action.yaml"))]))
"""
    file, models, name, card, suite = json.loads(run(installed, code, tmp_path))
    assert {"beast.default", "binning.default", "fast.default"} <= set(models)
    assert name == "beast.default"
    for path in (file, card, suite):
        assert path.startswith(str(installed)), path


def test_the_demo_shows_every_shipped_model_from_the_wheel(installed, tmp_path):
    shown = run(installed, "from zoo.cli.demo import main; main(['--out', 'out'])", tmp_path)
    shipped = [name for name in registry.list_models() if registry.model(name).is_shipped]
    assert {"beast.default", "stabletoken.nano"} <= set(shipped)
    for name in shipped:
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert min(picture.size) > 300
            # More than a blank page: curves, axes and text.
            assert len(picture.convert("L").getcolors(2**20)) > 50
        assert f"{name}.png" in shown


def test_the_wheel_has_no_tests_and_no_leftovers(installed):
    (wheel,) = installed.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    names.remove("zoo/testing.py")  # for other packages' tests
    assert not [name for name in names if "test" in name or name.endswith((".pyc", ".log"))]
    assert "zoo/py.typed" in names


def test_importing_is_light():
    code = """
import sys, json, zoo
after_import = set(sys.modules)
zoo.load, zoo.list_models, zoo.info, zoo.register, zoo.Tokenizer, zoo.Tokens
print(json.dumps([sorted(after_import), sorted(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    at_import, at_use = (set(names) for names in json.loads(done.stdout))
    assert not at_import & {"torch", "numpy", "yaml", "safetensors"}
    assert not at_use & {"torchvision", "torchaudio", "transformers", "lightning", "torchmetrics", "rich", "PIL"}


def test_p5_names_that_the_readme_gives_work_in_the_wheel(installed, tmp_path):
    """Suites, recipes and data by the names that help and README use, which are no paths of the checkout."""
    code = """
import sys
from zoo import cli, resources
from zoo.cli.training import _with_files
from zoo.evaluation import read_suite
names = NAMES
for name in names["eval"]:
    read_suite(resources.named_suite(name))
for name in names["recipe"]:
    assert resources.named_recipe(name).is_file()
for name in names["data"]:
    assert resources.named_script(name).is_file()
print(_with_files(["--config", "recipe:stabletoken/nano", "--config=recipe:stabletoken/paper", "--x", "recipe:y"]))
sys.exit(cli.main(["data", "stab", "--help"]))
"""
    texts = [ROOT / "README.md", *ROOT.glob("model_cards/*.md"), *ROOT.glob("eval/*.yaml"), *ROOT.glob("recipes/**/*")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in texts if path.suffix in (".md", ".yaml", ".py"))
    found = {
        "eval": sorted(set(re.findall(r"zoo eval ([a-z]+)\b(?![./])", text))),
        "recipe": sorted(set(re.findall(r"recipe:([a-z_]+/[a-z_]+)", text))),
        "data": sorted(set(re.findall(r"zoo data ([a-z]+)\b", text))),
    }
    assert "zoo eval eval/" not in text
    assert "--config recipes/" not in text
    assert {"action", "stab"} <= set(found["eval"])
    assert {"stabletoken/nano"} <= set(found["recipe"])
    assert {"speech", "metaworld"} <= set(found["data"])
    shown = run(installed, code.replace("NAMES", repr(found)), tmp_path)
    assert f"'--config', '{installed}/zoo/_data/recipes/stabletoken/nano.yaml', '--config={installed}/zoo" in shown
    assert "'--x', 'recipe:y'" in shown
    assert "usage:" in shown
