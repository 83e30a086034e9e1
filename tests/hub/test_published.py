"""Published weights by the names of the library, in their released layouts, from a Hub that has them."""

import json
import os
import warnings
from dataclasses import replace

import children
import pytest
import stabletoken_decoder_reference as decoder_reference
import stabletoken_reference as reference
import torch
from fast_reference import Reference, smooth
from tiny_ssdd import make as make_ssdd
from tiny_stabletoken import speech

import zoo
from zoo import loading, registry
from zoo.cli import main
from zoo.components.autoencoder_kl import ConvConfig
from zoo.errors import HubError, LicenceWarning
from zoo.families.ssdd import DecoderConfig, SSDDConfig
from zoo.families.ssdd.official import folder as ssdd_official

LARGE = "dd19e26b6e7a2ffcc8523d15b80238175c69a2b6"
SMALL_SSDD = SSDDConfig(encoder=ConvConfig((32, 32, 32, 32)), decoder=DecoderConfig(32, (1, 1, 1, 1), 1))
NOTICE = (
    "stabletoken.large is under the licence LicenseRef-StableToken: its terms are MIT-like, but the model is not "
    "intended for use within the European Union."
)


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def stabletoken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stabletoken")
    reference.write(folder / "tokenizer", reference.RELEASED, reference.random_tensors(reference.RELEASED), parts=2)
    decoder_reference.write(folder / "decoder")
    return files_in(folder)


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return files_in(Reference.fit(smooth(512).double().numpy()).save(tmp_path_factory.mktemp("fast") / "released"))


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A cache of this test alone, and a process that has said nothing yet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(loading, "_told", set())


@pytest.fixture
def offline(monkeypatch):
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_ssdd(hub, offline, tmp_path, monkeypatch):
    """Of a repository with several models, one file each, no more than that of the one that is named is downloaded."""
    ssdd_official.write(make_ssdd(SMALL_SSDD), tmp_path / "x" / "F8C4" / "tiny.safetensors")
    commit = hub.commit("facebook/SSDD", files_in(tmp_path / "x") | {"F8C4/other.safetensors": b"damaged"})
    address = "hf://facebook/SSDD/F8C4/tiny.safetensors"
    maps = torch.randn(1, 4, 4, 4)
    tokenizer = zoo.load(address)
    assert tokenizer.source == f"{address}@{commit}"
    assert not any("other" in str(request) for request in hub.requests)
    expected = make_ssdd(SMALL_SSDD).decode_latents(maps, steps=1)
    assert torch.allclose(tokenizer.decode_latents(maps, steps=1), expected, atol=1e-6)
    assert zoo.load(tokenizer.source, decoder=False).encode_latents(torch.zeros(1, 3, 32, 32)).grid == (4, 4)
    assert zoo.training_parts(tokenizer) == {}
    hub.requests.clear()
    offline()
    monkeypatch.setattr(registry, "_added_models", {})
    registry.register(replace(registry.model("ssdd.f8c4_S_256"), name="ssdd.tiny", source=address))
    with pytest.warns(LicenceWarning, match="no commercial use"):
        named = zoo.load("ssdd.tiny")
    assert torch.equal(named.decode_latents(maps, steps=1), tokenizer.decode_latents(maps, steps=1))
    assert hub.requests == []


def test_stabletoken(hub, stabletoken, offline):
    hub.commit("tencent/StableToken", stabletoken, sha=LARGE)
    hub.commit("tencent/StableToken", {"tokenizer/config.json": b"{}"})  # main goes on, the name does not
    with pytest.warns(LicenceWarning) as caught:
        tokenizer = zoo.load("stabletoken.large")
    assert [str(warning.message) for warning in caught] == [NOTICE]
    assert caught[0].filename == __file__
    assert (tokenizer.family, tokenizer.name) == ("stabletoken", "stabletoken.large")
    assert tokenizer.spec.licence == zoo.info("stabletoken.large")["licence"] == "LicenseRef-StableToken"
    assert tokenizer.trained_on == zoo.info("stabletoken.large")["trained_on"]
    assert tokenizer.source == f"hf://tencent/StableToken@{LARGE}"
    wave = speech(9000)
    tokens = tokenizer.encode(wave)
    tensors = reference.random_tensors(reference.RELEASED)
    assert tokens.tolist() == [reference.ids(tensors, reference.RELEASED, wave.numpy())]
    assert (tokens.model, tokenizer.decode(tokens).shape[0]) == ("stabletoken.large", 1)
    hub.requests.clear()
    offline()
    assert zoo.load("stabletoken.large", family="stabletoken", decoder=False).encode(wave).equal(tokens)
    assert hub.requests == []


