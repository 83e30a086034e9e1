"""Names: which there are, what they mean, how others are added."""

import re
from dataclasses import replace

import pytest
import torch
import toy
from checkpoint_tools import refused

import zoo
from zoo import registry, resources
from zoo.errors import CheckpointError, ConfigError, UnknownNameError
from zoo.hub import parse_uri

SSDD_KINDS, SSDD_SIZES = ("f8c4", "f16c4", "f16c16", "f32c64", "sdvae"), ("S", "B", "M", "L", "XL")
FREE = {"Apache-2.0", "MIT"}
UNPINNED = {
    "autoencoder_kl.flextok_c4",
    "autoencoder_kl.flextok_c8",
    "autoencoder_kl.flextok_c16",
    "fast.plus",
    "flextok.d18_d18_in1k",
    "larp.L_long_ar",
    "larp.L_long_ar_fp",
    "flextok.d18_d28_dfn",
    "flextok.d18_d28_in1k",
    "larp.L_long",
    "ssdd.demo_f8c4_M_128",
    *(f"ssdd.{kind}_{size}_256" for kind in SSDD_KINDS for size in SSDD_SIZES if (kind, size) != ("sdvae", "XL")),
}


@pytest.fixture(autouse=True)
def toys():
    with toy.registered():
        yield


@pytest.fixture
def shipped(monkeypatch):
    """Three shipped models, whatever else the library ships: two images, the first the default, and an action."""
    models = registry.parse(TEXT)
    monkeypatch.setattr(registry, "_shipped_models", lambda: models)


TEXT = """
toy_image.small: {family: toy_image, modality: image, source: toy_image.small, licence: MIT, description: Small.,
  trained_on: Nothing, num_parameters: 2, is_default: true}
toy_image.large: {family: toy_image, modality: image, source: "hf://owner/repo@v1", licence: MIT, description: Large.,
  trained_on: Nothing, num_parameters: 2}
toy_action.nano: {family: toy_action, modality: action, source: toy_action.nano, licence: MIT, description: Nano.,
  trained_on: Nothing, num_parameters: 2}
"""


def entry(name="toy_image.mine", **changes):
    family = name.partition(".")[0]
    facts = {"modality": "image", "source": "/nowhere", "licence": "MIT", "description": "Mine.", "trained_on": ""}
    return registry.ModelEntry(name, family, **{**facts, "num_parameters": 2, **changes})


# ---------------------------------------------------------------------------------------------------------- looking up


def test_a_name_and_the_bare_family_mean_the_same(shipped):
    assert registry.model("toy_image.small") is registry.model("toy_image")
    assert registry.model("toy_image.large").source == "hf://owner/repo@v1"


def test_lists_are_sorted_and_filtered(shipped):
    assert zoo.list_models() == ["toy_action.nano", "toy_image.large", "toy_image.small"]
    assert zoo.list_models(modality="action") == ["toy_action.nano"]
    assert zoo.list_models(modality="image", family="toy_image") == ["toy_image.large", "toy_image.small"]
    assert zoo.list_models(modality="speech") == []
    assert zoo.list_models(family="toy_video") == []
    with refused(UnknownNameError, "no modality 'smell'; known: speech, image, video, action."):
        zoo.list_models(modality="smell")
    with refused(UnknownNameError, "no family 'toy_imgae'; did you mean 'toy_image'"):
        zoo.list_models(family="toy_imgae")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("toy_image*", ["toy_image.large", "toy_image.small"]),
        ("*.nano", ["toy_action.nano"]),
        ("toy_?????.[ls]*", ["toy_image.large", "toy_image.small"]),
        ("toy_image.small", ["toy_image.small"]),
        ("toy_image", ["toy_image.large", "toy_image.small"]),
        ("toy_video", []),  # a family without models
        ("image*", []),
        ("Toy*", []),
    ],
)
def test_lists_are_filtered_by_wildcards(shipped, pattern, names):
    assert zoo.list_models(pattern) == names
    assert zoo.list_models(pattern, modality="image") == [name for name in names if "image" in name]


