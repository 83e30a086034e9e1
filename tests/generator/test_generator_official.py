"""Generators in the released layout: the formulas once more, sizes, round trips, names, bad files."""

import json
import math

import generator_plain as plain
import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo import loading, registry
from zoo.components.prior import draw_ids
from zoo.errors import CheckpointError, ConfigError, UnknownNameError
from zoo.generator import PRESETS, GeneratorConfig, Sampling, TokenGenerator, generate, official, preset

KINDS = {
    "classes": plain.SMALL,
    "frames": plain.FRAMES,
    "grouped heads": {**plain.SMALL, "n_kv_head": 2},
    "wider": {**plain.SMALL, "ffn_dim_multiplier": 1.5, "multiple_of": 8},
}


def released(folder, config, tensors=None):
    folder.mkdir()
    save_file(plain.tensors(config) if tensors is None else tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def conditions(config):
    """Conditions of two items, for the plain evaluation and for ours."""
    if config["frame_prediction"]:
        prefix = torch.randint(24, (2, 12), generator=torch.Generator().manual_seed(3))
        return prefix.tolist(), {"prefix": prefix}
    return [2, -1], {"labels": torch.tensor([2, -1])}


@pytest.mark.parametrize("kind", ["classes", "frames", "grouped heads"])
def test_logits_are_those_of_the_formulas(kind, tmp_path):
    config = KINDS[kind]
    generator = zoo.load_generator(released(tmp_path / "released", config))
    weights = plain.tensors(config)
    ids = torch.randint(24, (2, 12), generator=torch.Generator().manual_seed(1))
    theirs, ours = conditions(config)
    with torch.no_grad():
        found = generator(ids, **ours)
    expected = torch.stack([plain.logits(weights, config, ids[i].tolist(), theirs[i]) for i in range(2)])
    torch.testing.assert_close(found.double(), expected, atol=5e-5, rtol=1e-5)
    # Token by token with a cache, greedily, they are the likeliest of the formulas.
    made, _ = generate(generator, 2, sampling=Sampling(top_k=1), **ours)
    whole = [plain.logits(weights, config, made[i].tolist(), theirs[i]).argmax(-1) for i in range(2)]
    assert torch.equal(made, torch.stack(whole))


def test_guided_tokens_are_those_of_the_formulas(tmp_path):
    config = plain.SMALL
    generator = zoo.load_generator(released(tmp_path / "released", config))
    weights = plain.tensors(config)
    # The authors' interval of 3 guides the first token, which the class alone gives, and those of steps 0 to 3.
    sampling = Sampling(top_k=1, guidance=3.0, guided_tokens=3 + 2)
    made, _ = generate(generator, 1, labels=torch.tensor([4]), sampling=sampling)
    known, unknown = (plain.logits(weights, config, made[0].tolist(), label) for label in (4, -1))
    guided = (unknown + 3.0 * (known - unknown)).argmax(-1)
    assert torch.equal(made[0, :5], guided[:5])
    assert torch.equal(made[0, 5:], known.argmax(-1)[5:])


def test_draws_keep_what_the_plain_rule_keeps():
    logits = torch.tensor([1.2, -0.3, 0.7, 0.7, 2.0, -4.0])
    for options in ({}, {"top_k": 2}, {"top_k": 3}, {"top_p": 0.3}, {"top_p": 0.7}, {"top_k": 3, "top_p": 0.8}):
        for temperature in (0.6, 1.0):
            expected = torch.tensor(plain.kept(logits, temperature, **options))
            drawn = draw_ids(
                logits.expand(4000, -1),
                temperature=temperature,
                generator=torch.Generator().manual_seed(0),
                **options,
            )
            shares = torch.bincount(drawn, minlength=6) / 4000
            assert not shares[expected == 0].any(), options
            assert (shares - expected).abs().max() < 4 * math.sqrt(0.25 / 4000), options


def test_published_sizes():
    sizes = {
        "S": 27_967_104,
        "B": 98_401_536,
        "L": 326_261_760,
        "LP": 631_975_680,
        "XL": 753_888_000,
        "XXL": 1_385_998_848,
    }
    with torch.device("meta"):
        for name, count in sizes.items():
            config = preset(name, modality="video", codebook_size=8192, max_tokens=1024, num_classes=101)
            assert TokenGenerator(config).num_parameters == count
        assert PRESETS["XXXL"] == (48, 40, 2560)
        for config, count, keys, name in (
            (plain.RELEASED, 631_975_680, 215, "larp.L_long_ar"),
            (plain.RELEASED_FRAMES, 633_157_120, 214, "larp.L_long_ar_fp"),
        ):
            generator = TokenGenerator(official.settings(config))
            assert generator.num_parameters == count == registry.generator(name).num_parameters
            theirs = official._theirs(generator.state_dict(), generator.config)
            assert len(theirs) == keys
            assert {key: tuple(tensor.shape) for key, tensor in theirs.items()} == plain.shapes(config)


def test_weights_start_as_published():
    generator = TokenGenerator(official.settings({**plain.SMALL, "dim": 256, "vocab_size": 512}))
    assert not generator.heads[0].weight.any()
    for weight in (generator.embed.weight, generator.stack.positions, generator.stack.layers[0].attention.q.weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert all(name.endswith("weight") or name == "stack.positions" for name in generator.state_dict()), "no biases"


@pytest.mark.parametrize("kind", KINDS)
def test_round_trips_lose_nothing(kind, tmp_path):
    folder = released(tmp_path / "released", KINDS[kind])
    generator = zoo.load_generator(folder)
    official.write(generator, tmp_path / "written")
    first, second = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "written"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    again = zoo.load_generator(tmp_path / "written")
    assert again.config == generator.config
    own = zoo.load_generator(zoo.save(generator, tmp_path / "own", name="generator.mine"))
    assert (own.config, own.name, own.family) == (generator.config, "generator.mine", "generator")
    for key, tensor in generator.state_dict().items():
        assert torch.equal(own.state_dict()[key], tensor)


def test_what_the_layout_has_no_place_for_is_not_written(tmp_path):
    for changes in ({"num_codebooks": 2}, {"has_end": True}, {"num_classes": 0}):
        config = {"num_classes": 3, "width": 16, "num_layers": 1, "num_heads": 2, **changes}
        generator = TokenGenerator(GeneratorConfig("video", 24, 8, **config))
        with pytest.raises(ConfigError, match="the released layout is of one codebook"):
            official.write(generator, tmp_path / "written")
    assert not (tmp_path / "written").exists()


def test_unknown_and_dead_settings_say_nothing(tmp_path):
    plainly = zoo.load_generator(released(tmp_path / "plain", plain.SMALL))
    more = {**plain.SMALL, "rope_base": 1, "max_batch_size": 0, "new_key": [1]}
    assert zoo.load_generator(released(tmp_path / "more", more)).config == plainly.config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t2i"}, "model_type is 't2i'"),
        ({"n_layer": 2**40}, "num_layers must be at most"),
        ({"dim": -1}, "dim must be a whole number"),
        ({"dim": "32"}, "dim must be a whole number"),
        ({"multiple_of": 0}, "multiple_of must be a whole number"),
        ({"cls_token_num": 13}, "cls_token_num is 13 with frame_prediction False"),
        ({"frame_prediction": 1}, "frame_prediction must be true or false"),
        ({"ffn_dim_multiplier": -2}, "ffn_dim_multiplier must be null or a number"),
        ({"norm_eps": math.inf}, "norm_eps|not valid|Infinity"),
        ({"n_head": 5}, "5 heads do not divide a width of 32"),
        ({"resid_dropout_p": 1.0}, "dropout must be at least 0 and below 1"),
    ],
)
def test_hostile_settings_are_refused(changes, message, tmp_path):
    folder = released(tmp_path / "released", {**plain.SMALL, **changes}, plain.tensors(plain.SMALL))
    with pytest.raises((ConfigError, CheckpointError), match=message):
        zoo.load_generator(folder)


