"""`zoo.load`: what is a name, what is a folder, what is an address; and what importing costs."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import children
import pytest
import torch
import toy
from checkpoint_tools import CONFIG, change, manifest, refused

import zoo
from zoo import registry
from zoo.errors import CheckpointError, ConfigError, HubError, UnknownNameError


@pytest.fixture(autouse=True)
def toys():
    with toy.registered():
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a checkpoint in `mine` and one in `models/mine`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    zoo.save(toy.make("image", seed=1), "mine")
    zoo.save(toy.make("image", seed=2), "models/mine")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("./mine", 1),
        ("./mine/", 1),
        ("models/mine", 2),
        ("models/../mine", 1),
        ("~/models/mine", 2),
        (Path("mine"), 1),
        (Path("~/mine"), 1),
        (Path("models") / "mine", 2),
    ],
)
def test_folders(here, name, seed):
    tok = zoo.load(name)
    assert tok.name == f"toy_image.s{seed}"
    assert Path(tok.source).samefile(here / ("mine" if seed == 1 else "models/mine"))


def test_absolute_parent_and_current_folders(here, monkeypatch):
    assert zoo.load(str(here / "mine")).name == "toy_image.s1"
    monkeypatch.chdir(here / "mine")
    assert zoo.load(".").name == "toy_image.s1"
    assert zoo.load("../models/mine").name == "toy_image.s2"
    monkeypatch.chdir(here / "models")
    assert zoo.load("mine/..//mine").name == "toy_image.s2"


def test_saving_expands_the_home_folder_as_loading_does(here):
    zoo.save(toy.make("image", seed=3), "~/third")
    assert (here / "third" / CONFIG).is_file()
    assert zoo.load("~/third").name == "toy_image.s3"


NOT_LOADED = {
    "a folder without its ./": ("mine", UnknownNameError, "but a folder of that name: write zoo.load('./mine')"),
    "a folder that is not there": (
        "./yours",
        CheckpointError,
        "yours is not there: give a folder with config.json and",
    ),
    "a path that is not there": ("models/yours", UnknownNameError, "neither a folder nor a model", "'./models/yours'"),
    "a repository": ("EPFL-VILAB/flextok", UnknownNameError, "a Hub repository is written 'hf://EPFL-VILAB/flextok'"),
    "a page": ("https://huggingface.co/a/b/tree/main", UnknownNameError, "is written 'hf://a/b'"),
    "a shorter page": ("https://hf.co/a/b", UnknownNameError, "is written 'hf://a/b'"),
    "a slash too few": ("hf:/a/b", UnknownNameError, "is written 'hf://a/b'"),
    "capitals": ("HF://a/b", UnknownNameError, "is written 'hf://a/b'"),
    "another address": ("s3://bucket/key", UnknownNameError, "not read: a Hub repository is written 'hf://owner/repo'"),
    "half an address": ("hf://a", HubError, "'hf://a' cannot be read as hf://owner/repo"),
    "a file": ("./mine/config.json", CheckpointError, "config.json is a file or a broken link, not a folder"),
    "a weights file": ("mine/model.safetensors", CheckpointError, "is not a folder", "released files"),
    "nothing": ("", UnknownNameError, "a name is empty", "A folder is written './folder'"),
    "a Windows path": (r"..\models\mine", CheckpointError, r"..\models\mine is not there"),
    "a drive": (r"C:\models\mine", UnknownNameError, "there is neither a folder nor a model"),
    "nobody's home": ("~nobody-has-this-name/x", CheckpointError, "a home folder that cannot be found"),
    "a null byte": ("a\0b", UnknownNameError, "there is no model 'a\\x00b'"),
    "a path with a null byte": ("./a\0b", CheckpointError, "cannot be a path: it holds the character 0"),
    "very long": ("x" * 300, UnknownNameError, "there is no model 'xxx"),
    "a very long path": ("./" + "x" * 300, CheckpointError, "is not there"),
}


@pytest.mark.parametrize("case", NOT_LOADED)
@pytest.mark.skipif(os.sep != "/", reason="the names mean something else there")
def test_what_is_not_loaded_is_explained(here, case):
    name, kind, *parts = NOT_LOADED[case]
    with refused(kind, *parts):
        zoo.load(name)


def test_a_model_name_wins_over_a_folder_of_that_name(here, tmp_path):
    zoo.save(toy.make("image"), tmp_path / "stored", name="toy_image.best")
    zoo.save(toy.make("image", seed=5), "toy_image.best")
    facts = {"modality": "image", "licence": "MIT", "description": "", "trained_on": "", "num_parameters": 2}
    zoo.register(registry.ModelEntry("toy_image.best", "toy_image", source=str(tmp_path / "stored"), **facts))
    assert zoo.load("toy_image.best").trained_on == "nothing, seed 0"
    assert zoo.load("./toy_image.best").trained_on == "nothing, seed 5"


def test_names_of_other_types_are_refused():
    for name in (None, 3, ["beast"]):
        with pytest.raises(TypeError):
            zoo.load(name)


# ------------------------------------------------------------------------------------------------------------- options


def test_the_family_can_be_stated_but_not_wrong(here):
    assert zoo.load("./mine", family="toy_image").name == "toy_image.s1"
    with refused(CheckpointError, "mine holds a toy_image checkpoint, not one of toy_video: leave family out."):
        zoo.load("./mine", family="toy_video")
    with refused(CheckpointError, "not one of nosuch"):
        zoo.load("./mine", family="nosuch")
    (here / "mine" / CONFIG).unlink()
    with refused(UnknownNameError, "there is no family 'nosuch'"):
        zoo.load("./mine", family="nosuch")
    with refused(
        CheckpointError, "mine has no config.json", "It has model.safetensors. Nor does it hold the toy_video"
    ):
        zoo.load("./mine", family="toy_video")


def test_a_model_is_of_its_family(here):
    facts = {"modality": "image", "licence": "MIT", "description": "", "trained_on": "", "num_parameters": 2}
    zoo.register(registry.ModelEntry("toy_image.s1", "toy_image", source=str(here / "mine"), **facts))
    assert zoo.load("toy_image.s1", family="toy_image").name == "toy_image.s1"
    with refused(UnknownNameError, "is a model of the family 'toy_image', not 'toy_video': leave family out"):
        zoo.load("toy_image.s1", family="toy_video")
    with refused(ConfigError, "'toy_image.s1' ships with the library: leave it out"):
        zoo.load("toy_image.s1", revision="main")


def test_the_authors_files_are_read_by_the_family_that_knows_them(here, monkeypatch):
    reader = ModuleType("toy_official")
    reader.EXTRA_FILES = ()
    reader.recognises = lambda folder: (folder / "author.txt").is_file()
    reader.load = lambda folder: toy.make("speech", seed=int((folder / "author.txt").read_text())).train()
    monkeypatch.setitem(sys.modules, "toy_official", reader)
    monkeypatch.setattr(toy.ToySpeech, "official", "toy_official")
    (here / "theirs").mkdir()
    (here / "theirs" / "author.txt").write_text("6")
    for family in (None, "toy_speech"):
        tok = zoo.load("./theirs", family=family)
        assert (tok.name, tok.source, tok.training) == ("toy_speech.s6", "theirs", False)
    with refused(
        CheckpointError, "theirs has no config.json", "Nor does it hold the toy_image authors' released files."
    ):
        zoo.load("./theirs", family="toy_image")


def test_dtype_and_device(here):
    with refused(
        ConfigError, "toy_image gives the same ids only in torch.float32, not in torch.bfloat16: leave dtype out."
    ):
        zoo.load("./mine", dtype=torch.bfloat16)
    assert zoo.load("./mine", dtype=torch.float32).encoder.weight.dtype == torch.float32
    for device in ("cpu", torch.device("cpu")):
        assert zoo.load("./mine", device=device).device.type == "cpu"
    with refused(ConfigError, "there is no device 'gpu': give one such as 'cpu', 'cuda' or 'cuda:1'."):
        zoo.load("./nowhere", device="gpu")


def test_a_revision_is_for_the_hub(here):
    with refused(ConfigError, "revision is for Hub repositories, and './mine' is a folder: leave it out."):
        zoo.load("./mine", revision="main")
    with refused(HubError, "revision='v2' contradicts it"):
        zoo.load("hf://a/b@v1", revision="v2")


def test_a_revision_takes_the_place_of_the_registered_one(here, monkeypatch):
    from zoo import hub

    asked = []

    def download(location, ignore=(), token=None):
        asked.append(str(location))
        return hub.Snapshot(here / "mine", "owner/repo", "c" * 40, location.revision, (CONFIG,))

    monkeypatch.setattr(hub, "download", download)
    facts = {"modality": "image", "licence": "MIT", "description": "", "trained_on": "", "num_parameters": 2}
    zoo.register(registry.ModelEntry("toy_image.s1", "toy_image", source="hf://owner/repo@v1", **facts))
    tok = zoo.load("toy_image.s1")
    assert tok.source == f"hf://owner/repo@{'c' * 40}"
    zoo.load("toy_image.s1", revision="v2")
    zoo.load("hf://owner/repo@v3")
    assert asked == ["hf://owner/repo@v1", "hf://owner/repo@v2", "hf://owner/repo@v3"]


def test_a_family_that_is_not_installed_is_named(here):
    change(here / "mine", family="toy_smell", name="toy_smell.x")
    assert manifest(here / "mine")["family"] == "toy_smell"
    with refused(CheckpointError, "mine/config.json is of the family 'toy_smell', which is not there", "install that"):
        zoo.load("./mine")


# ------------------------------------------------------------------------------------- processes of their own: imports


def run(code):
    """Run code with warnings as errors, and return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(zoo.__file__).parents[1])},
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


