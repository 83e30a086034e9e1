"""From a tokenizer to the Hub and back: the same ids, whatever happens to the copies in between."""

import json
import os
import pickle
from pathlib import Path

import children
import pytest
import torch

import zoo
from zoo.errors import CheckpointError, TokenError

SAMPLE = str(Path(zoo.__file__).parent / "data" / "samples" / "metaworld_expert.npz")
NAMES = ["beast.default", "binning.default", "fast.default"]


@pytest.fixture
def published(hub):
    """The commit of `alice/beast`, a tokenizer pushed with a tag."""
    return zoo.push(zoo.load("beast"), "alice/beast", tag="v1").commit


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache of this test alone."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", NAMES)
def test_pushed_and_loaded_it_gives_the_same_ids(hub, cached, name):
    tok = zoo.load(name)
    ids = tok.encode(SAMPLE).tolist()
    repo = f"alice/{tok.family}"
    result = zoo.push(tok, repo, tag="v1")
    for address in (f"hf://{repo}", f"hf://{repo}@v1", f"hf://{repo}@{result.commit}"):
        again = zoo.load(address)
        assert again.source == f"hf://{repo}@{result.commit}"
        assert again.name == name
        assert again.encode(SAMPLE).tolist() == ids
    # What one loaded, the other decodes: they are the same model.
    assert torch.equal(again.decode(tok.encode(SAMPLE)), tok.decode(again.encode(SAMPLE)))
    card = hub.files(repo)["README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| MSE |" in card


def test_offline_it_loads_from_the_cache_without_a_request(hub, published, tmp_path):
    code = f"import json, zoo; print(json.dumps(zoo.load('hf://alice/beast@v1').encode({SAMPLE!r}).tolist()))"
    environment = {**os.environ, "HF_HOME": str(tmp_path)}

    def load(**changes):
        done = children.run(code, env={**environment, **changes})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    online = load()
    hub.requests.clear()
    assert load(HF_HUB_OFFLINE="1") == online == zoo.load("beast").encode(SAMPLE).tolist()
    assert hub.requests == []


def test_a_card_that_is_there_is_kept(hub, published, cached):
    hub.commit("alice/beast", {**hub.files("alice/beast"), "README.md": b"# My own words\n"})
    again = zoo.push(zoo.load("beast"), "alice/beast")
    assert again.card_kept
    assert hub.files("alice/beast")["README.md"] == b"# My own words\n"


def damage(content, kind):
    return {"corrupted": content[:-9] + b"?" + content[-8:], "truncated": content[:-9], "oversized": content + b"?"}[
        kind
    ]


@pytest.mark.parametrize("kind", ["corrupted", "truncated", "oversized"])
def test_a_copy_damaged_on_the_way_is_an_error(hub, published, cached, kind):
    body = damage(hub.files("alice/beast")["model.safetensors"], kind)
    hub.damage("alice/beast", "model.safetensors", body)
    with pytest.raises((CheckpointError, zoo.ZooError), match=r"model\.safetensors"):
        zoo.load("hf://alice/beast")


@pytest.mark.parametrize("kind", ["corrupted", "truncated", "oversized"])
def test_a_copy_damaged_in_the_cache_is_an_error_that_names_it(hub, published, cached, kind):
    zoo.load("hf://alice/beast")
    (weights,) = cached.rglob("snapshots/*/model.safetensors")
    blob = weights.resolve()
    blob.chmod(0o644)
    blob.write_bytes(damage(blob.read_bytes(), kind))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        zoo.load("hf://alice/beast")


def test_a_repository_without_its_weights_is_an_error(hub, published, cached):
    hub.commit("alice/half", {"config.json": hub.files("alice/beast")["config.json"]})
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        zoo.load("hf://alice/half")


def test_pickled_weights_are_neither_downloaded_nor_read(hub, published, cached):
    config = hub.files("alice/beast")["config.json"]
    hub.commit("alice/pickled", {"config.json": config, "pytorch_model.bin": b"\x80\x04evil."})
    with pytest.raises(CheckpointError):
        zoo.load("hf://alice/pickled")
    assert not list(cached.rglob("pytorch_model.bin"))


def test_tokens_of_one_model_are_refused_by_another():
    tokens = zoo.load("beast").encode(SAMPLE)
    with pytest.raises(TokenError, match=r"made by 'beast.default', this tokenizer is 'binning.default'"):
        zoo.load("binning").decode(tokens)


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_travels_to_worker_processes(name):
    tok = zoo.load(name)
    assert pickle.loads(pickle.dumps(tok)).encode(SAMPLE).tolist() == tok.encode(SAMPLE).tolist()
