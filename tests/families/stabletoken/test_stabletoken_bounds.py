"""Sizes that no model has are refused before anything is built of them."""

import json

import pytest
from checkpoint_tools import change, manifest
from mutations import time_limit
from tiny_stabletoken import TINY_DECODER, make

import zoo
from zoo.components.quantizers import parse
from zoo.errors import ConfigError
from zoo.families.stabletoken import PRESETS
from zoo.families.stabletoken.official import folder as official

HUGE = 10**9
SIZES = [
    "d_model",
    "num_heads",
    "ffn_size",
    "num_layers",
    "num_layers_after",
    "num_mel",
    "sample_rate",
    "n_fft",
    "hop_length",
    "max_positions",
    "pooling_kernel",
    "pooling_position",
]
NESTED = [
    ("decoder", "codebook_size"),
    ("decoder", "num_mel"),
    ("decoder", "steps"),
    ("decoder", "speaker_size"),
    ("conformer", "num_blocks"),
    ("conformer", "width"),
    ("unet", "num_layers"),
    ("unet", "num_middle"),
    ("unet", "channels"),
    ("vocoder", "channels"),
    ("vocoder", "n_fft"),
    ("vocoder", "num_harmonics"),
    ("vocoder", "kernels"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return zoo.save(make(decoder=TINY_DECODER), tmp_path_factory.mktemp("m") / "m", name="stabletoken.tiny")


@pytest.fixture
def folder(saved):
    content = (saved / "config.json").read_bytes()
    yield saved
    (saved / "config.json").write_bytes(content)


@pytest.mark.parametrize("value", [HUGE, 2**31, 2**63, 10**400], ids=["1e9", "2^31", "2^63", "1e400"])
@pytest.mark.parametrize("name", SIZES)
def test_x5_a_size_beyond_all_models(folder, name, value):
    change(folder, config={name: value})
    with time_limit(5), pytest.raises(ConfigError, match=r"config\.json"):
        zoo.load(folder)


@pytest.mark.parametrize("place", NESTED, ids=".".join)
def test_x5_a_size_of_the_decoder(folder, place):
    decoder = manifest(folder)["config"]["decoder"]
    part = decoder if place[0] == "decoder" else decoder[place[0]]
    part[place[1]] = [HUGE] * len(part[place[1]]) if isinstance(part[place[1]], list) else HUGE
    change(folder, config={"decoder": decoder})
    with time_limit(5), pytest.raises(ConfigError, match=r"config\.json"):
        zoo.load(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "residual", "num_stages": HUGE, "stage": {"kind": "vq", "codebook_size": 4, "dim": 32}},
        {"kind": "vq", "codebook_size": 2**40, "dim": 32},
        {"kind": "vq", "codebook_size": 4, "dim": 2**40},
        {"kind": "uniform", "dim": HUGE},
        {"kind": "none", "dim": HUGE},
        {"kind": "fsq", "levels": [2] * 10**6},
        {"kind": "lfq", "num_bits": HUGE},
        {"kind": "stochastic_vq", "codebook_size": HUGE * 2, "dim": 4},
    ],
    ids=lambda values: values["kind"],
)
def test_x5_a_size_of_a_quantizer(values):
    with time_limit(5), pytest.raises(ConfigError):
        parse(values)


@pytest.mark.parametrize("key", ["encoder_layers", "quantize_position", "max_source_positions", "quantize_vocab_size"])
def test_x5_a_size_in_the_released_layout(tmp_path, key):
    place = official.write(make(stored_positions=True), tmp_path / "m")
    values = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(values | {key: 2**40}))
    with time_limit(5), pytest.raises(ConfigError, match=r"config\.json"):
        zoo.load(tmp_path / "m")


def test_what_is_plausible_together_is_checked_as_a_product(folder):
    change(folder, config={"max_positions": 2**20, "d_model": 2**16, "pooling_kernel": 2})
    with pytest.raises(ConfigError, match="max_positions × d_model must be at most"):
        zoo.load(folder)


def test_published_sizes_are_within_bounds():
    assert set(PRESETS) == {"large", "nano"}
    assert PRESETS["large"].d_model == 1280
