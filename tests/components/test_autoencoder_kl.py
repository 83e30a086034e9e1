"""The convolutional autoencoder: published sizes and names, and its numbers by the formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from zoo.components.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, ConvEncoder, DiagonalGaussian
from zoo.errors import ConfigError, InputError

SMALL = AutoencoderKLConfig(latent_channels=5, block_channels=(8, 12, 20), layers_per_block=1, norm_groups=4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = AutoencoderKL(SMALL).eval()
    for parameter in model.parameters():  # biases and norms that do something
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_published_size_has_the_published_tensors():
    with torch.device("meta"):
        state = AutoencoderKL(AutoencoderKLConfig()).state_dict()
    assert len(state) == 248
    assert sum(tensor.numel() for tensor in state.values()) == 83_821_011
    shapes = {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.conv_out.weight": (32, 512, 3, 3),
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (256, 128, 1, 1),
        "encoder.down_blocks.2.downsamplers.0.conv.bias": (512,),
        "encoder.mid_block.attentions.0.to_out.0.weight": (512, 512),
        "decoder.conv_in.weight": (512, 16, 3, 3),
        "decoder.mid_block.attentions.0.group_norm.weight": (512,),
        "decoder.up_blocks.2.resnets.2.norm1.weight": (256,),
        "decoder.up_blocks.2.upsamplers.0.conv.weight": (256, 256, 3, 3),
        "quant_conv.weight": (32, 32, 1, 1),
        "post_quant_conv.weight": (16, 16, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert not any("3.downsamplers" in name or "3.upsamplers" in name for name in state)


@pytest.mark.parametrize(
    ("widths", "total"),
    [
        ((128, 256, 512, 512), 34_163_664),
        ((128, 256, 512, 512, 512), 45_966_800),
        ((128, 256, 512, 512, 512, 512), 57_769_936),
    ],
)
def test_encoders_of_other_factors_have_the_counted_parameters(widths, total):
    config = AutoencoderKLConfig(latent_channels=4, block_channels=widths)
    with torch.device("meta"):
        encoder = ConvEncoder(config, 8)
        projection = torch.nn.Conv2d(8, 8, 1)
    assert config.downsampling == 2 ** (len(widths) - 1)
    assert sum(p.numel() for module in (encoder, projection) for p in module.parameters()) == total


def by_hand_block(state, name, x):
    y = x
    for step in "12":
        y = F.group_norm(y, 4, state[f"{name}.norm{step}.weight"], state[f"{name}.norm{step}.bias"], 1e-6)
        y = F.conv2d(
            y * torch.sigmoid(y), state[f"{name}.conv{step}.weight"], state[f"{name}.conv{step}.bias"], padding=1
        )
    if f"{name}.conv_shortcut.weight" in state:
        x = F.conv2d(x, state[f"{name}.conv_shortcut.weight"], state[f"{name}.conv_shortcut.bias"])
    return x + y


def by_hand_attention(state, name, x):
    rows = F.group_norm(x, 4, state[f"{name}.group_norm.weight"], state[f"{name}.group_norm.bias"], 1e-6)
    rows = rows.flatten(2).mT
    q, k, v = (rows @ state[f"{name}.to_{part}.weight"].T + state[f"{name}.to_{part}.bias"] for part in "qkv")
    mixed = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v
    mixed = mixed @ state[f"{name}.to_out.0.weight"].T + state[f"{name}.to_out.0.bias"]
    return x + mixed.mT.reshape(x.shape)


def by_hand(state, side, x, stages, changes):
    conv = lambda name, x, **how: F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)  # noqa: E731
    middle = f"{side}.mid_block"

    def mid(x):
        x = by_hand_attention(state, f"{middle}.attentions.0", by_hand_block(state, f"{middle}.resnets.0", x))
        return by_hand_block(state, f"{middle}.resnets.1", x)

    x = conv(f"{side}.conv_in", x, padding=1)
    if side == "decoder":
        x = mid(x)
    for stage, count in enumerate(stages):
        name = f"{side}.{'down' if side == 'encoder' else 'up'}_blocks.{stage}"
        for layer in range(count):
            x = by_hand_block(state, f"{name}.resnets.{layer}", x)
        if stage < len(stages) - 1:
            x = changes(name, x, conv)
    if side == "encoder":
        x = mid(x)
    x = F.group_norm(x, 4, state[f"{side}.conv_norm_out.weight"], state[f"{side}.conv_norm_out.bias"], 1e-6)
    return conv(f"{side}.conv_out", x * torch.sigmoid(x), padding=1)


def halve(name, x, conv):
    padded = x.new_zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
    padded[..., :-1, :-1] = x
    return conv(f"{name}.downsamplers.0.conv", padded, stride=2)


def double(name, x, conv):
    return conv(f"{name}.upsamplers.0.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1)


def test_it_computes_the_formulas(model):
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    moments = by_hand(state, "encoder", images.double(), (1, 1, 1), halve)
    moments = F.conv2d(moments, state["quant_conv.weight"], state["quant_conv.bias"])
    with torch.no_grad():
        posterior = model.encode(images)
        decoded = model.decode(posterior.mean)
    assert posterior.mean.shape == (2, 5, 4, 6)
    assert torch.allclose(posterior.mean.double(), moments[:, :5], atol=1e-4)
    assert torch.allclose(posterior.log_variance.double(), moments[:, 5:].clamp(-30, 20), atol=1e-4)
    latents = F.conv2d(posterior.mean.double(), state["post_quant_conv.weight"], state["post_quant_conv.bias"])
    wanted = by_hand(state, "decoder", latents, (2, 2, 2), double)
    assert decoded.shape == images.shape
    assert torch.allclose(decoded.double(), wanted, rtol=1e-4, atol=1e-3)


def test_divergence_is_that_of_the_distributions():
    torch.manual_seed(0)
    posterior = DiagonalGaussian.of(torch.randn(3, 4, 5, 6))
    own = torch.distributions.Normal(posterior.mean, posterior.log_variance.mul(0.5).exp())
    wanted = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    assert torch.allclose(posterior.kl(), wanted, rtol=1e-5)
    assert float(DiagonalGaussian.of(torch.zeros(1, 2, 3, 3)).kl()) == 0


def test_samples_have_the_mean_and_deviation_and_noise_can_be_given():
    posterior = DiagonalGaussian(torch.full((1, 1, 200, 200), 2.0), torch.full((1, 1, 200, 200), math.log(9.0)))
    torch.manual_seed(0)
    drawn = posterior.sample()
    assert abs(float(drawn.mean()) - 2) < 0.06
    assert abs(float(drawn.std()) - 3) < 0.06
    assert torch.equal(posterior.sample(torch.zeros(1, 1, 200, 200)), posterior.mean)


def test_log_variances_are_clamped():
    posterior = DiagonalGaussian.of(torch.tensor([0.0, -1000.0]).view(1, 2, 1, 1))
    assert float(posterior.log_variance) == -30
    assert bool(DiagonalGaussian.of(torch.tensor([0.0, 1000.0]).view(1, 2, 1, 1)).sample().isfinite().all())


@pytest.mark.parametrize("shape", [(1, 3, 18, 16), (1, 1, 16, 16), (3, 16, 16), (1, 3, 0, 16)])
def test_pictures_that_do_not_fit_are_refused(model, shape):
    with pytest.raises(InputError, match="multiples of 4"):
        model.encode(torch.zeros(shape))


def test_latents_that_do_not_fit_are_refused(model):
    with pytest.raises(InputError, match=r"\(B, 5, h, w\)"):
        model.decode(torch.zeros(1, 4, 4, 4))


@pytest.mark.parametrize(
    "values",
    [
        {"latent_channels": 0},
        {"block_channels": ()},
        {"block_channels": (128,) * 9},
        {"block_channels": (100,)},
        {"block_channels": (2**40 * 32,)},
        {"layers_per_block": 10**9},
        {"norm_groups": 0},
        {"block_channels": "abc"},
    ],
)
def test_configs_that_cannot_be_built_are_refused(values):
    with pytest.raises(ConfigError, match="autoencoder"):
        AutoencoderKLConfig(**values)