def test_missing_settings_and_tensors_are_named(tmp_path):
    config = {key: value for key, value in plain.SMALL.items() if key != "norm_eps"}
    with pytest.raises(ConfigError, match="lacks the key 'norm_eps'"):
        zoo.load_generator(released(tmp_path / "a", config, plain.tensors(plain.SMALL)))
    tensors = plain.tensors(plain.SMALL)
    del tensors["layers.1.attention.wo.weight"]
    with pytest.raises(CheckpointError, match=r"layers.1.attention.wo.weight is missing"):
        zoo.load_generator(released(tmp_path / "b", plain.SMALL, tensors))
    more = {**plain.tensors(plain.SMALL), "freqs_cis": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="freqs_cis is unexpected"):
        zoo.load_generator(released(tmp_path / "c", plain.SMALL, more))
    wrong = {**plain.tensors(plain.SMALL), "abs_pe": torch.zeros(1, 13, 32)}
    with pytest.raises(CheckpointError, match=r"abs_pe has the shape \(1, 13, 32\) instead of \(1, 12, 32\)"):
        zoo.load_generator(released(tmp_path / "d", plain.SMALL, wrong))
    broken = {**plain.tensors(plain.SMALL), "norm.weight": torch.full((32,), math.nan)}
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in norm.weight"):
        zoo.load_generator(released(tmp_path / "e", plain.SMALL, broken))
    with pytest.raises(CheckpointError, match="is not there"):
        zoo.load_generator(tmp_path / "nothing")


