"""Released folders that lie, are damaged or would run something: refused, and nothing is imported or allocated."""

import builtins
import json
import os
import resource

import flextok_released as released
import pytest
import torch
from mutations import time_limit
from safetensors.torch import save_file

import zoo
from zoo.errors import CheckpointError
from zoo.families.flextok.official import names, nodes

E, D = "encoder.module_dict.", "decoder.module_dict."


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
    values = released.config()
    *parents, last = path.split("/")
    node = values
    for name in parents:
        node = node[name]
    if drop:
        del node[last]
    else:
        node[last] = value
    return values


def module(half, name):
    return f"{half}/module_dict/{name}"


FOREIGN = {
    "a command": ("vae/_target_", "os.system"),
    "of a module": (module("encoder", "enc_patch_emb") + "/_target_", "builtins.exec"),
    "of another module here": (
        module("encoder", "enc_patch_emb") + "/_target_",
        "flextok.model.preprocessors.linear.LinearLayer",
    ),
    "in the middle": (
        module("decoder", "dec_transformer") + "/norm_layer",
        {"_target_": "subprocess.Popen", "args": ["x"]},
    ),
    "in a list": (module("decoder", "dec_transformer") + "/hooks", [[{"_target_": "os.remove", "path": "x"}]]),
    "of a function": (
        module("encoder", "enc_channels_to_last") + "/per_sample_op",
        {"_target_": "flextok.model.utils.dict_ops.channels_last_to_first", "_partial_": True},
    ),
    "at the top": ("_target_", "transformers.AutoModel"),
    "of what only trains": ("pipeline/_target_", "torch.load"),
    "of what only aligns": (module("decoder", "dec_repa_head"), {"_target_": "shutil.rmtree"}),
    "no text": ("regularizer/_target_", ["flextok.regularizers.quantize_fsq.FSQ"]),
    "a near miss": ("regularizer/_target_", "flextok.regularizers.quantize_fsq.FSQ.__init__"),
    "none": ("regularizer/_target_", None),
}


