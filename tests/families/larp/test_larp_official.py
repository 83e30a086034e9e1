"""The released layout against the plain evaluation: ids, clips, every option, halves, the prior, round trips."""

import json
from dataclasses import replace

import larp_plain as plain
import larp_released as released
import pytest
import torch
from safetensors.torch import load_file
from tiny_larp import CONFIG, make

import zoo
from zoo.components.layers.positions import sincos_1d, sincos_3d
from zoo.components.prior import CausalConfig, CodePrior
from zoo.components.quantizers import FSQConfig, StochasticVQConfig, VQConfig
from zoo.errors import CheckpointError, ConfigError, TokenError
from zoo.families.larp import LARPConfig, LARPTokenizer, TrunkConfig
from zoo.families.larp.official import folder as official
from zoo.families.larp.official import names
from zoo.families.larp.prior import PriorConfig

OPTIONS = [name for name in vars(released.TINY) if name.startswith(("learned_", "use_"))]
VARIANTS = {
    "as released": {},
    "patches of one frame": {"temporal": 1, "frames": 3},
    **{name: {name: not getattr(released.TINY, name)} for name in OPTIONS},
    "all options": {name: not getattr(released.TINY, name) for name in OPTIONS},
    "another base": {"base": 500.0, "frames": 4},
    "not stochastic": {"stochastic": False},
    "not normalised": {"stochastic": False, "normalized": False},
    "learned temperature": {"temperature": 0.0},
}
PRIOR = (256, 6, 1024)


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def pair(request, tmp_path_factory):
    sizes = replace(released.TINY, **request.param)
    values, tensors = released.config(sizes), released.tensors(sizes)
    folder = released.write(tmp_path_factory.mktemp("released"), values, tensors)
    return zoo.load(folder), plain.Plain(values, tensors), sizes


@pytest.fixture
def folder(tmp_path):
    return released.write(tmp_path / "released")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    sizes = replace(released.TINY, prior=PRIOR)
    return released.write(tmp_path_factory.mktemp("prior"), released.config(sizes), released.tensors(sizes))


# --------------------------------------------------------------------------------------------------- what it computes


def test_ids_and_clips_are_those_of_the_plain_evaluation(pair):
    tokenizer, model, sizes = pair
    for frames in (sizes.frames, sizes.frames - sizes.temporal):
        clips = released.clips(4, sizes, frames=frames)
        wanted = model.encode(clips)
        tokens = tokenizer.encode(clips)
        assert len({tuple(row) for row in wanted.tolist()}) > 2
        assert torch.equal(tokens.ids, wanted)
        vectors = torch.stack([model.vectors(clip) for clip in clips])
        assert torch.allclose(tokenizer.encode_latents(clips).values, vectors, atol=1e-4, rtol=1e-4)
        made, found = model.decode(wanted, frames), tokenizer.decode(tokens, clamp=False)
        assert torch.allclose(found, made, atol=1e-4), (found - made).abs().max()
        assert (made[0] - made[1]).abs().max() > 1e-2


def test_probabilities_are_those_of_the_plain_evaluation(pair):
    tokenizer, model, sizes = pair
    if not sizes.stochastic:
        return
    vectors = model.vectors(released.clips(1, sizes)[0])
    assert torch.allclose(tokenizer.quantizer.probabilities(vectors), model.probabilities(vectors), atol=1e-5)


def test_tables_of_the_formulas_are_ours():
    assert torch.equal(plain.table_1d(7, 12), sincos_1d(7, 12))
    assert torch.allclose(plain.table_1d(7, 12, 50.0), sincos_1d(7, 12, max_period=50.0), atol=1e-6)
    assert torch.allclose(plain.table_3d(2, 3, 4, 12), sincos_3d((2, 3, 4), 12), atol=1e-6)


