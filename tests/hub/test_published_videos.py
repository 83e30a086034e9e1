"""Published weights of videos by the names of the library, in their released layouts, from a Hub that has them."""

import larp_plain as plain
import larp_released as released
import pytest
import torch

import zoo
from zoo import loading
from zoo.errors import LicenceWarning
from zoo.families.larp import LARPConfig, LARPTokenizer


def test_larp(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(loading, "_told", set())
    folder = released.write(tmp_path / "released")
    repository = "hywang66/LARP-L-long-tokenizer"
    commit = hub.commit(repository, {path.name: path.read_bytes() for path in folder.iterdir()})
    with pytest.warns(LicenceWarning, match="the authors state no licence of the weights"):
        tokenizer = zoo.load("larp.L_long")
    assert (tokenizer.family, tokenizer.name) == ("larp", "larp.L_long")
    assert tokenizer.source == f"hf://{repository}@{commit}"
    assert tokenizer.spec.licence == zoo.info("larp.L_long")["licence"]
    assert tokenizer.trained_on == zoo.info("larp.L_long")["trained_on"]
    clips = released.clips(2)
    wanted = plain.Plain(released.config(), released.tensors()).encode(clips)
    assert torch.equal(tokenizer.encode(clips).ids, wanted)
    assert zoo.training_parts(tokenizer) == {}
    with torch.device("meta"):
        assert zoo.info("larp.L_long")["num_parameters"] == LARPTokenizer(LARPConfig()).num_parameters
