"""torchvision's transforms named in YAML: what can be named, and what cannot."""

import inspect

import pytest
import torch
from torchvision.transforms import v2

from zoo.data.images.transforms import Transforms, known_transforms
from zoo.errors import ConfigError, InputError


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "RandomResizedCrop", "size": 16, "scale": [0.2, 1.0], "ratio": [1, 1], "interpolation": "bicubic"},
        {"name": "RandomCrop", "size": [16, 12], "pad_if_needed": True},
        {"name": "ColorJitter", "brightness": 0.4, "hue": 0.1},
        {"name": "RandomApply", "transforms": [{"name": "GaussianBlur", "kernel_size": 3}], "p": 0.3},
        {"name": "AutoAugment", "policy": "cifar10"},
    ],
)
def test_a_named_transform_is_torchvisions_own(spec):
    crop = {"name": "Resize", "size": [20, 20]}
    arguments = {key: value for key, value in spec.items() if key != "name"}
    if "transforms" in arguments:
        arguments["transforms"] = [v2.GaussianBlur(3)]
    for key, enum in (("interpolation", v2.InterpolationMode), ("policy", v2.AutoAugmentPolicy)):
        if key in arguments:
            arguments[key] = enum(arguments[key])
    expected = v2.Compose([v2.Resize([20, 20]), getattr(v2, spec["name"])(**arguments)])
    ours = Transforms([crop, spec])
    picture = torch.rand(3, 40, 30)
    for seed in range(5):
        torch.manual_seed(seed)
        wanted = expected(picture).clamp(0, 1)
        torch.manual_seed(seed)
        assert torch.equal(ours(picture), wanted)


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "__class__", "__import__", "Transform", "Compose", "Lambda", "functional", "InterpolationMode"),
        *("ToPILImage", "Normalize", "CutMix", "FiveCrop", "_utils", "v2.Resize", "", "resize\n"),
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match=r"transforms\[0\] names the transform"):
        Transforms([{"name": name}])


def test_near_matches_are_named():
    with pytest.raises(ConfigError, match=r"'RandomResizeCrop', .*did you mean 'RandomResizedCrop'"):
        Transforms([{"name": "RandomResizeCrop", "size": 8}])
    with pytest.raises(ConfigError, match=r"transforms\[1\]: CenterCrop has no argument 'sise'; did you mean 'size'"):
        Transforms([{"name": "RandomHorizontalFlip"}, {"name": "CenterCrop", "sise": 8}])
    with pytest.raises(ConfigError, match=r"interpolation of Resize cannot be 'bicubi'; did you mean 'bicubic'"):
        Transforms([{"name": "Resize", "size": 8, "interpolation": "bicubi"}])


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ("CenterCrop", "must be a list of transforms"),
        (["CenterCrop"], "must be a mapping with a name"),
        ([{"size": 8}], "must be a mapping with a name"),
        ([{"name": ["CenterCrop"]}], "must be a mapping with a name"),
        ([{"name": "CenterCrop"}], "needs the argument 'size'"),
        ([{"name": "CenterCrop", "size": "8"}], "CenterCrop cannot be made|failed on a picture"),
        ([{"name": "CenterCrop", "size": {"a": 1}}], "must be a number, text"),
        ([{"name": "CenterCrop", "size": [8, len]}], "must be a number, text"),
        ([{"name": "CenterCrop", "size": 8, "__class__": "x"}], "no argument '__class__'"),
        ([{"name": "RandomHorizontalFlip", "p": 3}], "RandomHorizontalFlip cannot be made"),
        ([{"name": "Resize", "size": 8, "interpolation": 2}], "interpolation of Resize cannot be 2"),
        ([{"name": "RandomApply", "transforms": [{"name": "Lambda"}]}], r"transforms of RandomApply\[0\] names"),
        ([{"name": "Resize", "size": 8}], "must give pictures of one size, .* 10×8"),
        ([{"name": "RandomResize", "min_size": 8, "max_size": 16}], "must give pictures of one size"),
        ([{"name": "Grayscale"}], r"must give a picture \(3, H, W\)"),
        ([{"name": "RandomCrop", "size": 100000}], "transforms failed on a picture"),
        (
            [{"name": "CenterCrop", "size": 8}, {"name": "GaussianNoise", "sigma": 2, "clip": False}],
            "must keep pictures",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_set(specs, message):
    with pytest.raises(ConfigError, match=message):
        Transforms(specs)


def test_overshoot_is_clamped_and_the_generators_are_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sharp = Transforms([{"name": "Resize", "size": [40, 40], "interpolation": "bicubic"}])
    assert torch.equal(torch.get_rng_state(), before)
    step = torch.zeros(3, 16, 16)
    step[..., 8:] = 1
    assert v2.Resize([40, 40], v2.InterpolationMode.BICUBIC)(step).max() > 1
    assert (sharp(step).min(), sharp(step).max()) == (0, 1)
    assert sharp.size == (40, 40)


def test_a_crop_larger_than_the_picture_says_so():
    with pytest.raises(InputError, match=r"failed on a picture \(3, 9, 9\)"):
        Transforms([{"name": "RandomCrop", "size": 16}])(torch.rand(3, 9, 9))


def test_every_known_transform_turns_a_picture_into_a_picture():
    needed = {
        "size": [16, 16],
        "kernel_size": 3,
        "degrees": 5,
        "padding": 2,
        "bits": 4,
        "threshold": 0.5,
        "sharpness_factor": 2.0,
        "target_size": [16, 16],
        "min_size": 16,
        "max_size": 32,
        "transforms": [{"name": "RandomInvert"}],
    }
    known = known_transforms()
    assert {"RandomResizedCrop", "RandomHorizontalFlip", "CenterCrop", "Resize", "TrivialAugmentWide"} <= set(known)
    for name, kind in known.items():
        assert getattr(v2, name) is kind
        parameters = inspect.signature(kind).parameters.values()
        arguments = {p.name: needed[p.name] for p in parameters if p.default is p.empty}
        around = [{"name": name, **arguments}, {"name": "Resize", "size": [8, 8]}, {"name": "RGB"}]
        assert Transforms(around)(torch.rand(3, 40, 48)).shape == (3, 8, 8)