def test_every_tensor_matters():
    # Else a comparison with this would not see that one was left out.
    sizes = replace(released.TINY, **{name: True for name in OPTIONS if name.startswith("use_")})
    tensors = {name: tensor.requires_grad_() for name, tensor in released.tensors(sizes).items()}
    model = plain.Plain(released.config(sizes), tensors)
    vectors = model.vectors(released.clips(1)[0])
    made = model.decode(torch.arange(10)[None])
    (vectors.square().sum() + made.square().sum()).backward()
    assert all(tensor.grad.abs().max() > 1e-4 for tensor in tensors.values())


# ------------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize(
    ("prior", "keys", "parameters"), [(None, 280, 172_179_984), ((384, 12, 1024), 479, 193_880_224)]
)
def test_names_and_shapes_are_the_released_ones(prior, keys, parameters):
    wanted = released.shapes(replace(released.L_LONG, prior=prior))
    config = LARPConfig()
    with torch.device("meta"):
        tokenizer = LARPTokenizer(config)
        found = names.to_released(tokenizer.state_dict(), config)
        total = tokenizer.num_parameters
        if prior is not None:
            model = CodePrior(PriorConfig(preset="gptc-S").code_prior(16))
            found |= names.to_released(model.state_dict(), config, is_prior=True)
            total += sum(parameter.numel() for parameter in model.parameters())
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == wanted
    assert (len(wanted), total) == (keys, parameters)


def test_settings(folder):
    tokenizer = zoo.load(folder)
    config = tokenizer.config
    assert (config.num_frames, config.image_size, config.patch, config.num_tokens) == (8, 16, (2, 8, 8), 10)
    assert (config.encoder, config.decoder) == (TrunkConfig(2, 24, 3), TrunkConfig(1, 16, 2))
    assert config.quantizer == StochasticVQConfig(48, 6)
    assert config.has_patch_query_type
    assert (tokenizer.family, tokenizer.source, tokenizer.training) == ("larp", str(folder), False)
    assert tokenizer.spec.licence == "LicenseRef-unknown"


def test_what_a_config_leaves_out_or_adds(tmp_path, folder):
    values = released.config()
    for name in [*OPTIONS, "decoder_patch_size", "decoder_temporal_patch_size", "in_channels", "query_init_std"]:
        if name != "use_decoder_patch_query_token_type_embed":  # off where it is not said
            del values[name]
    values |= {"something": [1], "prior_model": "none", "input_size": [16, 16]}
    tokenizer = zoo.load(released.write(tmp_path / "x", values))
    assert tokenizer.config == zoo.load(folder).config


def test_weights_in_half_precision(tmp_path):
    tensors = {name: tensor.bfloat16() for name, tensor in released.tensors().items()}
    tokenizer = zoo.load(released.write(tmp_path / "x", state=tensors))
    model = plain.Plain(released.config(), {name: tensor.float() for name, tensor in tensors.items()})
    assert torch.equal(tokenizer.encode(released.clips()).ids, model.encode(released.clips()))


def test_half_of_it(folder):
    half, whole = zoo.load(folder, decoder=False), zoo.load(folder)
    assert torch.equal(half.encode(released.clips()).ids, whole.encode(released.clips()).ids)
    assert not any(name.startswith("decoder.") for name in half.state_dict())
    with pytest.raises(TokenError, match="without its decoder"):
        half.decode(half.encode(released.clips()))


def test_a_learned_temperature_may_have_an_axis(tmp_path):
    sizes = replace(released.TINY, temperature=-1.0)
    tensors = released.tensors(sizes)
    key = "bottleneck.regularizer.stochastic_temperature_inv"
    tokenizer = zoo.load(released.write(tmp_path / "x", released.config(sizes), tensors | {key: torch.tensor([7.0])}))
    assert tokenizer.quantizer.inverse_temperature.item() == 7


