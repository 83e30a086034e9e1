"""ST-LPIPS: with weights made here, and with those of the package against what the package says."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from st_lpips_weights import BLURS, PLACES, made_tensors

from zoo.components.features import STLPIPS
from zoo.components.losses.perceptual import PerceptualDistance
from zoo.errors import CheckpointError, InputError, MissingExtraError

PACKAGED = importlib.util.find_spec("stlpips_pytorch") is not None


@pytest.fixture(scope="module")
def tensors():
    return made_tensors()


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save(tensors, path)
    return path


def pictures():
    steps = torch.arange(3 * 3 * 64 * 48, dtype=torch.float64).reshape(3, 3, 64, 48)
    x = (torch.sin(steps * 0.37) + 1) / 2
    y = (x + 0.2 * torch.cos(steps * steps * 0.011)).clamp(0, 1)
    return x.float(), y.float()


def test_layers_are_those_of_a_blurred_vgg(tensors, file):
    network = STLPIPS(file)
    x, _ = pictures()
    found = network.features(x)
    # Written once more, layer by layer, with the file's names.
    state = (2 * x - 1 - tensors["scaling_layer.shift"]) / tensors["scaling_layer.scale"]
    for block, places in PLACES.items():
        if block in BLURS:
            largest = F.max_pool2d(state, 2, 1)
            mirrored = torch.nn.ReflectionPad2d(2)(largest)
            filters = tensors[f"net.slice{block}.{BLURS[block]}.filt"]
            state = F.conv2d(mirrored, filters, stride=2, groups=filters.shape[0])
        for place in places:
            name = f"net.slice{block}.{place}"
            state = F.conv2d(state, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1).relu()
        torch.testing.assert_close(found[f"conv{block}"], state, atol=1e-4, rtol=1e-4)
    assert [tuple(layer.shape[2:]) for layer in found.values()] == [(64, 48), (33, 25), (17, 13), (9, 7), (5, 4)]


def test_channel_weights_are_the_heads(tensors, file):
    network = STLPIPS(file)
    assert list(network.channel_weights) == list(network.layers)
    assert torch.equal(network.channel_weights["conv3"], tensors["lin2.model.1.weight"].flatten())


def test_the_smallest_picture(file):
    network = STLPIPS(file)
    assert network.features(torch.rand(1, 3, 18, 40))["conv5"].shape == (1, 512, 3, 4)
    with pytest.raises(InputError, match="18"):
        network.features(torch.rand(1, 3, 17, 40))


def test_a_file_that_runs_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "evil.pth"
    torch.save({"weight": Evil()}, path)
    with pytest.raises(CheckpointError, match="cannot be read as tensors"):
        STLPIPS(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"lin3.model.1.weight": None}, "lacks lin3.model.1.weight"),
        ({"net.slice4.22.bias": None}, "blocks.3.1.bias is missing"),
        ({"net.slice4.23.bias": torch.zeros(512)}, "net.slice4.23.bias is unexpected"),
        ({"net.slice1.0.bias": torch.zeros(3)}, "shape"),
    ],
)
def test_a_file_of_something_else_is_refused(tensors, tmp_path, change, complaint):
    changed = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    torch.save(changed, tmp_path / "changed.pth")
    with pytest.raises(CheckpointError, match=complaint):
        STLPIPS(tmp_path / "changed.pth")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"weight": 1.0}])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="something else than tensors"):
        STLPIPS(tmp_path / "other.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        STLPIPS(tmp_path / "nowhere.pth")


def test_without_the_package_its_name_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="stlpips-pytorch"):
        STLPIPS()


@pytest.mark.skipif(not PACKAGED, reason="pip install --no-deps stlpips-pytorch==0.0.2")
def test_the_distance_is_the_packages():
    # What stlpips_pytorch 0.0.2 returned for these pictures, times two minus one:
    # LPIPS(net="vgg", variant="shift_tolerant").eval()(2 * x - 1, 2 * y - 1)
    expected = torch.tensor([0.4500679, 0.4485178, 0.4379474])
    network = STLPIPS()
    x, y = pictures()
    y.requires_grad_()
    distance = PerceptualDistance(network, network.channel_weights)(x, y)
    torch.testing.assert_close(distance, expected, rtol=1e-5, atol=0)
    # The sum of the gradient's sizes there was 15.886605 by the package's input, which is twice ours less one.
    distance.sum().backward()
    assert y.grad.abs().sum().item() == pytest.approx(15.886605, rel=1e-4)


@pytest.mark.skipif(not PACKAGED, reason="pip install --no-deps stlpips-pytorch==0.0.2")
def test_the_packages_distance_grows_with_noise():
    network = STLPIPS()
    distance = PerceptualDistance(network, network.channel_weights)
    x, _ = pictures()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = [distance((x + sigma * noise).clamp(0, 1), x).mean().item() for sigma in (0.0, 0.02, 0.1, 0.3)]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] > 0
