"""Generators on the Hub: pushed with a card, loaded again, told of by `zoo info` and `zoo list`."""

import json
import re

import pytest
import torch
import yaml

import zoo
from zoo import loading
from zoo.cli import main
from zoo.errors import CheckpointError, ConfigError, UnknownNameError
from zoo.generator import GeneratorConfig, TokenGenerator

TINY = {"width": 16, "num_layers": 1, "num_heads": 2, "mlp_size": 16}


@pytest.fixture
def folder(tmp_path):
    """A generator over the ids of beast.default, in a folder."""
    torch.manual_seed(0)
    generator = TokenGenerator(GeneratorConfig("action", 256, 40, num_classes=3, **TINY)).of(zoo.load("beast.default"))
    return zoo.save(generator, tmp_path / "own", name="beast.mine_ar", licence="MIT", trained_on="noise")


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_pushed_generator_is_loaded_and_drawn_from_again(hub, folder, tmp_path, capsys):
    assert main(["push", str(folder), "alice/motion", "--tag", "v1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "beast.mine_ar"
    repo = hub.repos["alice/motion"]
    assert repo.messages[told["commit"]] == "Upload generator"
    files = hub.files("alice/motion")
    assert {"config.json", "model.safetensors", "README.md"} < set(files)
    manifest = json.loads(files["config.json"])
    assert (manifest["family"], manifest["licence"], manifest["trained_on"]) == ("generator", "MIT", "noise")
    assert manifest["config"]["tokenizer"] == "beast.default"
    own = zoo.load_generator(folder)
    for address in ("hf://alice/motion", "hf://alice/motion@v1"):
        again = zoo.load_generator(address)
        assert again.source == f"hf://alice/motion@{told['commit']}"
        assert (again.name, again.spec.licence, again.config) == ("beast.mine_ar", "MIT", own.config)
        assert again.sample(labels=[1, -1], seed=3).equal(own.sample(labels=[1, -1], seed=3))
    again.require_made_by(zoo.load("beast.default"))
    # The address does where a name does.
    assert main(["generate", "hf://alice/motion@v1", "-o", str(tmp_path / "made"), "--classes", "2"]) == 0
    assert (tmp_path / "made" / "0000.npy").is_file()
    with pytest.raises(CheckpointError, match=r"no tokenizer: load it by zoo.load_generator"):
        zoo.load("hf://alice/motion")


def test_its_card_says_what_it_draws_and_how(hub, folder):
    zoo.push(zoo.load_generator(folder), "alice/motion")
    card = hub.files("alice/motion")["README.md"].decode()
    front = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])
    assert front.pop("tags") == ["generator", "action", "autoregressive"]
    assert front == {"license": "mit", "library_name": "tokenizer-zoo"}
    for part in ("# beast.mine_ar", "| over the ids of | beast.default |", "one of 3 classes", "from noise"):
        assert part in card
    (usage,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    known = {}
    exec(usage, known)
    assert known["made"].shape == (2, 20, 4)
    # Facts are renewed, words are kept.
    hub.commit("alice/motion", {**hub.files("alice/motion"), "README.md": card.replace("16", "17").encode() + b"Mine."})
    zoo.push(zoo.load_generator(folder), "alice/motion")
    assert hub.files("alice/motion")["README.md"].decode() == card + "Mine."


def test_the_card_of_one_that_predicts_frames_goes_on_from_a_clip(tmp_path, monkeypatch):
    import tiny_larp
    from clips import encoded, write

    from zoo.hub.card import write_card

    tokenizer = tiny_larp.make()
    zoo.save(tokenizer, tmp_path / "larp")
    config = GeneratorConfig("video", 32, 6, prefix_tokens=6, condition_frames=3, **TINY)
    generator = TokenGenerator(config).of(tokenizer)
    zoo.save(generator, tmp_path / "own", name="larp.mine_ar")
    card = write_card(zoo.load_generator(tmp_path / "own"), tmp_path / "own").read_text()
    assert "the first 3 frames of a clip, as 6 tokens" in card
    (usage,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    write(tmp_path / "clip.mp4", encoded(4, size=(8, 8)))
    monkeypatch.chdir(tmp_path)
    known = {}
    exec(usage.replace('"./larp.mine_ar"', '"./own"').replace('zoo.load("larp")', 'zoo.load("./larp")'), known)
    assert known["made"].shape == (1, 3, 4, 8, 8)


def test_what_is_no_generator_and_what_is_none_of_both(hub, folder, tmp_path, monkeypatch):
    assert loading.is_generator(folder)
    assert loading.is_generator(str(folder))
    assert not loading.is_generator("beast.default")
    assert loading.is_generator("larp.L_long_ar")
    assert not loading.is_generator(tmp_path / "nothing")
    zoo.push(zoo.load("beast"), "alice/beast")
    assert not loading.is_generator("hf://alice/beast")
    assert hub.requests
    with pytest.raises(ConfigError, match=r"a name is generator\.variant"):
        zoo.save(zoo.load_generator(folder), tmp_path / "other", name="a b")
    with pytest.raises(UnknownNameError):
        zoo.load_generator("beast.mine_ar")


def test_info_and_list_tell_of_generators(hub, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), "own"):  # a folder's bare name, as of tokenizers
        assert main(["info", name, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["name"], facts["family"], facts["tokenizer"]) == ("beast.mine_ar", "generator", "beast.default")
        assert (facts["spec"]["codebook_size"], facts["config"]["num_classes"], facts["licence"]) == (256, 3, "MIT")
    assert main(["info", "own"]) == 0
    assert re.search(r"over the tokens of +beast.default\n", capsys.readouterr().out)
    assert main(["list"]) == 0
    told = f"{len(zoo.list_generators())} generators over their tokens: `zoo list --generators`"
    assert told in capsys.readouterr().err
    assert main(["list", "--generators"]) == 0
    assert "larp.L_long_ar_fp" in capsys.readouterr().out