class TestPrior:
    def test_it_is_left_out_of_the_tokenizer_and_kept_for_training(self, whole, folder):
        tokenizer, tensors = zoo.load(whole), load_file(whole / "model.safetensors")
        assert tokenizer.state_dict().keys() == zoo.load(folder).state_dict().keys()
        parts = zoo.training_parts(tokenizer)
        assert len(parts) == sum(name.startswith(names.PRIOR) for name in tensors) == 9 + 6 * 16 - 2
        assert torch.equal(
            parts["prior.transformer.layers.5.attention.k.weight"], tensors["prior_model.blocks.5.attn.key.weight"]
        )
        assert zoo.training_parts(zoo.load(folder)) == {}

    def test_it_computes_as_the_formulas_say(self, whole):
        values, tensors = json.loads((whole / "config.json").read_text()), load_file(whole / "model.safetensors")
        prior = CodePrior(PriorConfig(preset="gptc-XXS").code_prior(6)).eval()
        parts = zoo.training_parts(zoo.load(whole))
        prior.load_state_dict({name.removeprefix("prior."): tensor for name, tensor in parts.items()})
        model = plain.Plain(values, tensors)
        codes = model.codebook()[torch.arange(9)]
        with torch.no_grad():
            assert torch.allclose(prior(codes[None])[0], model.predicted(codes, heads=4), atol=1e-5)

    def test_round_trip(self, whole, tmp_path):
        tokenizer = zoo.load(whole)
        prior = CodePrior(PriorConfig(preset="gptc-XXS").code_prior(6))
        parts = zoo.training_parts(tokenizer)
        prior.load_state_dict({name.removeprefix("prior."): tensor for name, tensor in parts.items()})
        values = json.loads((whole / "config.json").read_text())
        place = official.write(tokenizer, tmp_path / "x", like=values, prior=prior)
        before, after = (load_file(path / "model.safetensors") for path in (whole, place))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
        assert json.loads((place / "config.json").read_text()) == values

    def test_without_a_name_in_the_config_it_is_refused(self, whole, tmp_path):
        tensors = load_file(whole / "model.safetensors")
        for prior, message in ((None, "names no prior_model"), ({"name": "gptc-Q"}, "one of gptc-XXS, gptc-XS")):
            values = released.config() | {"prior_model": prior}
            with pytest.raises(CheckpointError, match=message):
                zoo.load(released.write(tmp_path / "x", values, tensors))


# --------------------------------------------------------------------------------------------------- what is written


CHANGES = {
    "as it is": {},
    "options": {
        "learns_patch_positions": True,
        "learns_patch_queries": True,
        "has_latent_type": True,
        "has_patch_query_type": False,
        "learns_queries": False,
    },
    "pictures": {"temporal_patch_size": 1, "latent_period": 77.0, "query_std": 0.5},
    "vq": {"quantizer": VQConfig(12, 4, cosine=True)},
    "learned": {"quantizer": StochasticVQConfig(12, 4, 0.1, learns_temperature=True), "query_start": "sincos"},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_round_trip(tmp_path, changes):
    tokenizer = make(replace(CONFIG, **changes))
    again = zoo.load(official.write(tokenizer, tmp_path / "x"))
    assert again.config == tokenizer.config
    state = tokenizer.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in again.state_dict().items())


def test_what_the_layout_cannot_say_is_not_written(folder, tmp_path):
    for quantizer in (FSQConfig((4, 4)), VQConfig(12, 4, ema_decay=0.9)):
        with pytest.raises(ConfigError, match="the released layout has a stochastic_vq"):
            official.write(make(replace(CONFIG, quantizer=quantizer)), tmp_path / "x")
    with pytest.raises(TokenError, match="without its decoder"):
        official.write(zoo.load(folder, decoder=False), tmp_path / "x")
    small = PriorConfig(transformer=CausalConfig(8, 1, 2)).build(4, 6)
    with pytest.raises(ConfigError, match="priors of the sizes gptc-XXS"):
        official.write(make(), tmp_path / "x", prior=small)
    assert not (tmp_path / "x").exists()
