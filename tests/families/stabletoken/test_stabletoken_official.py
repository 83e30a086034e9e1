"""StableToken: the released layout, against a second implementation of the whole path from wave to ids."""

import json
from functools import partial

import pytest
import stabletoken_reference as reference
import torch
from safetensors.torch import save_file
from tiny_stabletoken import make, speech

import zoo
from zoo.components.exact.one_by_one import canonical
from zoo.components.quantizers import VotingLFQConfig
from zoo.errors import CheckpointError, ConfigError
from zoo.families.stabletoken import StableTokenTokenizer
from zoo.families.stabletoken.official import folder as official

CONFIG = reference.RELEASED


def released(folder, *, changes=None, extractor=None, drop=(), add=None, parts=1, layers=None):
    config = CONFIG | (changes or {})
    tensors = reference.random_tensors(config, layers)
    written = {name: tensor for name, tensor in tensors.items() if name not in drop} | (add or {})
    reference.write(folder, config, written, reference.EXTRACTOR | (extractor or {}), parts)
    return tensors, config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_projection_bias": True},
        {"encoder_causal_convolution": True},
        {"pooling_type": "max", "pooling_position": 1},
        {"num_voters": 1, "num_clean_input": 1},
    ],
)
def test_ids_are_those_of_the_formulas(tmp_path, changes):
    tensors, config = released(tmp_path / "tokenizer", changes=changes)
    tokenizer = zoo.load(tmp_path)
    for count in (1, 160, 640, 641, 8001, 16_000, 20_479):
        wave = speech(count, count)
        mel = tokenizer.features.alone(wave)
        frames = [-(-count // 160)]
        work = partial(tokenizer.encoder.apart, [mel], frames)
        ours = canonical(torch.device("cpu"), 1, work)[0][0]
        expected = reference.hidden(tensors, config, wave.numpy())
        assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()
        assert tokenizer.encode(wave).tolist() == [reference.ids(tensors, config, wave.numpy())]


@pytest.mark.parametrize("where", ["tokenizer", "."])
@pytest.mark.parametrize("family", [None, "stabletoken"])
def test_both_places_and_several_files(tmp_path, where, family):
    released(tmp_path / where, parts=3)
    tokenizer = zoo.load(tmp_path, family=family)
    assert isinstance(tokenizer, StableTokenTokenizer)
    assert tokenizer.name == "stabletoken"
    assert tokenizer.source == str(tmp_path)
    assert tokenizer.spec.licence == "LicenseRef-StableToken"
    assert tokenizer.config.num_layers_after == 1
    assert not tokenizer.training


def test_files_that_the_authors_code_does_not_read_are_not_read(tmp_path):
    wave = speech(9000)
    for number, parts in enumerate((1, 2)):
        folder = tmp_path / str(number)
        tensors, config = released(folder, parts=parts)
        other = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        save_file(other, folder / "model.fp32-00001-of-00001.safetensors")
        (folder / "optimizer.safetensors").write_bytes(b"not weights")
        assert zoo.load(folder).encode(wave).tolist() == [reference.ids(tensors, config, wave.numpy())]


def test_parts_that_contradict_each_other_or_are_missing(tmp_path):
    tensors, _ = released(tmp_path, parts=2)
    part = tmp_path / "model-00002-of-00002.safetensors"
    content = part.read_bytes()
    save_file({"conv1.weight": tensors["conv1.weight"]}, part)
    with pytest.raises(CheckpointError, match=r"00002\.safetensors repeats 'conv1\.weight'"):
        zoo.load(tmp_path)
    part.unlink()
    with pytest.raises(CheckpointError, match=r"lacks \['model-00002-of-00002\.safetensors'\], which model"):
        zoo.load(tmp_path)
    part.write_bytes(content)
    assert isinstance(zoo.load(tmp_path), StableTokenTokenizer)


def test_every_tensor_is_used_or_listed(tmp_path):
    tensors, _ = released(tmp_path)
    state = zoo.load(tmp_path).state_dict()
    used = torch.cat([tensor.flatten() for tensor in state.values()]).sort().values
    expected = torch.cat([t.flatten() for name, t in tensors.items() if name not in reference.UNUSED]).sort().values
    assert torch.equal(used, expected)


def test_unused_tensors_may_be_missing(tmp_path):
    released(tmp_path / "a")
    released(tmp_path / "b", drop=reference.UNUSED)
    wave = speech(20_000)
    assert zoo.load(tmp_path / "a").encode(wave).equal(zoo.load(tmp_path / "b").encode(wave))


def test_every_missing_tensor_is_named(tmp_path):
    names = [name for name in reference.random_tensors(CONFIG) if name not in reference.UNUSED]
    for number, name in enumerate(names):
        released(tmp_path / str(number), drop=[name])
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            zoo.load(tmp_path / str(number))


@pytest.mark.parametrize("name", ["layers.2.fc1.weight", "quantizer.project_in.5.weight", "decoder.conv.bias"])
def test_unexpected_tensors_are_named(tmp_path, name):
    released(tmp_path, add={name: torch.zeros(1)})
    with pytest.raises(CheckpointError, match=f"{name} is unexpected"):
        zoo.load(tmp_path)


def test_biases_follow_the_flag(tmp_path):
    # A flag and tensors that contradict each other are an error, not a guess.
    released(tmp_path / "a", add={f"quantizer.project_in.{i}.bias": torch.zeros(6) for i in range(5)})
    with pytest.raises(CheckpointError, match=r"project_in\.0\.bias is unexpected"):
        zoo.load(tmp_path / "a")
    released(tmp_path / "b", changes={"use_projection_bias": True}, drop=["quantizer.project_in.3.bias"])
    with pytest.raises(CheckpointError, match=r"project_in\.3\.bias is missing"):
        zoo.load(tmp_path / "b")


def test_layers_behind_the_quantizer(tmp_path):
    tensors, config = released(tmp_path, changes={"quantize_encoder_only": False}, layers=3)
    wave = speech(9000)
    assert zoo.load(tmp_path).encode(wave).tolist() == [reference.ids(tensors, config, wave.numpy())]


def test_wrong_shapes_and_values(tmp_path):
    released(tmp_path / "a", add={"conv1.bias": torch.zeros(47)})
    with pytest.raises(CheckpointError, match=r"conv1\.bias has the shape \(47,\) instead of \(48,\)"):
        zoo.load(tmp_path / "a")
    released(tmp_path / "b", add={"conv1.bias": torch.full((48,), torch.nan)})
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in conv1\.bias"):
        zoo.load(tmp_path / "b")


def test_half_precision_files(tmp_path):
    config = dict(CONFIG)
    tensors = {name: tensor.half() for name, tensor in reference.random_tensors(config).items()}
    tokenizer = zoo.load(reference.write(tmp_path / "x", config, tensors))
    assert {p.dtype for p in tokenizer.parameters()} == {torch.float32}
    wave = speech(9000)
    assert tokenizer.encode(wave).tolist() == [reference.ids(tensors, config, wave.numpy())]


@pytest.mark.parametrize(
    ("changes", "extractor", "message"),
    [
        ({"quantize_vocab_size": 63}, {}, "power of two"),
        ({"quantize_vocab_size": "64"}, {}, "power of two"),
        ({"activation_function": "relu"}, {}, "activation_function"),
        ({"encoder_layers": 1}, {}, "encoder_layers"),
        ({"quantize_encoder_only": None}, {}, "quantize_encoder_only"),
        ({"num_voters": 4}, {}, "odd"),
        ({"d_model": 50}, {}, "multiple of num_heads"),
        ({"use_projection_bias": "no"}, {}, "bias"),
        ({"encoder_causal_convolution": None}, {}, "causal_convolution"),
        ({}, {"feature_size": 80}, "feature_size"),
        ({}, {"chunk_length": 20}, "chunk_length"),
        ({}, {"dither": 0.1}, "dither"),
        ({}, {"padding_value": 1.0}, "padding_value"),
    ],
)
def test_settings_that_cannot_be_honoured(tmp_path, changes, extractor, message):
    config = CONFIG | changes
    reference.write(tmp_path, config, reference.random_tensors(CONFIG), reference.EXTRACTOR | extractor)
    with pytest.raises(ConfigError, match=message):
        zoo.load(tmp_path)


@pytest.mark.parametrize("key", ["use_projection_bias", "pooling_type", "d_model", "quantize_encoder_only"])
def test_missing_settings_are_not_guessed(tmp_path, key):
    config = {name: value for name, value in CONFIG.items() if name != key}
    reference.write(tmp_path, config, reference.random_tensors(CONFIG))
    with pytest.raises(ConfigError, match=f"lacks {key}"):
        zoo.load(tmp_path)


def test_causal_convolution_is_off_where_it_is_not_mentioned(tmp_path):
    config = {name: value for name, value in CONFIG.items() if name != "encoder_causal_convolution"}
    reference.write(tmp_path, config, reference.random_tensors(CONFIG))
    assert not zoo.load(tmp_path).config.causal_convolution


def test_incomplete_folders(tmp_path):
    released(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").rename(tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors and no .* Pickled weights are not read"):
        zoo.load(tmp_path / "a")
    released(tmp_path / "b")
    (tmp_path / "b" / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        zoo.load(tmp_path / "b")
    released(tmp_path / "c")
    (tmp_path / "c" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        zoo.load(tmp_path / "c")


def test_whispers_own_files_are_not_recognised(tmp_path):
    config = {key: value for key, value in CONFIG.items() if "quantize" not in key}
    reference.write(tmp_path, config, {})
    with pytest.raises(CheckpointError):
        zoo.load(tmp_path, family="stabletoken")
    with pytest.raises(CheckpointError, match="does not hold"):
        official.load(tmp_path)


def test_round_trip(tmp_path):
    ours = make(
        num_mel=20,
        max_positions=1500,
        causal_convolution=True,
        quantizer=VotingLFQConfig(dim=32, num_bits=6, bias=True),
    )
    official.write(ours, tmp_path / "a")
    back = zoo.load(tmp_path / "a")
    assert {**vars(back.config), "stored_positions": False} == vars(ours.config)
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
    assert torch.equal(back.encoder.positions, ours.encoder.positions)
    waves = [speech(count, count) for count in (1, 900, 40_000)]
    assert back.encode(waves).tolist() == ours.encode(waves).tolist()
    official.write(back, tmp_path / "b")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        assert (tmp_path / "a/tokenizer" / name).read_bytes() == (tmp_path / "b/tokenizer" / name).read_bytes()
    assert set(json.loads((tmp_path / "a/tokenizer/config.json").read_text())) >= set(CONFIG) - {
        "decoder_layers",
        "scale_embedding",
    }