@pytest.mark.parametrize(("path", "value"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_classes_are_refused(write, monkeypatch, path, value):
    folder = write(changed(path, value))
    imported = []
    load, system = builtins.__import__, os.system
    monkeypatch.setattr(os, "system", lambda *_: imported.append("os.system"))
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: imported.append(name) or load(name, *rest))
    with pytest.raises(CheckpointError, match=r"class|_target_|is of|must apply"):
        zoo.load(folder)
    assert os.system is not system
    assert not {"os.system", "subprocess", "shutil", "transformers", "flextok"} & set(imported)


REFUSED = {
    "path that leads out": ("vae/hf_hub_path", "../../etc/passwd", "hf_hub_path must be owner/repo"),
    "absolute path": ("vae/hf_hub_path", "/etc/passwd", "hf_hub_path"),
    "path with a line": ("vae/hf_hub_path", "a/b\n", "hf_hub_path"),
    "address": ("vae/hf_hub_path", "https://x.org/a/b", "hf_hub_path"),
    "absurd depth": (module("decoder", "dec_transformer") + "/depth", 10**12, "depth is 1000000000000"),
    "absurd width": (module("encoder", "enc_transformer") + "/dim", 2**40, "dim is"),
    "a terabyte of positions": (module("encoder", "enc_posemb_module") + "/max_sizes", [2**20, 2**20], "max_sizes"),
    "a terabyte of registers": (module("encoder", "enc_register_module") + "/n_max", 2**50, "n_max"),
    "a heap of levels": ("regularizer/levels", [1000] * 10**5, "levels must be a short list"),
    "other levels": ("regularizer/levels", [8, 8, 8, 5, 5], "proj"),
    "levels of nothing": ("regularizer/levels", [8, 8, 8, 5, 5, 0], "levels must be from 2"),
    "levels that are no numbers": ("regularizer/levels", ["8"] * 6, "levels"),
    "levels that are truths": ("regularizer/levels", [True] * 6, "levels"),
    "a head that divides nothing": (module("encoder", "enc_transformer") + "/head_dim", 7, "head_dim"),
    "a head of nothing": (module("encoder", "enc_transformer") + "/head_dim", 0, "head_dim"),
    "a head that is a word": (module("encoder", "enc_transformer") + "/head_dim", "64", "head_dim must be int"),
    "another MLP": (module("decoder", "dec_transformer") + "/mlp_ratio", 8.0, "mlp"),
    "no number of times": (module("decoder", "dec_time_embedder") + "/max_timestep", float("nan"), "max_timestep"),
    "times of nothing": (module("decoder", "dec_time_embedder") + "/max_timestep", 0, "max_timestep"),
    "times that are words": (module("decoder", "dec_time_embedder") + "/max_timestep", "1e3", "max_timestep"),
    "an endless scale": ("vae/scaling_factor", float("inf"), "scaling_factor"),
    "a truth as scale": ("vae/scaling_factor", True, "scaling_factor must be float"),
    "other channels": ("vae/latent_channels", 8, "latent_channels"),
    "another mask": (module("encoder", "enc_seq_packer") + "/mask_mode", "full", "mask_mode"),
    "another sharing": (module("decoder", "dec_seq_packer") + "/per_subseq_embs", False, "per_subseq_embs"),
    "a head that fails": (module("decoder", "dec_to_patches") + "/use_mup_readout", True, "use_mup_readout"),
    "another dropout": (module("decoder", "dec_nested_dropout") + "/size_sampling_mode", "half", "nested_dropout"),
    "other positions": (module("encoder", "enc_posemb_module") + "/posemb_type", "rope", "posemb_type"),
    "learned positions": (
        module("encoder", "enc_posemb_module") + "/posemb_type",
        "learnable_sum",
        "must have the shape",
    ),
    "patches of two sizes": (module("encoder", "enc_patch_emb") + "/patch_sizes", [2, 1], "patch_sizes"),
    "patches of nothing": (module("encoder", "enc_patch_emb") + "/patch_sizes", [0, 0], "patches"),
    "groups of nothing": ("vae/norm_num_groups", 0, "norm_groups"),
    "an entry of its own": ("mine", {}, "unknown entry 'mine'"),
    "a module of its own": (module("encoder", "enc_mine"), {}, "unknown module 'enc_mine'"),
    "modules in a list": ("encoder/module_dict", [], "module_dict must be dict"),
    "an encoder in a list": (module("encoder", "enc_patch_emb"), [], "must be a mapping"),
}


@pytest.mark.parametrize(("path", "value", "message"), REFUSED.values(), ids=REFUSED)
def test_configs_that_lie_are_refused(write, path, value, message):
    folder = write(changed(path, value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with time_limit(5), pytest.raises(CheckpointError, match=message):
        zoo.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # kB


@pytest.mark.parametrize("path", ["vae", module("encoder", "enc_patch_emb"), module("decoder", "dec_to_patches")])
def test_what_is_missing_is_missed(write, path):
    folder = write(changed(path, None, drop=True))
    with pytest.raises(CheckpointError):
        zoo.load(folder, family="flextok")


TENSORS = {
    "missing": ({f"{D}dec_latent_dropout.nullcond": None}, "nullcond is missing"),
    "a missing layer": ({f"{E}enc_transformer.blocks.0.attn.wq.weight": None}, "wq.weight is missing"),
    "unexpected": ({f"{D}mine.weight": torch.zeros(1)}, "mine.weight is unexpected"),
    "an unexpected head": ({"encoder.module_dict.dec_repa.weight": torch.zeros(1)}, "is unexpected"),
    "another shape": ({f"{E}enc_to_latents.proj.bias": torch.zeros(7)}, "instead of"),
    "integers": ({f"{E}enc_to_latents.proj.bias": torch.zeros(6, dtype=torch.int32)}, "holds torch.int32"),
    "not finite": ({f"{D}dec_nested_dropout.dropout_mask_token": torch.full((48,), torch.nan)}, "NaN"),
    "no axes": ({names.VAE + "encoder.down_blocks.0.resnets.0.norm2.weight": torch.zeros(())}, "must have 1 axes"),
    "flat positions": ({names.ENCODER_POSITIONS: torch.zeros(1, 1, 2000, 2000)}, "must have the shape"),
    "wide registers": ({f"{E}enc_register_module.registers": torch.zeros(1, 2**20)}, "n_min is 16"),
    "layers without end": ({f"{E}enc_transformer.blocks.{i}.x": torch.zeros(0) for i in range(2000)}, "depth"),
}


@pytest.mark.parametrize(("change", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_do_not_fit_are_refused(tmp_path, change, message):
    state = {name: value for name, value in (released.tensors() | change).items() if value is not None}
    with time_limit(5), pytest.raises(CheckpointError, match=message):
        zoo.load(released.write(tmp_path / "x", state=state))


def test_two_names_of_one_tensor_are_refused(tmp_path):
    state = released.tensors()
    name = f"{E}enc_transformer.blocks.0.attn.wq.weight"
    state[name.replace("0.attn", "0._checkpoint_wrapped_module.attn")] = state[name].clone()
    with pytest.raises(CheckpointError, match="repeats"):
        zoo.load(released.write(tmp_path / "x", state=state))


@pytest.mark.parametrize(
    "text",
    [
        "{'_target_': __import__('os').system('touch hacked')}",
        "{'levels': [8] * 10**9}",
        "{'a': " * 3000,
        "{'a': " * 90 + "1" + "}" * 90,
        "{" + "-" * 100000 + "1: 2}",
        "{'a': 1" + " " * 2**20 + "}",
        "{[]: 1}",
        "{'x'",
        "{'\\ud800': 1}",
    ],
    ids=["a call", "a product", "unclosed", "deep", "minus signs", "long", "unhashable", "cut off", "a surrogate"],
)
def test_metadata_are_literals_or_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    metadata = {name: str(value) for name, value in released.config().items()} | {"vae": text}
    save_file(released.tensors(), tmp_path / "model.safetensors", metadata=metadata)
    with time_limit(5), pytest.raises(CheckpointError):
        zoo.load(tmp_path, family="flextok")
    assert not (tmp_path / "hacked").exists()


def test_other_folders_are_not_flextok_s(tmp_path):
    from zoo.families.flextok.official import folder as official

    assert not official.recognises(tmp_path)
    (tmp_path / "config.json").write_text('{"vae": {}, "encoder": {}, "decoder": {}}')
    assert not official.recognises(tmp_path)
    (tmp_path / "config.json").write_text("[")
    assert not official.recognises(tmp_path)


def test_every_class_that_is_known_is_used():
    known = {target for _, target in nodes._targets(released.config(), "")}
    assert known <= nodes._KNOWN
