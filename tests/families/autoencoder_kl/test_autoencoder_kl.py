"""The convolutional autoencoder as a tokenizer: latents, ids, released folders."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import CheckpointError, ConfigError, TokenError
from zoo.families.autoencoder_kl import AutoencoderKLTokenizer, official

VALUES = {"image_size": 16, "conv": {"block_channels": [8, 12], "layers_per_block": 1, "norm_groups": 4}}


def make(quantizer=None, **changes):
    torch.manual_seed(0)
    values = {**VALUES, "quantizer": quantizer or {"kind": "gaussian", "dim": 3}, **changes}
    return AutoencoderKLTokenizer.from_config(values).eval()


def pictures(count=3, seed=0):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_latents_are_the_means_and_decode():
    tokenizer, images = make(), pictures()
    latents = tokenizer.encode_latents(images)
    assert latents.values.shape == (3, 64, 3)
    assert tokenizer.spec.is_continuous
    with torch.no_grad():
        moments = tokenizer.encoder(2 * images[1:2] - 1)
        decoded = tokenizer.decoder(moments[:, :3])
    torch.testing.assert_close(latents.values[1], moments[0, :3].flatten(1).T, atol=1e-6, rtol=1e-5)
    made = tokenizer.decode_latents(latents)
    assert torch.allclose(made[1], ((decoded[0] + 1) / 2).clamp(0, 1), atol=1e-6)


def test_latents_do_not_depend_on_the_batch():
    tokenizer, images = make(), pictures(7)
    alone = torch.cat([tokenizer.encode_latents(image[None]).values for image in images])
    assert torch.equal(tokenizer.encode_latents(images).values, alone)


def test_there_are_no_ids_without_a_codebook():
    with pytest.raises(ConfigError, match="encode_latents"):
        make().encode(pictures())


@pytest.mark.parametrize(
    "quantizer",
    [
        {"kind": "fsq", "levels": [8, 5, 5]},
        {"kind": "vq", "codebook_size": 32, "dim": 4},
        {"kind": "lfq", "num_bits": 5},
        {"kind": "residual", "num_stages": 2, "stage": {"kind": "vq", "codebook_size": 16, "dim": 4}},
    ],
)
def test_any_quantizer_stands_between_the_halves(quantizer, tmp_path):
    tokenizer, images = make(quantizer), pictures()
    tokens = tokenizer.encode(images)
    assert tokens.grid == (8, 8)
    assert tokens.lengths.tolist() == [64] * 3
    assert tokenizer.decode(tokens).shape == images.shape
    again = zoo.load(zoo.save(tokenizer, tmp_path / "x"))
    assert torch.equal(again.encode(images).ids, tokens.ids)
    half = zoo.load(tmp_path / "x", decoder=False)
    assert torch.equal(half.encode(images).ids, tokens.ids)
    with pytest.raises(TokenError, match="without its decoder"):
        half.decode(tokens)


def test_released_folders_are_read_and_written(tmp_path):
    tokenizer = make()
    folder = official.write(tokenizer, tmp_path / "released")
    tensors = load_file(folder / official.WEIGHTS)
    assert {"quant_conv.weight", "post_quant_conv.bias", "encoder.mid_block.attentions.0.to_out.0.weight"} <= set(
        tensors
    )
    again = zoo.load(folder)
    assert again.config == tokenizer.config
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), tokenizer.state_dict().values(), strict=True)
    )
    assert torch.equal(again.encode_latents(pictures()).values, tokenizer.encode_latents(pictures()).values)


def test_half_a_released_folder_encodes(tmp_path):
    folder = official.write(make(), tmp_path / "released")
    half = zoo.load(folder, decoder=False)
    latents = half.encode_latents(pictures())
    assert torch.equal(latents.values, make().encode_latents(pictures()).values)
    assert half.num_parameters == sum(value.numel() for value in make().encoder.parameters())
    with pytest.raises(TokenError, match="without its decoder"):
        half.decode_latents(latents)


def test_two_names_of_one_tensor_are_refused(tmp_path):
    folder = official.write(make(), tmp_path / "released")
    tensors = load_file(folder / official.WEIGHTS)
    old = {name.replace(".to_q.", ".query."): tensor.clone() for name, tensor in tensors.items() if ".to_q." in name}
    save_file(tensors | old, folder / official.WEIGHTS)
    with pytest.raises(CheckpointError, match="repeats"):
        zoo.load(folder)


def test_names_of_before_are_read(tmp_path):
    folder = official.write(make(), tmp_path / "released")
    tensors = load_file(folder / official.WEIGHTS)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / official.WEIGHTS)
    assert torch.equal(zoo.load(folder).encode_latents(pictures()).values, make().encode_latents(pictures()).values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_fn": "gelu"}, "act_fn"),
        ({"in_channels": 1}, "in_channels"),
        ({"use_quant_conv": False}, "use_quant_conv"),
        ({"block_out_channels": 8}, "must be a list"),
        ({"block_out_channels": [8, 8, 8]}, "down_block_types"),
        ({"block_out_channels": [2**62, 2**62]}, "norm_groups"),
        ({"latent_channels": 4}, "quant_conv"),
        ({"layers_per_block": 2}, "resnets"),
        ({"sample_size": [16, 32]}, "image_size"),
        ({"down_block_types": ["os.system", "DownEncoderBlock2D"]}, "DownEncoderBlock2D"),
    ],
)
def test_other_networks_are_refused(tmp_path, changes, message):
    folder = official.write(make(), tmp_path / "released")
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=message):
        zoo.load(folder)


def test_damaged_weights_are_refused(tmp_path):
    folder = official.write(make(), tmp_path / "released")
    weights = folder / official.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=official.WEIGHTS):
        zoo.load(folder)


def test_what_the_layout_cannot_say_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match="Gaussian"):
        official.write(make({"kind": "fsq", "levels": [8, 5]}), tmp_path / "x")


@pytest.mark.parametrize("size", [15, 0, 2, 2**40])
def test_sizes_that_cannot_be_are_refused(size):
    values = VALUES["conv"] | {"block_channels": [8, 8, 8]}
    with pytest.raises(ConfigError, match="image_size must be a multiple of 4"):
        make(conv=values, image_size=size)


def test_the_published_vae_has_the_published_parameters():
    with torch.device("meta"):
        tokenizer = AutoencoderKLTokenizer.from_config({})
    assert tokenizer.num_parameters == 83_821_011
    assert len(tokenizer.state_dict()) == 248
