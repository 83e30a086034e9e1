"""What becomes of a card that is there when something else is published beside it."""

import hashlib
import shutil
from pathlib import Path

import pytest
import yaml

import zoo
from zoo import cli
from zoo.errors import CheckpointError, HubError
from zoo.hub import HubLocation, push
from zoo.hub.card import card_for, facts
from zoo.hub.card_text import block, licence_of, refreshed
from zoo.hub.client import _verify

PROSE = "# My robot\n\nTrained on *my* data. <!-- a comment -->\n\n"


def front(**values):
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n"


def named(tokenizer, folder, name):
    return zoo.load(zoo.save(tokenizer, folder, name=name))


@pytest.fixture
def first(tmp_path):
    return named(zoo.load("beast"), tmp_path / "first", "beast.mine")


@pytest.fixture
def second(tmp_path):
    return named(zoo.load("binning"), tmp_path / "second", "binning.mine")


def test_p1_a_second_push_renews_facts_and_keeps_words(hub, first, second):
    zoo.push(first, "alice/mine")
    card = hub.files("alice/mine")["README.md"].decode()
    assert facts(first) in card
    card = card.replace("## Limits", "## My own words\n\nIt grips well.\n\n## Limits")
    card += block("results", "mine.json", "| MSE | 0.1 |") + "\n\nThe end.\n"
    hub.commit("alice/mine", {**hub.files("alice/mine"), "README.md": card.encode()})
    result = zoo.push(second, "alice/mine")
    assert result.card_kept
    again = hub.files("alice/mine")["README.md"].decode()
    assert "It grips well." in again
    assert "The end." in again
    assert facts(second) in again
    assert facts(first) not in again
    assert '"num_basis"' not in again
    assert "| MSE |" not in again
    assert "<!-- zoo:results mine.json -->\nThis was not measured for the weights that are here now.\n" in again
    assert zoo.push(second, "alice/mine").commit == result.commit


def test_p1_another_licence_is_refused_without_a_flag(hub, first, second, tmp_path, capsys):
    zoo.push(first, "alice/mine")
    before = hub.files("alice/mine")
    folder = zoo.save(second, tmp_path / "mit", name="binning.mit", licence="MIT")
    with pytest.raises(HubError, match=r"states the licence apache-2\.0, and .* has mit\. .*change_licence=True"):
        zoo.push(zoo.load(folder), "alice/mine")
    assert cli.main(["push", str(folder), "alice/mine"]) == 1
    assert "--change-licence" in capsys.readouterr().err
    assert hub.files("alice/mine") == before
    assert not (folder / "README.md").exists()
    assert cli.main(["push", str(folder), "alice/mine", "--change-licence"]) == 0
    after = hub.files("alice/mine")["README.md"].decode()
    assert licence_of(after) == "mit"
    assert after.count("license:") == 1
    assert "| licence of the weights | MIT |" in after


def test_p1_a_card_of_ones_own_is_left_alone_but_for_its_licence(hub, first, tmp_path):
    for text in (PROSE, "", "---\nnot closed", front(tags=["a"]) + PROSE, front(license="apache-2.0") + PROSE):
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        hub.commit("alice/own", {"README.md": text.encode()})
        zoo.push(first, "alice/own")
        assert hub.files("alice/own")["README.md"].decode() == text
    hub.commit("alice/own", {"README.md": (front(license="cc-by-nc-4.0") + PROSE).encode()})
    with pytest.raises(HubError, match=r"cc-by-nc-4\.0"):
        zoo.push(first, "alice/own")


@pytest.mark.parametrize("text", ["license: [", "license: a\nlicense: b", "license: !!python/name:os.getcwd", "- a"])
def test_p1_metadata_that_are_none_are_refused(hub, first, text):
    hub.commit("alice/bad", {"README.md": f"---\n{text}\n---\n".encode()})
    with pytest.raises(HubError, match="metadata of the model card"):
        zoo.push(first, "alice/bad")


def test_p1_a_folder_without_a_card_leaves_that_of_the_repository(hub, tmp_path):
    folder = zoo.save(zoo.load("beast"), tmp_path / "m", name="beast.mine")
    hub.commit("alice/bare", {"README.md": PROSE.encode()})
    assert push(folder, "alice/bare").card_kept
    assert hub.files("alice/bare")["README.md"].decode() == PROSE


def test_p1_blocks_are_matched_kind_by_kind():
    old = (
        "a\n"
        + block("facts", "x", "1")
        + "\nb\n"
        + block("facts", "y", "2")
        + "\nc\n"
        + block("settings", "x", "3")
        + "\n"
    )
    new = block("settings", "z", "30") + "\n" + block("facts", "z", "10") + "\n"
    unknown = "<!-- zoo:facts y -->\nThis was not measured for the weights that are here now.\n<!-- zoo:end -->"
    assert refreshed(old, new) == (
        "a\n" + block("facts", "z", "10") + "\nb\n" + unknown + "\nc\n" + block("settings", "z", "30") + "\n"
    )
    assert refreshed(old, old) == old


@pytest.mark.parametrize(
    "licence", ["LicenseRef-Mine", 'x\nlicense: mit\ntags: ["a"]', "a: b", "MIT; no warranty", "ü"]
)
def test_x10_a_licence_of_any_text_is_one_value_of_the_metadata(licence, tmp_path):
    tok = zoo.load(zoo.save(zoo.load("beast"), tmp_path / "m", name="beast.mine", licence=licence))
    card = card_for(tok)
    values = yaml.safe_load(card.split("---\n")[1])
    assert (values["license"], values["license_name"]) == ("other", licence.lower())
    assert values["library_name"] == "tokenizer-zoo"
    assert licence_of(card) == licence.lower()


def test_b10_a_mirror_that_names_contents_by_plain_sha_1(tmp_path):
    content = b'{"a": 1}\n'
    names = {
        "git": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        "SHA-1": hashlib.sha1(content).hexdigest(),
        "SHA-256": hashlib.sha256(content).hexdigest(),
    }
    (tmp_path / "blobs").mkdir()
    for kind, name in names.items():
        (tmp_path / "blobs" / name).write_bytes(content)
        link = tmp_path / f"{kind}.json"
        link.symlink_to(Path("blobs") / name)
        assert _verify(link, HubLocation("me/mine"))
        (tmp_path / "blobs" / name).write_bytes(content + b" ")
        with pytest.raises(CheckpointError, match="is damaged in the cache"):
            _verify(link, HubLocation("me/mine"))
    (tmp_path / "blobs" / "etag").write_bytes(content)
    (tmp_path / "other.json").symlink_to(Path("blobs") / "etag")
    assert not _verify(tmp_path / "other.json", HubLocation("me/mine"))


def test_b10_a_model_of_such_a_mirror_loads(tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0123456789" * 4
    folder = zoo.save(zoo.load("beast"), tmp_path / "m", name="beast.mine")
    repo = tmp_path / "hub" / "models--me--mine"
    for part in ("refs", "blobs", f"snapshots/{commit}"):
        (repo / part).mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        name = hashlib.sha1(path.read_bytes()).hexdigest()
        shutil.copy(path, repo / "blobs" / name)
        (repo / "snapshots" / commit / path.name).symlink_to(f"../../blobs/{name}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert zoo.load("hf://me/mine").source == f"hf://me/mine@{commit}"