def test_tokenizers_and_generators_are_told_apart(tmp_path):
    assert {"larp.L_long_ar", "larp.L_long_ar_fp"} <= set(zoo.list_generators())
    assert not set(zoo.list_generators()) & set(zoo.list_models())
    assert zoo.info("larp.L_long_ar")["tokenizer"] == "larp.L_long"
    with pytest.raises(UnknownNameError, match=r"no tokenizer: load it by zoo.load_generator"):
        zoo.load("larp.L_long_ar")
    with pytest.raises(UnknownNameError, match=r"no generator 'beast.default'; zoo.load loads this tokenizer"):
        zoo.load_generator("beast.default")
    with pytest.raises(UnknownNameError, match=r"larp.L_long_ar"):
        zoo.load_generator("larp.L_long_a")
    own = zoo.save(TokenGenerator(official.settings(plain.SMALL)), tmp_path / "own", name="generator.mine")
    with pytest.raises(CheckpointError, match=r"no tokenizer: load it by zoo.load_generator"):
        zoo.load(own)
    with pytest.raises(CheckpointError, match=r"holds a beast checkpoint, not one of generator: zoo.load loads"):
        zoo.load_generator(registry.model("beast").folder)


def test_published_names_read_released_files_from_the_hub(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "_told", set())
    for name, config in (("larp.L_long_ar", plain.SMALL), ("larp.L_long_ar_fp", plain.FRAMES)):
        folder = released(tmp_path / name, config)
        repository = registry.generator(name).source.removeprefix("hf://")
        hub.commit(repository, {path.name: path.read_bytes() for path in folder.iterdir()})
        with pytest.warns(zoo.errors.LicenceWarning, match="state no licence"):
            generator = zoo.load_generator(name, dtype=torch.bfloat16)
        assert (generator.name, generator.config.tokenizer) == (name, "larp.L_long")
        assert generator.source.startswith(f"hf://{repository}@")
        assert generator.spec.licence == "unknown"
        assert generator.embed.weight.dtype == torch.bfloat16
        _, options = conditions(config)
        made, _ = generate(generator, 2, sampling=Sampling(), **options)
        assert made.shape == (2, 12)
