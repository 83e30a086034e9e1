"""StableToken with and without its decoder, from a checkpoint and from released files, also of the Hub."""

import children
import pytest
import stabletoken_decoder_reference as decoder_reference
import stabletoken_reference as reference
import torch
from tiny_stabletoken import TINY_DECODER, make, make_decoder, speech

import zoo
from zoo.checkpoint.fingerprint import fingerprint
from zoo.errors import CheckpointError, ConfigError, HubError, TokenError
from zoo.families.stabletoken.decoder.speech import SpeechDecoder
from zoo.families.stabletoken.tokenizer import StableTokenTokenizer
from zoo.hub import complete, download, parse_uri
from zoo.tokenizer import NoDecoder

IDS = [[1, 2, 3]]
PICKLES = {"decoder/flow.pt", "decoder/hift.pt"}


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make(decoder=TINY_DECODER)
    tokenizer.decoder.load_state_dict(make_decoder().state_dict())
    tokenizer.name = "stabletoken.tiny"
    return tokenizer


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    return zoo.save(tokenizer, tmp_path_factory.mktemp("checkpoint") / "x")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder in the released layout, of random weights, and its files by path."""
    folder = tmp_path_factory.mktemp("released")
    reference.write(folder / "tokenizer", reference.RELEASED, reference.random_tensors(reference.RELEASED))
    decoder_reference.write(folder / "decoder")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return folder, {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(released):
    """What is in that folder, to compare with."""
    return zoo.load(released[0])


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache of this test alone."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_checkpoint_has_two_files_of_weights(tokenizer, saved):
    assert {path.name for path in saved.iterdir()} == {"config.json", "decoder.safetensors", "model.safetensors"}
    assert (saved / "model.safetensors").stat().st_size < make().num_parameters * 4 * 1.2
    loaded = zoo.load(saved)
    assert loaded.encode(speech(3000)).equal(tokenizer.encode(speech(3000)))
    assert loaded.num_parameters == tokenizer.num_parameters
    assert loaded.decode(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)
    with pytest.raises(ConfigError, match="guidance"):
        loaded.decode(IDS, guidance=float("nan"))
    with pytest.raises(ConfigError, match="temperature"):
        loaded.check_decode(temperature=-1.0)
    assert torch.equal(loaded.decode(IDS), tokenizer.decode(IDS))
    assert fingerprint(tokenizer) == fingerprint(loaded)


def test_who_encodes_reads_neither_the_decoder_nor_its_code(saved):
    code = f"""
import sys, torch, zoo
def loaded():
    return [name for name in sys.modules if "stabletoken.decoder." in name or "components.flow" in name]
