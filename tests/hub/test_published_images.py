"""Published weights of images by the names of the library, in their released layouts, from a Hub that has them."""

from dataclasses import replace

import flextok_plain as plain
import flextok_released as released
import pytest
import torch
from safetensors.torch import save

import zoo
from zoo import loading, registry
from zoo.errors import HubError, LicenceWarning
from zoo.families.autoencoder_kl import AutoencoderKLTokenizer, official

FLEXTOK = ("d12_d12_in1k", "d18_d18_in1k", "d18_d28_in1k", "d18_d28_dfn")
CHANNELS = (4, 8, 16)


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def flextok(tmp_path_factory):
    return files_in(released.write(tmp_path_factory.mktemp("flextok") / "released"))


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A cache of this test alone, and a process that has said nothing yet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(loading, "_told", set())


@pytest.mark.parametrize("variant", FLEXTOK)
def test_flextok(hub, flextok, monkeypatch, variant):
    from huggingface_hub import constants

    name = f"flextok.{variant}"
    repository, _, revision = registry.model(name).source.removeprefix("hf://").partition("@")
    assert repository == f"EPFL-VILAB/flextok_{variant}"
    commit = hub.commit(repository, flextok, **({"sha": revision} if revision else {}))
    with pytest.warns(LicenceWarning) as caught:
        tokenizer = zoo.load(name)
    assert [str(warning.message) for warning in caught] == [
        f"{name} is under the licence LicenseRef-apple-amlr: for research alone, no product or commercial use; what is "
        "derived from the weights stays under the same terms."
    ]
    assert (tokenizer.family, tokenizer.name, tokenizer.source) == ("flextok", name, f"hf://{repository}@{commit}")
    assert tokenizer.spec.licence == zoo.info(name)["licence"] == "LicenseRef-apple-amlr"
    assert tokenizer.trained_on == zoo.info(name)["trained_on"]
    images = released.images(2)
    tokens = tokenizer.encode(images)
    assert torch.equal(tokens.ids, plain.Plain(released.config(), released.tensors()).encode(images))
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert zoo.load(name, decoder=False).encode(images).equal(tokens)  # the licence was said already
    assert hub.requests == []


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_autoencoders_of_flextok(hub, tmp_path, channels):
    name = f"autoencoder_kl.flextok_c{channels}"
    sizes = replace(released.TINY, channels=channels)
    torch.manual_seed(0)
    values = {"image_size": 16, "conv": {"block_channels": [64, 96], "layers_per_block": 1}}
    tokenizer = AutoencoderKLTokenizer.from_config(values | {"quantizer": {"kind": "gaussian", "dim": channels}})
    files = files_in(official.write(tokenizer, tmp_path / "released"))
    tensors = {
        key.removeprefix(plain.VAE): tensor
        for key, tensor in released.tensors(sizes).items()
        if key.startswith(plain.VAE)
    }
    commit = hub.commit(f"EPFL-VILAB/flextok_vae_c{channels}", files | {official.WEIGHTS: save(tensors)})
    with pytest.warns(LicenceWarning, match="research alone") as caught:
        tokenizer = zoo.load(name)
    assert len(caught) == 1
    assert (tokenizer.name, tokenizer.source) == (name, f"hf://EPFL-VILAB/flextok_vae_c{channels}@{commit}")
    images = released.images(2)
    wanted = plain.vae_encode(tensors, 2 * images - 1)
    latents = tokenizer.encode_latents(images)
    assert torch.allclose(latents.values, wanted.flatten(2).mT, atol=1e-4)
    made = (plain.vae_decode(tensors, wanted) + 1) / 2
    assert torch.allclose(tokenizer.decode_latents(latents), made.clamp(0, 1), atol=1e-4)
    with torch.device("meta"):
        whole = AutoencoderKLTokenizer.from_config({"quantizer": {"kind": "gaussian", "dim": channels}})
    assert zoo.info(name)["num_parameters"] == whole.num_parameters


@pytest.mark.filterwarnings("ignore::zoo.errors.LicenceWarning")
@pytest.mark.parametrize("name", [f"flextok.{FLEXTOK[0]}", f"autoencoder_kl.flextok_c{CHANNELS[0]}"])
def test_offline_without_a_cache(hub, monkeypatch, name):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, and not all files are in the cache"):
        zoo.load(name)
    assert hub.requests == []


@pytest.mark.parametrize("name", [f"flextok.{FLEXTOK[1]}", f"autoencoder_kl.flextok_c{CHANNELS[1]}"])
def test_the_licence_comes_before_any_request(hub, name):
    for _ in range(2):  # whoever makes it an error is never let through
        with pytest.raises(LicenceWarning, match="no product or commercial use"):
            zoo.load(name)
    assert hub.requests == []
