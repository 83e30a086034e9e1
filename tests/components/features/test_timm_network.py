"""Models of timm as frozen networks, small and with random weights or with files of them."""

import children
import pytest
import timm
import torch
from safetensors.torch import save_file

from zoo.components.features import TimmNetwork
from zoo.errors import CheckpointError, ConfigError, HubError, InputError, UnknownNameError

VIT, RESNET = "test_vit", "test_resnet"


def pictures(height=32, width=48, batch=2):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def weights(folder, model, **arguments):
    torch.manual_seed(3)
    network = timm.create_model(model, pretrained=False, **arguments).eval()
    path = folder / f"{model}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return network, path


def normalised(x, network):
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (x - mean) / std


def test_layers_of_a_convolutional_network_are_its_own(tmp_path):
    network, path = weights(tmp_path, RESNET)
    ours = TimmNetwork(RESNET, ["layer1", "layer3", "pooled"], file=path)
    x = pictures()
    stages = timm.create_model(RESNET, pretrained=False, features_only=True, out_indices=(1, 3)).eval()
    stages.load_state_dict({k: v for k, v in network.state_dict().items() if k in stages.state_dict()})
    with torch.no_grad():
        first, third = stages(normalised(x, network))
        pooled = network.forward_head(network.forward_features(normalised(x, network)), pre_logits=True)
    found = ours.features(x)
    torch.testing.assert_close(found["layer1"], first)
    torch.testing.assert_close(found["layer3"], third)
    torch.testing.assert_close(found["pooled"], pooled)


def test_logits_need_the_classifier(tmp_path):
    network, path = weights(tmp_path, RESNET)
    x = pictures()
    with torch.no_grad():
        expected = network(normalised(x, network))
    torch.testing.assert_close(TimmNetwork(RESNET, ["logits"], file=path).features(x)["logits"], expected)
    _, headless = weights(tmp_path, RESNET, num_classes=0)
    with pytest.raises(CheckpointError, match=r"fc\.weight is missing"):
        TimmNetwork(RESNET, ["logits"], file=headless)


def test_tokens_are_the_grid_of_their_patches(tmp_path):
    network, path = weights(tmp_path, VIT)
    ours = TimmNetwork(VIT, ["blocks.1", "norm"], file=path)
    x = pictures(160, 160)
    with torch.no_grad():
        tokens = network.forward_features(normalised(x, network))[:, network.num_prefix_tokens :]
    found = ours.features(x)["norm"]
    assert found.shape == (2, 64, 10, 10)
    torch.testing.assert_close(found[:, :, 3, 7], tokens[:, 3 * 10 + 7])
    assert ours.features(x)["blocks.1"].shape == found.shape


# The first model interpolates at every picture, the second only when told to.
@pytest.mark.parametrize(("model", "width"), [(VIT, 64), ("vit_tiny_patch16_224", 192)])
def test_positions_are_interpolated_to_another_size(tmp_path, model, width):
    network, path = weights(tmp_path, model)
    ours = TimmNetwork(model, ["norm"], file=path, size=(64, 96))
    network.set_input_size(img_size=(64, 96))
    x = pictures(64, 96)
    with torch.no_grad():
        expected = network.forward_features(normalised(x, network))
    found = ours.features(x)["norm"]
    assert found.shape == (2, width, 4, 6)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected[:, network.num_prefix_tokens :])


def test_pictures_of_any_size_are_resized_to_a_fixed_grid():
    network = TimmNetwork(VIT, ["norm"], pretrained=False)
    assert network.input.size == (160, 160)
    assert network.features(pictures(40, 30))["norm"].shape == (2, 64, 10, 10)


def test_a_convolutional_network_leaves_the_size():
    network = TimmNetwork(RESNET, ["layer4"], pretrained=False)
    assert network.features(pictures(64, 96))["layer4"].shape[2:] == (2, 3)
    resized = TimmNetwork(RESNET, ["layer4"], pretrained=False, size=96)
    assert resized.features(pictures(64, 96))["layer4"].shape[2:] == (3, 3)


def test_channels_come_second_whatever_timm_returns():
    network = TimmNetwork("swin_s3_tiny_224", ["layers.0"], pretrained=False)
    assert network.features(pictures(224, 224, batch=1))["layers.0"].shape == (1, 96, 56, 56)


def test_a_layer_that_the_next_one_writes_into_is_kept():
    network = TimmNetwork(RESNET, ["bn1", "act1"], pretrained=False)
    assert network.network.act1.inplace
    found = network.features(pictures())
    assert found["bn1"].min() < 0
    assert torch.equal(found["bn1"].relu(), found["act1"])