tokenizer = zoo.load({str(saved)!r}, device="cpu", decoder=False)
tokenizer.encode(torch.zeros(1, 800))
print(loaded())
zoo.load({str(saved)!r}).decode([[1]])
assert len(loaded()) > 3
"""
    done = children.run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['zoo.families.stabletoken.decoder.config']"


def test_without_its_decoder_it_says_how_to_get_it(tokenizer, saved):
    half = zoo.load(saved, decoder=False)
    assert half.encode(speech(3000)).equal(tokenizer.encode(speech(3000)))
    assert fingerprint(half) == fingerprint(tokenizer, decoder=False)
    with pytest.raises(TokenError, match="loaded without its decoder and cannot decode: load it again without decoder"):
        half.decode(IDS)


class TestReleased:
    def test_without_its_decoder(self, released, whole, tmp_path):
        _, files = released
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        (tmp_path / "decoder/hift.pt").write_bytes(b"?" * 100)
        half = zoo.load(tmp_path, decoder=False)
        assert isinstance(half.decoder, NoDecoder)
        assert half.encode(speech(3000)).equal(whole.encode(speech(3000)))
        with pytest.raises(CheckpointError, match=r"hift\.pt cannot be read as a dictionary of tensors"):
            zoo.load(tmp_path)

    def test_half_a_decoder_is_found_at_once(self, released, tmp_path):
        _, files = released
        for name in files.keys() - {"decoder/flow.pt"}:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(files[name])
        with pytest.raises(CheckpointError, match=r"neither flow\.pt nor flow\.safetensors"):
            zoo.load(tmp_path)


class TestHub:
    def test_released_files_come_with_their_decoder_and_no_other_pickle(self, hub, cached, released, whole):
        _, files = released
        others = {"decoder/optimizer.pt": b"pickle", "tokenizer/flow.pt": b"pickle", "pytorch_model.bin": b"pickle"}
        commit = hub.commit("alice/stable", files | others)
        for address in ("hf://alice/stable", f"hf://alice/stable@{commit}"):
            tokenizer = zoo.load(address)
            assert isinstance(tokenizer, StableTokenTokenizer)
            assert tokenizer.source == f"hf://alice/stable@{commit}"
            assert torch.equal(tokenizer.decode(IDS), whole.decode(IDS))
        taken = {line.rpartition(f"{commit}/")[2] for line in hub.requests if "/resolve/" in line}
        assert taken == files.keys()
        assert taken > PICKLES

    def test_once_they_are_there_nothing_is_requested(self, hub, cached, released, whole, monkeypatch):
        from huggingface_hub import constants

        commit = hub.commit("alice/stable", released[1])
        zoo.load("hf://alice/stable")
        expected = whole.decode(IDS)
        hub.requests.clear()
        assert torch.equal(zoo.load(f"hf://alice/stable@{commit}").decode(IDS), expected)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert torch.equal(zoo.load("hf://alice/stable").decode(IDS), expected)
        assert hub.requests == []

    def test_who_encodes_downloads_no_decoder(self, hub, cached, released, whole):
        hub.commit("alice/stable", released[1])
        half = zoo.load("hf://alice/stable", decoder=False)
        assert half.encode(speech(3000)).equal(whole.encode(speech(3000)))
        assert not [line for line in hub.requests if "/decoder/" in line]

    def test_released_files_without_decoder(self, hub, cached, released):
        hub.commit("alice/stable", {name: content for name, content in released[1].items() if "decoder/" not in name})
        assert isinstance(zoo.load("hf://alice/stable").decoder, NoDecoder)

    def test_pickles_of_what_no_family_knows_are_not_taken(self, hub, cached, released):
        hub.commit("alice/other", {"config.json": b"{}"} | {name: released[1][name] for name in PICKLES})
        with pytest.raises(CheckpointError, match="released files that a family recognises"):
            zoo.load("hf://alice/other")
        assert not [line for line in hub.requests if line.endswith(".pt")]

    def test_damage_on_the_way_is_found(self, hub, cached, released):
        content = released[1]["decoder/flow.pt"]
        hub.commit("alice/stable", released[1])
        hub.damage("alice/stable", "decoder/flow.pt", content[:-1] + b"?")
        with pytest.raises(CheckpointError, match=r"flow\.pt of hf://alice/stable@\w+ is damaged in the cache"):
            zoo.load("hf://alice/stable")

    def test_names_are_no_patterns(self, hub, cached):
        hub.commit("alice/toy", {"config.json": b"{}", "a.pt": b"a", "b.pt": b"b", "[ab].pt": b"c"})
        snapshot = download(parse_uri("hf://alice/toy"))
        whole = complete(snapshot, ["a.pt", "[ab].pt", "*.pt", "missing.pt"])
        assert whole.files == ("[ab].pt", "a.pt", "config.json")
        assert (whole.commit, whole.folder, whole.unverified) == (snapshot.commit, snapshot.folder, ())
        assert not [line for line in hub.requests if line.endswith("/b.pt")]
        with pytest.raises(HubError, match="pickles"):
            download(parse_uri("hf://alice/toy"), allow=["a.pt"])

    def test_a_checkpoint_comes_whole(self, hub, cached, tokenizer):
        commit = zoo.push(tokenizer, "alice/tiny").commit
        loaded = zoo.load(f"hf://alice/tiny@{commit}")
        assert torch.equal(loaded.decode(IDS), tokenizer.decode(IDS))
        assert isinstance(loaded.decoder, SpeechDecoder)
