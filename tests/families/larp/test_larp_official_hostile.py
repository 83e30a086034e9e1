"""Released folders that lie or are damaged: refused, with nothing of the sizes that they ask for allocated."""

import copy
import json
import resource
from dataclasses import replace

import larp_released as released
import pytest
import torch
from mutations import time_limit

import zoo
from zoo.errors import CheckpointError
from zoo.families.larp.official import folder as official


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = released.write(tmp_path_factory.mktemp("released"))
    zoo.load(folder)  # which imports what loading needs
    return folder / "model.safetensors"


@pytest.fixture
def write(tmp_path, weights):
    """Write a folder of some config, with a link to the weights."""

    def written(values):
        folder = tmp_path / "hostile"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(values))
        (folder / "model.safetensors").symlink_to(weights)
        return folder

    return written


def changed(path, value, drop=False):
    """Return a config with another value at a path of names."""
    values = copy.deepcopy(released.config())
    *parents, last = path.split("/")
    node = values
    for name in parents:
        node = node[name]
    if drop:
        del node[last]
    else:
        node[last] = value
    return values


QUANTIZER = "bottleneck/args/regularizer/args"
REFUSED = {
    "absurd frames": ("frame_num", 2**40, "num_frames must be from 1"),
    "other frames": ("frame_num", 6, "encoder_patch_pe has the shape"),
    "frames that patches do not fill": ("frame_num", 7, "multiple of temporal_patch_size"),
    "an absurd size": ("input_size", 2**30, "image_size must be from 1"),
    "another size": ("input_size", 8192, "encoder_patch_pe has the shape"),
    "an oblong": ("input_size", [16, 32], "input_size must be int"),
    "tokens without end": ("bottleneck_token_num", 10**9, "num_tokens must be from 1"),
    "other tokens": ("bottleneck_token_num", 60_000, "encoder_latent_query_embed has the shape"),
    "tokens that are a truth": ("bottleneck_token_num", True, "bottleneck_token_num must be int"),
    "other patches": ("patch_size", 4, "decoder_patch_size must be patch_size"),
    "no frames of a patch": ("temporal_patch_size", 0, "decoder_temporal_patch_size must be"),
    "absurd depth": ("encoder_depth", 10**12, "depth must be from 1 to 1024"),
    "other depth": ("decoder_depth", 900, "decoder_depth is 900, and the weights have 1 layers"),
    "absurd width": ("decoder_hidden_size", 2**40, "width must be"),
    "other width": ("decoder_hidden_size", 65_536, "decoder_patch_query_embed has the shape"),
    "heads that divide nothing": ("encoder_num_heads", 7, "num_heads must divide"),
    "heads of nothing": ("encoder_num_heads", 0, "num_heads must divide"),
    "heads that are words": ("encoder_num_heads", "3", "encoder_num_heads must be int"),
    "other channels": ("in_channels", 1, "in_channels must be 3"),
    "an endless base": ("latent_pe_scale_factor", float("inf"), "latent_pe_scale_factor must be float"),
    "a base of nothing": ("latent_pe_scale_factor", 0, "latent_period"),
    "an option that is a number": ("learned_encoder_patch_pe", 1, "learned_encoder_patch_pe must be bool"),
    "tables that are not there": ("learned_encoder_patch_pe", True, "encoder_t_embed is missing"),
    "a type that is not there": ("use_encoder_patch_token_type_embed", True, "token_type_embed is missing"),
    "a type that is there": ("use_decoder_patch_query_token_type_embed", False, "type_embed is unexpected"),
    "another bottleneck": ("bottleneck/name", "os.system", "must be a mapping with the name 'bottleneck'"),
    "another quantizer": ("bottleneck/args/regularizer/name", "fsq", "must be a mapping with the name 'vq'"),
    "a quantizer in a list": ("bottleneck/args/regularizer", [], "must be a mapping with the name 'vq'"),
    "a norm": ("bottleneck/args/norm", "batch", "norm must be none"),
    "other codes": (f"{QUANTIZER}/codebook_size", 2**30, "embedding.weight has the shape"),
    "absurd codes": (f"{QUANTIZER}/codebook_size", 2**50, "codebook_size must be from 1"),
    "another width of codes": ("bottleneck/args/bottleneck_dim", 2**20, "embedding.weight has the shape"),
    "no number as temperature": (f"{QUANTIZER}/stochastic_temperature", float("nan"), "stochastic_temperature"),
    "no temperature": (f"{QUANTIZER}/stochastic_temperature", None, "lacks stochastic_temperature"),
    "a learned one that is not there": (f"{QUANTIZER}/stochastic_temperature", 0, "temperature_inv is missing"),
    "drawn without a length": (f"{QUANTIZER}/l2_normalized", False, "l2_normalized must be true"),
}


@pytest.mark.parametrize(("path", "value", "message"), REFUSED.values(), ids=REFUSED)
def test_configs_that_lie_are_refused(write, path, value, message):
    folder = write(changed(path, value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with time_limit(5), pytest.raises(CheckpointError, match=message):
        zoo.load(folder, family="larp")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # kB


@pytest.mark.parametrize("path", ["bottleneck", "frame_num", "encoder_depth", f"{QUANTIZER}/stochastic"])
def test_what_is_missing_is_missed(write, path):
    with pytest.raises(CheckpointError):
        zoo.load(write(changed(path, None, drop=True)), family="larp")


TENSORS = {
    "missing": ({"bottleneck.in_linear.bias": None}, "in_linear.bias is missing"),
    "a missing layer": ({"encoder.blocks.1.attn.qkv.weight": None}, "qkv.weight is missing"),
    "unexpected": ({"mine.weight": torch.zeros(1)}, "mine.weight is unexpected"),
    "another shape": ({"bottleneck.in_linear.bias": torch.zeros(7)}, "instead of"),
    "patches of pictures": ({"x_embedder.proj.weight": torch.zeros(24, 3, 8, 8)}, "instead of"),
    "integers": ({"bottleneck.in_linear.bias": torch.zeros(6, dtype=torch.int32)}, "holds torch.int32"),
    "not finite": ({"encoder_latent_query_embed": torch.full((10, 24), torch.nan)}, "NaN"),
    "a layer too many": ({"decoder.blocks.1.norm1.weight": torch.zeros(16)}, "the weights have 2 layers"),
    "a piece of a prior": ({"prior_model.head.bias": torch.zeros(6)}, "prior_model.*is missing"),
}


@pytest.mark.parametrize(("change", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_do_not_fit_are_refused(tmp_path, change, message):
    state = {name: value for name, value in (released.tensors() | change).items() if value is not None}
    with time_limit(5), pytest.raises(CheckpointError, match=message):
        zoo.load(released.write(tmp_path / "x", state=state))


def test_a_prior_that_does_not_fit_is_refused(tmp_path):
    sizes = replace(released.TINY, prior=(256, 1, 1024))  # a preset has six layers
    with pytest.raises(CheckpointError, match=r"prior_model\.blocks\.1"):
        zoo.load(released.write(tmp_path / "x", released.config(sizes), released.tensors(sizes)))


def test_other_folders_are_not_larp_s(tmp_path):
    assert not official.recognises(tmp_path)
    for text in ('{"bottleneck": {}}', '{"bottleneck": [], "bottleneck_token_num": 1}', '{"vocab_size": 8192}', "["):
        (tmp_path / "config.json").write_text(text)
        assert not official.recognises(tmp_path)
    with pytest.raises(CheckpointError):
        zoo.load(tmp_path, family="larp")