def test_fast(hub, fast, offline):
    commit = hub.commit("physical-intelligence/fast", {**fast, "processing_action_tokenizer.py": b"raise SystemExit"})
    tokenizer = zoo.load("fast.plus")
    assert (tokenizer.family, tokenizer.name, tokenizer.spec.licence) == ("fast", "fast.plus", "Apache-2.0")
    assert tokenizer.trained_on == zoo.info("fast.plus")["trained_on"]
    assert tokenizer.source == f"hf://physical-intelligence/fast@{commit}"
    chunk = smooth(1, seed=3)
    tokens = tokenizer.for_chunks(horizon=20, num_dofs=5).encode(chunk)
    assert tokens.model == "fast.plus"
    assert not [line for line in hub.requests if line.endswith(".py")]
    older = hub.commit("physical-intelligence/fast", {"README.md": b"Older."}, branch="older")
    assert zoo.load("fast.plus", revision="older").source == f"hf://physical-intelligence/fast@{older}"
    offline()
    hub.requests.clear()
    assert zoo.load("fast.plus").for_chunks(horizon=20, num_dofs=5).encode(chunk).equal(tokens)
    assert hub.requests == []


@pytest.mark.filterwarnings("ignore::zoo.errors.LicenceWarning")
@pytest.mark.parametrize("name", ["stabletoken.large", "fast.plus"])
def test_offline_without_a_cache(hub, offline, name):
    offline()
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, and not all files are in the cache") as caught:
        zoo.load(name)
    assert f"Could not download {registry.model(name).source}: " in str(caught.value)
    assert hub.requests == []


class TestNotice:
    def test_it_comes_before_any_request(self, hub, stabletoken):
        hub.commit("tencent/StableToken", stabletoken, sha=LARGE)
        for _ in range(2):  # whoever makes it an error is never let through
            with pytest.raises(LicenceWarning, match="European Union"):
                zoo.load("stabletoken.large")
        assert hub.requests == []

    @pytest.mark.parametrize(
        "first", ["stabletoken.large", "hf://tencent/StableToken", f"hf://tencent/StableToken@{LARGE}"]
    )
    def test_it_comes_once_whatever_the_name(self, hub, stabletoken, first):
        hub.commit("tencent/StableToken", stabletoken, sha=LARGE)
        with pytest.warns(LicenceWarning, match="European Union") as caught:
            zoo.load(first, decoder=False)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in ("stabletoken.large", "hf://tencent/StableToken"):
                zoo.load(name, decoder=False)

    def test_free_licences_are_not_commented_on(self, hub, fast):
        hub.commit("physical-intelligence/fast", fast)
        zoo.load("fast.plus")  # a warning would be an error

    def test_a_restricted_model_that_ships(self, tmp_path):
        import toy

        with toy.registered():
            zoo.save(toy.make("image"), tmp_path / "x", name="toy_image.mine")
            source = str(tmp_path / "x")
            facts = {"modality": "image", "licence": "CC-BY-NC-4.0", "description": "", "trained_on": ""}
            entry = registry.ModelEntry(
                "toy_image.mine", "toy_image", source=source, num_parameters=2, restriction="Not for sale.", **facts
            )
            zoo.register(entry)
            with pytest.warns(
                LicenceWarning, match=r"toy_image\.mine is under the licence CC-BY-NC-4\.0: Not for sale\."
            ):
                assert zoo.load("toy_image.mine").name == "toy_image.mine"


class TestCommands:
    @pytest.mark.filterwarnings("ignore::zoo.errors.LicenceWarning")
    def test_info_shows_the_restriction(self, hub, stabletoken, capsys):
        hub.commit("tencent/StableToken", stabletoken, sha=LARGE)
        assert main(["info", "stabletoken.large"]) == 0
        shown = capsys.readouterr()
        assert "  restriction  its terms are MIT-like, but the model is not intended for use within the " in shown.out
        assert shown.err == ""
        assert hub.requests == []
        facts = []
        for arguments in (
            ["stabletoken.large"],
            ["stabletoken.large", "--download"],
            [f"hf://tencent/StableToken@{LARGE}"],
        ):
            assert main(["info", *arguments, "--json"]) == 0
            facts.append(json.loads(capsys.readouterr().out))
        assert {fact["restriction"] for fact in facts} == {registry.model("stabletoken.large").restriction}

    def test_the_notice_is_a_note(self, hub, stabletoken, tmp_path):
        # In a process of its own, where nothing catches warnings as pytest does.
        hub.commit("tencent/StableToken", stabletoken, sha=LARGE)
        environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
        done = children.run_module("zoo.cli", "info", "stabletoken.large", "--download", "--json", env=environment)
        assert (done.returncode, done.stderr) == (0, f"note: {NOTICE}\n")
        assert json.loads(done.stdout)["name"] == "stabletoken.large"
