"""The released layout against the plain evaluation: ids, images, orders of modules, halves, round trips."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import flextok_plain as plain
import flextok_released as released
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_flextok import CONFIG, make

import zoo
from zoo.components.quantizers import FSQConfig, LFQConfig
from zoo.errors import CheckpointError, ConfigError, TokenError
from zoo.families.flextok import FlexTokConfig, FlexTokTokenizer, TrunkConfig
from zoo.families.flextok.official import folder as official
from zoo.families.flextok.official import names

pytestmark = pytest.mark.filterwarnings("ignore:.* was not trained to decode")

# The published width of a head, and one at which 8 / head_dim is not the usual 1/√head_dim.
SIZES = {
    "heads of 16": released.TINY,
    "heads of 64": replace(released.TINY, encoder_width=64, decoder_width=128, head_dim=64, max_timestep=1.0),
}
GUIDANCE = {"none": (1.0, False), "plain": (3.0, False), "adaptive": (7.5, True)}
KEEP = (16, 3, 1)


@pytest.fixture(scope="module", params=SIZES.values(), ids=SIZES)
def pair(request, tmp_path_factory):
    sizes, folder = request.param, tmp_path_factory.mktemp("released")
    values, tensors = released.config(sizes), released.tensors(sizes)
    return zoo.load(released.write(folder, values, tensors)), plain.Plain(values, tensors)


@pytest.fixture
def folder(tmp_path):
    return released.write(tmp_path / "released")


def ids_of(tokenizer):
    return tokenizer.encode(released.images()).ids


@pytest.fixture(scope="module")
def tiny_ids():
    return plain.Plain(released.config(), released.tensors()).encode(released.images())


# --------------------------------------------------------------------------------------------------- what it computes


def test_ids_are_those_of_the_plain_evaluation(pair):
    tokenizer, model = pair
    images = released.images(6)
    wanted = model.encode(images)
    assert len(wanted.unique()) > 50
    assert torch.equal(tokenizer.encode(images).ids, wanted)
    vectors = model.registers_of(model.latents(images))
    assert torch.allclose(tokenizer.encode_latents(images).values, vectors, atol=1e-4)


@pytest.mark.parametrize(("scale", "is_adaptive"), GUIDANCE.values(), ids=GUIDANCE)
def test_images_are_those_of_the_plain_evaluation(pair, scale, is_adaptive):
    tokenizer, model = pair
    ids, noise, keep = model.encode(released.images()), released.noise(), torch.tensor(KEEP)
    for steps in (1, 4):
        with torch.no_grad():
            wanted = model.decode(ids, keep, noise, steps, scale, is_adaptive)
        found = tokenizer.decode(
            ids, keep, noise=noise, steps=steps, guidance=scale, adaptive_guidance=is_adaptive, clamp=False
        )
        assert torch.allclose(found, wanted, atol=1e-4), (found - wanted).abs().max()
    plainly = tokenizer.decode(ids, torch.full((3,), 16), noise=noise, steps=4, guidance=1.0, clamp=False)
    assert (plainly - wanted).abs().max() > 1e-2  # prefixes and guidance do something


def test_velocities_are_those_of_the_plain_evaluation(pair):
    tokenizer, model = pair
    flow = tokenizer.decoder.flow
    codes = plain.fsq_codes(model.encode(released.images()), model.levels)
    keep, x = torch.tensor(KEEP), released.noise()
    registers = model.condition(codes, keep)
    for t in (torch.tensor([0.01, 0.25, 1.0]), torch.tensor([0.5, 0.8, 0.04])):
        with torch.no_grad():
            found = flow(x, t, flow.registers(codes, keep))
            nothing = flow(x, t, flow.null.expand_as(registers))
        assert torch.allclose(found, model.velocity(x, t, registers), atol=1e-4)
        assert torch.allclose(nothing, model.velocity(x, t, model.null(registers)), atol=1e-4)


def test_registers_see_patches_and_earlier_registers_alone(tmp_path):
    name, place = f"{plain.ENCODER}enc_register_module.registers", 9
    tensors = released.tensors()
    before = zoo.load(released.write(tmp_path / "a", state=tensors)).encode_latents(released.images()).values
    changed = tensors[name].clone()
    changed[place] += torch.linspace(-1, 1, changed.shape[1])  # a constant, the norm would hide
    after = zoo.load(released.write(tmp_path / "b", state=tensors | {name: changed}))
    moved = after.encode_latents(released.images()).values - before
    assert torch.equal(moved[:, :place], torch.zeros_like(moved[:, :place]))
    assert moved[:, place:].abs().amax((0, 2)).min() > 1e-4


# ------------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("depths", [(12, 12), (18, 18), (18, 28)], ids=str)
def test_names_and_shapes_are_the_released_ones(depths):
    sizes = {12: released.D12_D12, 18: released.D18_D18, 28: released.D18_D28}[depths[1]]
    encoder, decoder = (TrunkConfig(depth=depth, width=64 * depth) for depth in depths)
    config = FlexTokConfig(encoder=encoder, decoder=decoder)
    with torch.device("meta"):
        state = FlexTokTokenizer(config).state_dict()
    found = {
        (name := names.released_name(ours)): tuple(names.released(name, tensor, config.grid).shape)
        for ours, tensor in state.items()
    }
    assert found == released.shapes(sizes)


def test_settings(folder):
    tokenizer = zoo.load(folder)
    config = tokenizer.config
    assert (config.image_size, config.grid, config.num_tokens, config.latent_channels) == (16, (4, 4), 16, 4)
    assert (config.scaling_factor, config.max_timestep, config.nested_dropout) == (0.7, 1000.0, "pow2")
    assert (config.encoder, config.decoder) == (TrunkConfig(2, 32, 16), TrunkConfig(2, 48, 16))
    assert config.quantizer == FSQConfig((8, 8, 8, 5, 5, 5))
    assert (tokenizer.family, tokenizer.source) == ("flextok", str(folder))
    assert tokenizer.spec.licence == "LicenseRef-apple-amlr"
    assert not tokenizer.training


@pytest.mark.parametrize("is_single", [False, True], ids=["config.json", "metadata"])
@pytest.mark.parametrize("is_sorted", [False, True], ids=["in working order", "sorted"])
def test_orders_and_forms(tmp_path, tiny_ids, is_single, is_sorted):
    values = released.config()
    if is_sorted:
        values = released.in_sorted_order(values)
        assert [*values["encoder"]["module_dict"]][:2] == ["enc_channels_to_last", "enc_patch_emb"]
        assert next(iter(values["decoder"]["module_dict"])) == "dec_channels_to_first"
    write = released.write_single if is_single else released.write
    tokenizer = zoo.load(write(tmp_path / "x", values))
    assert not is_single or [path.name for path in (tmp_path / "x").iterdir()] == ["model.safetensors"]
    assert torch.equal(ids_of(tokenizer), tiny_ids)


def test_weights_in_half_precision(tmp_path):
    tensors = {name: tensor.bfloat16() for name, tensor in released.tensors().items()}
    tokenizer = zoo.load(released.write(tmp_path / "x", state=tensors))
    assert {value.dtype for value in tokenizer.state_dict().values()} == {torch.float32}
    model = plain.Plain(released.config(), {name: tensor.float() for name, tensor in tensors.items()})
    assert torch.equal(ids_of(tokenizer), model.encode(released.images()))


def test_half_of_it(folder, tiny_ids, monkeypatch):
    read = []
    whole = safe_open

    class Counted:
        def __init__(self, *arguments, **options):
            self.file = whole(*arguments, **options)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *arguments):
            return self.file.__exit__(*arguments)

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr("zoo.checkpoint.weights.safe_open", Counted)
    half = zoo.load(folder, decoder=False)
    assert {name.split(".")[0] for name in read} == {"encoder", "vae"}
    assert not [name for name in read if name.startswith((f"{plain.VAE}decoder.", f"{plain.VAE}post_quant"))]
    assert half.num_parameters == sum(value.numel() for value in zoo.load(folder).encoder.parameters())
    assert torch.equal(ids_of(half), tiny_ids)
    with pytest.raises(TokenError, match="without its decoder"):
        half.decode(half.encode(released.images()))


def test_what_changes_between_releases(tmp_path, tiny_ids):
    tensors = released.tensors()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith(plain.VAE):
            for new, before in old.items():
                name = name.replace(f".{new}.", f".{before}.")
        renamed[name.replace(".blocks.1.", ".blocks.1._checkpoint_wrapped_module.")] = tensor
    renamed[f"{plain.DECODER}dec_repa_head.mlp.0.weight"] = torch.zeros(3, 3)
    values = released.config()
    head = f"{released.MODEL}postprocessors.heads.MLPHead"
    values["decoder"]["module_dict"]["dec_repa_head"] = {"_target_": head, "dim": 3}
    values["_target_"] = "flextok.flextok_wrapper.FlexTok"
    tokenizer = zoo.load(released.write(tmp_path / "x", values, renamed))
    assert len(set(renamed) - set(tensors)) > 20
    assert torch.equal(ids_of(tokenizer), tiny_ids)


@pytest.mark.parametrize("kind", ["learnable_sum", "learnable_prod"])
def test_learned_positions_of_patches(tmp_path, kind):
    # A plain table that says the same is the reference.
    values, tensors, flat = released.config(), released.tensors(), released.tensors()
    for half, name in (("encoder", "enc_posemb_module"), ("decoder", "dec_patches_posemb_module")):
        values[half]["module_dict"][name]["posemb_type"] = kind
        key = f"{half}.module_dict.{name}.posembs"
        width = tensors[key].shape[1]
        rows, columns = torch.randn(2, width, 4, generator=torch.Generator().manual_seed(0))
        tensors[key] = torch.stack([rows, columns])[:, None]
        join = torch.add if kind == "learnable_sum" else torch.mul
        flat[key] = join(rows[:, :, None], columns[:, None])[None]
    model = plain.Plain(values, flat)
    tokenizer = zoo.load(released.write(tmp_path / "x", values, tensors))
    assert torch.equal(ids_of(tokenizer), model.encode(released.images()))
    x, registers = released.noise(1), torch.randn(1, 16, 48)
    with torch.no_grad():
        found = tokenizer.decoder.flow(x, torch.ones(1), registers)
    assert torch.allclose(found, model.velocity(x, torch.ones(1), registers), atol=1e-4)


def test_no_condition_can_be_zeros(tmp_path):
    values, tensors = released.config(), released.tensors()
    null = values["decoder"]["module_dict"]["dec_latent_dropout"]
    null["_target_"] = null["_target_"].replace("LearnedNullCond", "ZeroNullCond")
    del tensors[names.NULL]
    tokenizer = zoo.load(released.write(tmp_path / "x", values, tensors))
    model = plain.Plain(values, tensors)
    ids, keep, noise = torch.arange(32).view(2, 16) * 999, torch.tensor([16, 4]), released.noise(2)
    found = tokenizer.decode(ids, keep, noise=noise, steps=2, guidance=3.0, adaptive_guidance=False, clamp=False)
    with torch.no_grad():
        assert torch.allclose(found, model.decode(ids, keep, noise, 2, 3.0), atol=1e-4)
    assert zoo.load(tmp_path / "x", decoder=False).encode(released.images()).ids.shape == (3, 16)


@pytest.mark.parametrize(("path", "is_told"), [(None, False), ("EPFL-VILAB/flextok_vae_c16", True)])
def test_without_a_scale_diffusers_default_counts(tmp_path, path, is_told):
    values = released.config()
    values["vae"] |= {"scaling_factor": None, "hf_hub_path": path}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer = zoo.load(released.write(tmp_path / "x", values))
    assert tokenizer.config.scaling_factor == 0.18215
    assert [("0.18215, is assumed" in str(warning.message)) for warning in caught] == [True] * is_told


# --------------------------------------------------------------------------------------------------- what is written


def test_round_trip(tmp_path):
    tokenizer = make(replace(CONFIG, nested_dropout="uniform_pow2", max_timestep=1.0))
    place = official.write(tokenizer, tmp_path / "x")
    again = zoo.load(place)
    assert again.config == replace(tokenizer.config, steps=again.config.steps, guidance=again.config.guidance)
    state = tokenizer.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in again.state_dict().items())
    values = json.loads((place / "config.json").read_text())
    wanted = released.config()
    for half in ("encoder", "decoder"):
        # The authors' code runs modules in the order in which it finds them.
        order = [name for name in wanted[half]["module_dict"] if "repa" not in name]
        assert [*values[half]["module_dict"]] == order
    assert [*values] == [*wanted]


def test_round_trip_of_a_released_folder(folder, tmp_path):
    tokenizer, config = zoo.load(folder), released.config()
    place = official.write(tokenizer, tmp_path / "x", like=released.in_sorted_order(config))
    before, after = (load_file(path / "model.safetensors") for path in (folder, place))
    assert set(before) == set(after)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    values = json.loads((place / "config.json").read_text())
    del config["decoder"]["module_dict"]["dec_repa_unpacker"]
    for half in ("encoder", "decoder"):
        assert [*values[half]["module_dict"]] == [*config[half]["module_dict"]]
        for name, node in config[half]["module_dict"].items():
            assert values[half]["module_dict"][name].items() >= node.items(), name  # every argument is kept
    assert values["vae"].items() >= (config["vae"] | {"sample_posterior": False}).items()


def test_what_the_layout_cannot_say_is_not_written(folder, tmp_path):
    with pytest.raises(ConfigError, match="'lfq'"):
        official.write(make(replace(CONFIG, quantizer=LFQConfig(num_bits=4))), tmp_path / "x")
    with pytest.raises(TokenError, match="without its decoder"):
        official.write(zoo.load(folder, decoder=False), tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"os\.system"):
        official.write(zoo.load(folder), tmp_path / "x", like=released.config() | {"vae": {"_target_": "os.system"}})
    assert not Path(tmp_path / "x").exists()
