"""What every frozen network promises, whatever it is: frozen, invisible, named by its weights."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zoo.components.features import FeatureNetwork, ImageInput
from zoo.components.features.base import captured, weights_digest
from zoo.components.features.files import fill, read_safetensors
from zoo.errors import CheckpointError, ConfigError, InputError

PICTURES = torch.linspace(0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


class Edges(FeatureNetwork):
    """One convolution and a layer of dropout, which evaluation switches off."""

    def __init__(self, seed=0, layers=("edges",)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
        super().__init__(network, "edges", "MIT", layers)
        self.input = ImageInput((0.5, 0.5, 0.5), (0.25, 0.5, 1.0))

    def _prepared(self, x):
        return self.input(x)

    def _features(self, x):
        return {"edges": self.network(x), "unasked": x}


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.loss = Edges()


def test_pictures_are_normalised_by_channel():
    shown = ImageInput((0.5, 0.25, 0.0), (0.25, 0.5, 1.0))(torch.full((1, 3, 2, 2), 0.75))
    assert shown[0, :, 0, 0].tolist() == [1.0, 1.0, 0.75]


def test_pictures_are_resized_before_they_are_normalised():
    resize = ImageInput((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), size=(4, 6))
    shown = resize(torch.full((1, 3, 8, 8), 0.75))
    assert shown.shape == (1, 3, 4, 6)
    torch.testing.assert_close(shown, torch.full_like(shown, 0.5))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(1, 1, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 3, 8, 8),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(wrong):
    with pytest.raises(InputError, match="0…1"):
        Edges().features(wrong)


def test_only_the_layers_asked_for_come_back():
    assert list(Edges().features(PICTURES)) == ["edges"]


@pytest.mark.parametrize("layers", [(), ("edges", "edges")])
def test_layers_must_be_asked_for_once(layers):
    with pytest.raises(ConfigError, match="layers"):
        Edges(layers=layers)


def test_training_mode_does_not_reach_it():
    model = Trained()
    before = model.loss(PICTURES)["edges"]
    model.train()
    assert model.training
    assert not any(module.training for module in model.loss.network.modules())
    assert torch.equal(model.loss(PICTURES)["edges"], before)


def test_gradients_reach_the_input_and_no_weight():
    model = Trained()
    model.requires_grad_(True)
    x = PICTURES.clone().requires_grad_()
    model.loss(x)["edges"].square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert [parameter.grad for parameter in model.loss.network.parameters()] == [None, None]


def test_what_holds_it_has_only_its_own_weights():
    model = Trained()
    own = ["layer.weight", "layer.bias"]
    assert list(model.state_dict()) == own
    assert [name for name, _ in model.named_parameters()] == own
    assert model.load_state_dict(nn.ModuleDict({"layer": nn.Linear(2, 2)}).state_dict(), strict=True)


def test_it_moves_with_what_holds_it():
    model = Trained().to("meta")
    assert all(parameter.is_meta for parameter in model.loss.network.parameters())


def test_features_are_float32_in_any_precision():
    with torch.autocast("cpu", torch.bfloat16):
        assert Edges()(PICTURES)["edges"].dtype == torch.float32
    assert Edges().to(torch.bfloat16)(PICTURES.bfloat16())["edges"].dtype == torch.float32


def test_a_copy_is_a_network_of_its_own():
    network = Edges()
    twin = copy.deepcopy(network)
    assert twin.network is not network.network
    assert torch.equal(twin(PICTURES)["edges"], network(PICTURES)["edges"])


def test_equal_weights_have_one_digest():
    assert Edges().digest == Edges().digest
    assert len(Edges().digest) == 64


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.zeros(2, 3), "c": torch.ones(1)},
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": torch.full((1,), 2.0)},
    ],
)
def test_the_digest_tells_names_shapes_dtypes_and_values(other):
    assert weights_digest(other) != weights_digest({"a": torch.zeros(2, 3), "b": torch.ones(1)})


def test_the_digest_does_not_depend_on_order_or_memory():
    matrix = torch.arange(6.0).reshape(2, 3)
    there = weights_digest({"b": torch.ones(1, dtype=torch.bfloat16), "a": matrix.T.contiguous().T})
    assert weights_digest({"a": matrix, "b": torch.ones(1, dtype=torch.bfloat16)}) == there


def test_the_digest_follows_a_change_of_precision():
    network = Edges()
    before = network.digest
    assert network.to(torch.float64).digest != before


def test_there_is_no_digest_without_values():
    with pytest.raises(CheckpointError, match="meta"):
        Edges().to("meta").digest  # noqa: B018


def test_what_is_captured_is_not_written_over():
    network = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with captured(network, ["0"]) as found:
        network(torch.tensor([-1.0, 1.0]))
    assert found["0"].tolist() == [-1.0, 1.0]
    assert not network[0]._forward_hooks


def test_nothing_is_captured_after_an_error():
    network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError), captured(network, ["0"]):
        network(torch.zeros(3))
    assert not network[0]._forward_hooks


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        read_safetensors(tmp_path / "nowhere.safetensors")


def test_a_file_of_the_cache_is_found_as_recipes_name_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = tmp_path / "tokenizer-zoo" / "net" / "model.safetensors"
    place.parent.mkdir(parents=True)
    save_file({"weight": torch.ones(2)}, place)
    torch.testing.assert_close(read_safetensors("${cache}/net/model.safetensors")["weight"], torch.ones(2))


def test_a_pickle_is_refused_whatever_its_name(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="convert"):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"bias": None}, "bias is missing"),
        ({"extra": torch.zeros(1)}, "extra is unexpected"),
        ({"bias": torch.zeros(3)}, r"bias has the shape \(3,\) instead of \(2,\)"),
        ({"bias": torch.tensor([0.0, torch.nan])}, "NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_change_nothing(change, complaint):
    layer = nn.Linear(2, 2)
    before = copy.deepcopy(layer.state_dict())
    given = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)} | change
    with pytest.raises(CheckpointError, match=complaint):
        fill(layer, {name: tensor for name, tensor in given.items() if tensor is not None}, "weights")
    assert all(torch.equal(layer.state_dict()[name], tensor) for name, tensor in before.items())


def test_tensors_known_to_be_unused_may_be_there():
    layer = nn.Linear(2, 2, bias=False)
    fill(layer, {"weight": torch.ones(2, 2), "head.bias": torch.zeros(9)}, "weights", unused=("head.",))
    assert layer.weight.sum() == 4
