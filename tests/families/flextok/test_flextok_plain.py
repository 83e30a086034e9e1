"""The plain evaluation that everything else is compared with, on values that were measured of the original."""

import flextok_plain as plain
import flextok_released as released
import pytest
import torch

LEVELS = [8, 8, 8, 5, 5, 5]


def near(found, wanted, atol=2e-6):
    assert torch.allclose(found, torch.tensor(wanted, dtype=found.dtype), atol=atol, rtol=0), found


@pytest.mark.parametrize(
    ("z", "index"),
    [
        ([0.0] * 6, 32036),
        ([-10.0] * 6, 0),
        ([10.0] * 6, 63999),
        ([0.3, -0.7, 1.1, -1.9, 0.2, 2.5], 56725),
        ([-0.05, 0.05, -0.2, 0.3, -0.3, 0.6], 42724),
        ([1.5, 1.0, 0.5, 1.0, 0.5, -0.5], 22903),
    ],
)
def test_ids(z, index):
    codes, ids = plain.fsq(torch.tensor([z]), LEVELS)
    assert ids.tolist() == [index]
    assert torch.equal(plain.fsq_codes(ids, LEVELS), codes)


def test_codes():
    z = torch.tensor([0.3, -0.7, 1.1, -1.9, 0.2, 2.5])
    near(plain.fsq_bounded(z, LEVELS), [0.959918, -2.270075, 2.465735, -1.914387, 0.395145, 1.975202])
    near(plain.fsq(z, LEVELS)[0], [0.25, -0.5, 0.5, -1, 0, 1])
    near(plain.fsq_codes(torch.tensor(12345), LEVELS), [-0.75, 0.75, -1, 1, 1, -1])
    near(plain.fsq_codes(torch.tensor(1), LEVELS), [-0.75, -1, -1, -1, -1, -1])


def test_times():
    entries = [0, 1, 2, 127, 128, 129, 130, 255]
    t = torch.tensor([0.25])
    near(
        plain.time_features(t, 1000.0)[0, entries],
        [0.968912, 0.971480, 0.973837, 0.999999, 0.247404, 0.237121, 0.227248, 0.001020],
    )
    near(
        plain.time_features(t, 1.0)[0, entries],
        [0.240988, 0.802229, -0.996368, 0.523538, -0.970528, 0.597016, 0.085153, 0.852003],
        atol=1e-5,
    )


def test_positions():
    table = plain.sincos_table(64, 16, 16)
    near(
        table[[0, 1, 16, 17, 32, 33, 48, 49], 3, 5],
        [0.141120, 0.993253, -0.989992, -0.115966, -0.958924, 0.323935, 0.283662, -0.946079],
    )


def test_adaptive_guidance():
    condition = (torch.arange(1, 9) / 4).view(1, 2, 2, 2)
    null = torch.tensor([0.5, 0.1, -0.2, 0.3, 0.9, -0.4, 0.2, 0.6]).view(1, 2, 2, 2)
    first, running = plain.apg(condition, null, 7.5, torch.zeros_like(condition))
    near(
        first.flatten(),
        [-2.112031, 0.469324, 2.529192, 0.417161, -2.216357, 5.058384, 2.424866, 0.834322],
    )
    second, _ = plain.apg(condition / 2, null, 7.5, running)
    near(
        second.flatten(),
        [-1.347059, 0.230882, 1.483823, 0.136765, -1.535294, 2.967647, 1.295588, 0.273529],
    )


@pytest.mark.parametrize(
    ("sizes", "keys", "parameters"),
    [
        (released.D12_D12, 462, 341_651_737),
        (released.D18_D18, 558, 949_734_553),
        (released.D18_D28, 648, 2_540_882_841),
    ],
)
def test_the_released_layouts_are_of_the_released_sizes(sizes, keys, parameters):
    shapes = released.shapes(sizes)
    assert len(shapes) == keys
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters


def test_every_tensor_matters():
    # Else a comparison with this would not see that one was left out.
    tensors = {name: tensor.requires_grad_() for name, tensor in released.tensors().items()}
    model = plain.Plain(released.config(), tensors)
    registers = model.registers_of(model.latents(released.images(1)))
    made = model.decode(torch.arange(16)[None] * 4001, torch.tensor([9]), released.noise(1), 1, 3.0)
    (registers.square().sum() + made.square().sum()).backward()
    idle = [name for name, tensor in tensors.items() if tensor.grad.abs().max() < 1e-3]
    assert all(name.endswith("to_k.bias") for name in idle), idle  # which softmax cancels