def test_gradients_reach_the_picture():
    x = pictures().requires_grad_()
    TimmNetwork(RESNET, ["layer2"], pretrained=False)(x)["layer2"].sum().backward()
    assert x.grad.abs().sum() > 0


def test_random_weights_are_of_their_seed_alone():
    state = torch.random.get_rng_state()
    digests = [TimmNetwork(RESNET, ["layer1"], pretrained=False, seed=seed).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_name_tells_where_weights_are_from(tmp_path):
    _, path = weights(tmp_path, RESNET)
    assert "random" in TimmNetwork(RESNET, ["layer1"], pretrained=False).name
    ours = TimmNetwork(RESNET, ["layer1"], file=path, licence="CC0-1.0")
    assert path.name in ours.name
    assert ours.licence == "CC0-1.0"
    assert TimmNetwork(RESNET, ["layer1"], file=path).licence == "not stated"


def test_weights_of_the_hub_are_one_file_of_safetensors(tmp_path, monkeypatch):
    _, path = weights(tmp_path, RESNET)
    asked = []

    def download(repository, name, revision=None):
        asked.append((repository, name, revision))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    ours = TimmNetwork(f"{RESNET}.r160_in1k", ["layer1"], revision="abc")
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors", "abc")]
    assert ours.digest == TimmNetwork(RESNET, ["layer1"], file=path).digest
    assert ours.name.endswith("(hf://timm/test_resnet.r160_in1k@abc)")
    assert ours.licence == "apache-2.0"


def test_without_a_network_the_file_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="file="):
        TimmNetwork(RESNET, ["layer1"])


@pytest.mark.parametrize(
    ("model", "near"),
    [("test_resnett", "test_resnet"), ("resnet50.a1_in1", "resnet50.a1_in1k"), ("%%%%", "timm.list_models")],
)
def test_an_unknown_model_has_near_matches(model, near):
    with pytest.raises(UnknownNameError, match=near) as raised:
        TimmNetwork(model, ["layer1"], pretrained=False)
    assert len(str(raised.value)) < 400


def test_a_layer_that_is_not_there_has_near_matches():
    with pytest.raises(ConfigError, match="'layer1'"):
        TimmNetwork(RESNET, ["layr1"], pretrained=False)


def test_a_layer_that_is_not_run_is_refused():
    with pytest.raises(ConfigError, match="not run"):
        TimmNetwork(RESNET, ["global_pool"], pretrained=False).features(pictures())


@pytest.mark.parametrize(("model", "size"), [(VIT, 160), ("vit_tiny_patch16_224", 224)])
def test_tokens_before_the_class_token_are_a_grid_too(model, size):
    # One of the two models has them as tokens, the other as a grid with the channels last.
    network = TimmNetwork(model, ["patch_embed"], pretrained=False)
    x = pictures(size, size)
    with torch.no_grad():
        expected = network.network.patch_embed.proj(network.input(x))
    torch.testing.assert_close(network.features(x)["patch_embed"], expected)


def test_tokens_that_are_no_grid_are_refused():
    network = TimmNetwork(VIT, ["norm"], pretrained=False)
    with pytest.raises(ConfigError, match="one token a patch"):
        network._laid_out(torch.zeros(2, 102, 64), "norm", pictures(160, 160))


def test_a_file_of_another_model_is_refused(tmp_path):
    _, path = weights(tmp_path, RESNET)
    with pytest.raises(CheckpointError, match="is missing"):
        TimmNetwork("test_convnext", ["pooled"], file=path)


def test_a_size_must_be_of_whole_patches():
    with pytest.raises(ConfigError, match="multiples"):
        TimmNetwork(VIT, ["norm"], pretrained=False, size=100)


def test_weights_come_from_one_place(tmp_path):
    with pytest.raises(ConfigError, match="choose one"):
        TimmNetwork(RESNET, ["layer1"], file=tmp_path / "a.safetensors", revision="main")


def test_pictures_too_small_for_the_network_are_refused():
    network = TimmNetwork("vgg11", ["features.0"], pretrained=False)
    with pytest.raises(InputError, match="size="):
        network.features(pictures(4, 4))


def test_timm_is_imported_when_a_model_is_made():
    code = "import sys, zoo.components.features; sys.exit('timm' in sys.modules or 'transformers' in sys.modules)"
    assert children.run(code).returncode == 0