def test_a_pattern_that_can_only_be_a_mistake_is_refused(shipped):
    assert zoo.list_models("image") == zoo.list_models(modality="image")  # which is no mistake
    with refused(UnknownNameError, "no model 'toy_image.smal'; did you mean 'toy_image.small'", "'toy_image.smal*'"):
        zoo.list_models("toy_image.smal")


def test_a_repository_is_found_whatever_the_revision(shipped):
    for address in ("hf://owner/repo", "hf://owner/repo@v1", "hf://Owner/Repo@v2"):
        assert [entry.name for entry in registry.published_at(address)] == ["toy_image.large"]
    for address in ("hf://owner/rep", "owner/repo", "", "toy_image.large"):
        assert list(registry.published_at(address)) == []


UNKNOWN = {
    "toy_image.smal": "there is no model 'toy_image.smal'; did you mean 'toy_image.small'",
    "TOY_IMAGE.SMALL": "did you mean 'toy_image.small'",
    "qqqqqqqq": "there is no model 'qqqqqqqq'; known: toy_action, toy_action.nano, toy_image, toy_image.large,",
    "toy_action": "'toy_action' has no default variant: name one of toy_action.nano.",
    "toy_image.": "did you mean 'toy_image'",
    " toy_image": "did you mean 'toy_image'",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_names_get_near_matches(shipped, name):
    for call in (registry.model, zoo.info, zoo.load):
        with refused(UnknownNameError, UNKNOWN[name]):
            call(name)
    with pytest.raises(KeyError):
        zoo.info(name)


def test_info_is_plain_and_complete(shipped):
    assert zoo.info("toy_image") == {
        "name": "toy_image.small",
        "family": "toy_image",
        "modality": "image",
        "source": "toy_image.small",
        "licence": "MIT",
        "description": "Small.",
        "trained_on": "Nothing",
        "num_parameters": 2,
        "is_default": True,
        "restriction": "",
        "tokenizer": "",
        "is_shipped": True,
    }
    assert zoo.info("toy_image.large")["is_shipped"] is False


def test_families():
    assert {"beast", "binning", "fast", "toy_speech", "toy_image", "toy_video", "toy_action"} <= set(
        registry.families()
    )
    assert registry.family("toy_image") is toy.ToyImage
    with refused(UnknownNameError, "there is no family 'toy_imag'; did you mean 'toy_image'"):
        registry.family("toy_imag")
    with refused(UnknownNameError, "once that package is installed with the entry point 'mine' in zoo.families"):
        registry.family("mine")


# ---------------------------------------------------------------------------------------------------- the shipped index


def test_the_shipped_index_is_valid_and_what_it_names_is_there():
    text = resources.path("checkpoints", "registry.yaml").read_text(encoding="utf-8")
    models = registry.parse(text)
    names = re.findall(r"^([^\s#{][^:]*):", text, re.MULTILINE)
    assert sorted(names) == sorted(models), "a name is there twice"
    assert text.startswith("#")
    for model in models.values():
        assert model.family in registry.families() or model.tokenizer
        assert not model.is_shipped or (model.folder / "config.json").is_file()
        if not model.is_shipped:
            # A name that moves with a branch is the exception, for want of knowing a commit.
            revision = parse_uri(model.source).revision
            assert re.fullmatch(r"[0-9a-f]{40}", revision or "") or model.name in UNPINNED
        assert model.licence in FREE or (len(model.restriction) > 20 and model.restriction.endswith("."))


def changed(pattern, replacement):
    text = re.sub(pattern, replacement, TEXT, count=1)
    assert text != TEXT
    return text


MALFORMED = {
    "unknown field": (
        changed("licence:", "license:"),
        "toy_image.small has the unknown key 'license'; did you mean 'lic",
    ),
    "missing field": (changed("description: Small.,", ""), "toy_image.small lacks the key 'description'"),
    "wrong type": (changed("num_parameters: 2", "num_parameters: few"), "num_parameters must be int, got 'few'"),
    "wrong modality": (changed("modality: image", "modality: smell"), "modality must be one of 'speech', 'image',"),
    "another family": (
        changed("family: toy_image", "family: beast"),
        "a model is named family.variant, such as beast.",
    ),
    "no variant": (changed(r"toy_image\.small:", "toy_image:"), "such as toy_image.nano, got 'toy_image'."),
    "a space": (changed(r"toy_image\.small:", "toy_image.a b:"), "got 'toy_image.a b'."),
    "a path": (changed(r"toy_image\.small:", "toy_image.a/b:"), "got 'toy_image.a/b'."),
    "a source that leads out": (
        changed("source: toy_image.small", "source: ../x"),
        "toy_image.small: the source is a fol",
    ),
    "a source of another kind": (
        changed("hf://", "https://"),
        "hf://owner/repo[@revision], or an absolute path, got 'https",
    ),
    "two defaults": (
        TEXT + TEXT.split("\n}")[0].replace("small", "tiny", 1).split("toy_image.large")[0],
        "both the default",
    ),
    "a number as name": ("3: {}", "the key '3' is no text (quote it) at line 1"),
    "no fields": ("toy_image.small:", "toy_image.small must be a mapping of fields"),
    "a list": ("- toy_image", "must be a YAML mapping"),
    "text": ("toy", "must be a YAML mapping"),
    "a name of its own": (changed("family: toy_image", "name: x, family: toy_image"), "without a name of its own"),
    "no YAML": ("a: [", "registry.yaml is not plain YAML: "),
    "an object": (
        "a: !!python/object/apply:os.getcwd []",
        "registry.yaml is not plain YAML: could not determine a constr",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_entries_are_refused(case):
    text, message = MALFORMED[case]
    with pytest.raises(ConfigError) as caught:
        registry.parse(text)
    assert message in str(caught.value)
    assert not isinstance(caught.value, CheckpointError)


def test_an_empty_index_has_no_models():
    assert registry.parse("# nothing\n") == registry.parse("{}") == {}


# ---------------------------------------------------------------------------------------------------------- registering


def test_a_registered_model_loads_by_name(shipped, tmp_path):
    zoo.save(toy.make("image", seed=4), tmp_path, name="toy_image.mine")
    mine = entry(source=str(tmp_path))
    assert zoo.register(mine) is mine
    tok = zoo.load("toy_image.mine")
    assert (tok.name, tok.trained_on) == ("toy_image.mine", "nothing, seed 4")
    assert "toy_image.mine" in zoo.list_models(modality="image")
    assert zoo.info("toy_image.mine")["is_shipped"] is True
    tokens = tok.encode(toy.signals("image"))
    assert tokens.model == "toy_image.mine"
    zoo.load("toy_image.mine").decode(tokens)


def test_a_checkpoint_under_a_wrong_name_is_mislabelled(shipped, tmp_path):
    zoo.save(toy.make("image"), tmp_path, name="toy_image.other")
    zoo.register(entry(source=str(tmp_path)))
    with refused(CheckpointError, tmp_path, "is mislabelled: it should be toy_image.mine, and is toy_image.other."):
        zoo.load("toy_image.mine")


def test_a_checkpoint_without_a_name_takes_that_of_its_entry(shipped, tmp_path):
    zoo.save(toy.make("image"), tmp_path, name="toy_image")
    zoo.register(entry(source=str(tmp_path)))
    assert zoo.load("toy_image.mine").name == "toy_image.mine"
    assert zoo.load(tmp_path).name == "toy_image"


def test_a_name_is_taken_only_on_request(shipped):
    zoo.register(entry())
    for name in ("toy_image.mine", "toy_image.small"):
        with refused(ConfigError, f"the model {name!r} is registered already: pass replace=True to take its place."):
            zoo.register(entry(name))
        zoo.register(entry(name, description="New."), replace=True)
        assert zoo.info(name)["description"] == "New."


def test_a_family_has_one_default(shipped):
    with refused(ConfigError, "the model 'toy_image.small' is the default of 'toy_image' already"):
        zoo.register(entry(is_default=True))
    assert zoo.info("toy_image")["name"] == "toy_image.small"
    zoo.register(entry(is_default=True), replace=True)
    assert zoo.info("toy_image")["name"] == "toy_image.mine"
    zoo.register(entry("toy_image.small", is_default=True), replace=True)
    assert zoo.info("toy_image")["name"] == "toy_image.small"
    zoo.register(entry("toy_action.mine", modality="action", is_default=True))
    assert zoo.info("toy_action")["name"] == "toy_action.mine"


def test_malformed_models_are_not_registered(shipped):
    before = zoo.list_models()
    for wrong, kind, message in (
        (entry("toy_image"), ConfigError, "a model is named family.variant"),
        (entry("nosuch.mine"), UnknownNameError, "there is no family 'nosuch'"),
        (entry(modality="smell"), ConfigError, "modality must be one of"),
        (entry(num_parameters="2"), ConfigError, "num_parameters must be int"),
        (
            entry(source="sub/folder"),
            ConfigError,
            "the source is a folder of checkpoints/, hf://owner/repo[@revision], or",
        ),
        (replace(entry(), family="toy_video"), ConfigError, "such as toy_video.nano, got 'toy_image.mine'"),
    ):
        with refused(kind, message):
            zoo.register(wrong)
    assert zoo.list_models() == before


def test_a_family_registers_as_a_decorator():
    @zoo.register
    class Mine(toy.ToyImage):
        family = "mine"

    assert registry.family("mine") is Mine
    with refused(ConfigError, "the family 'mine' is registered already: pass replace=True to take its place."):
        zoo.register(Mine)

    class Better(Mine):
        pass

    assert zoo.register(Better, replace=True) is Better
    assert registry.family("mine") is Better


def test_built_in_families_are_protected_without_being_imported():
    class Mine(toy.ToyImage):
        family = "beast"

    with refused(ConfigError, "the family 'beast' is registered already"):
        zoo.register(Mine)


def abstract():
    class Half(zoo.Tokenizer):
        family, config_class = "half", toy.ImageConfig

        def encode(self, x, lengths=None): ...

    return Half


def nameless(**attributes):
    return type("Nameless", (toy.ToyImage,), attributes)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (3, "a family is a subclass of zoo.Tokenizer, got 3"),
        (dict, "a family is a subclass of zoo.Tokenizer, got <class 'dict'>"),
        (nameless(family="a.b"), "`family` that is an identifier, got 'a.b'"),
        (nameless(family=None), "`family` that is an identifier, got None"),
        (nameless(family="nameless", config_class=dict), "`config_class` that is a dataclass"),
        (abstract(), "Half does not implement decode, num_tokens, output_lengths."),
    ],
)
def test_malformed_families_are_not_registered(item, message):
    before = registry.families()
    with refused(ConfigError, message):
        zoo.register(item)
    assert registry.families() == before


def test_a_tokenizer_takes_a_config_of_its_family():
    with refused(ConfigError, "toy_image takes a ImageConfig, got VideoConfig."):
        toy.ToyImage(toy.VideoConfig())
    assert torch.is_tensor(toy.ToyImage(toy.ImageConfig()).quantizer.table)


def test_data_that_is_not_installed_is_named():
    with refused(CheckpointError, "recipes/nosuch.yaml does not exist in this installation", "--force-reinstall"):
        resources.path("recipes", "nosuch.yaml")
