"""Where data lies."""

from pathlib import Path

import pytest
import yaml

from zoo import resources
from zoo.checkpoint.whisper import read_whisper
from zoo.data.manifest import default_folder
from zoo.data.speech import SpeechData
from zoo.errors import CheckpointError
from zoo.evaluation import items


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