HEAVY = {"torchvision", "torchaudio", "transformers", "lightning", "PIL", "soundfile", "av", "huggingface_hub"}
HEAVY |= {"matplotlib", "yaml", "timm", "torchmetrics", "rich", "jsonargparse", "pyarrow", "tokenizers", "scipy"}


def test_importing_is_cheap():
    code = (
        "import sys, json, zoo; dir(zoo); {}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    bare = set(run(code.format("zoo.errors.ZooError")))
    assert not bare & (HEAVY | {"torch", "numpy", "safetensors"})
    names = set(run(code.format("zoo.list_models, zoo.info, zoo.ModelEntry, zoo.TokenSpec")))
    assert not names & (HEAVY | {"torch", "safetensors"})
    loaded = set(run(code.format("zoo.load, zoo.Tokens, zoo.Tokenizer, zoo.register")))
    assert not loaded & HEAVY
    assert loaded >= {"torch", "safetensors"}


def test_unknown_attributes_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'laod'"):
        zoo.laod  # noqa: B018
    assert set(zoo.__all__) <= set(dir(zoo))


PLUGIN = """
    import sys
    sys.path.insert(0, {tests!r})
    import toy
    from zoo import register

    @register
    class Plug(toy.ToyImage):
        family = "plug"
"""

POINTS = """
    [zoo.families]
    plug = plug_package:Plug
    beast = plug_package:Plug
    misnamed = plug_package:Plug
    missing = plug_package:Nothing
    broken = broken_package:Broken
    function = plug_package:register
"""

USE = """
    import json, sys, warnings
    import zoo
    from zoo import registry
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        families = registry.families()
    results = {"families": families, "warnings": [str(w.message) for w in caught]}
    results["early"] = "plug_package" in sys.modules
    def message(call):
        try:
            call()
        except zoo.ZooError as error:
            return f"{type(error).__name__}: {error}"
    for name in ("misnamed", "missing", "broken", "function"):
        results[name] = message(lambda: registry.family(name))
    cls = registry.family("plug")
    tok = cls(cls.config_class())
    folder = zoo.save(tok, sys.argv[1])
    results["loaded"] = type(zoo.load(folder)).__name__
    (folder / "config.json").unlink()
    results["unknown files"] = message(lambda: zoo.load(folder))
    print(json.dumps(results))
"""


def test_another_package_brings_a_family(tmp_path):
    (tmp_path / "plug_package.py").write_text(textwrap.dedent(PLUGIN.format(tests=str(Path(toy.__file__).parent))))
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('it does not work')")
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(POINTS))
    paths = os.pathsep.join(map(str, (tmp_path, Path(zoo.__file__).parents[1])))
    done = children.run(USE, tmp_path / "saved", env={**os.environ, "PYTHONPATH": paths}, strict=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert {"beast", "plug", "broken"} <= set(results["families"])
    assert results["warnings"] == ["ignoring the second zoo.families entry point 'beast' (plug_package:Plug)"]
    assert results["early"] is False
    assert results["loaded"] == "Plug"
    assert results["misnamed"] == (
        "ConfigError: the entry point 'misnamed' of zoo.families names 'plug_package:Plug', whose family is 'plug'."
    )
    assert "'missing' cannot be imported from 'plug_package:Nothing' (AttributeError: " in results["missing"]
    assert "'broken' cannot be imported from 'broken_package:Broken' (RuntimeError: it does" in results["broken"]
    assert "repair or uninstall the package that brings it." in results["broken"]
    assert "ConfigError: a family is a subclass of zoo.Tokenizer, got <function register" in results["function"]
    assert "saved has no config.json" in results["unknown files"]
    assert "it does not work" in results["unknown files"]
