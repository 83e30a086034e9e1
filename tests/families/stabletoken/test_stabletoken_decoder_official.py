"""StableToken's decoder: the released layout, against a second implementation of the whole path from ids to wave."""

import dataclasses
import itertools
import math
import pickle

import pytest
import stabletoken_decoder_reference as reference
import torch
import yaml
from safetensors.torch import save_file
from tiny_stabletoken import TINY_DECODER, make_decoder, seeded, some_ids

from zoo.errors import CheckpointError, ConfigError, ZooError
from zoo.families.stabletoken.decoder import ConformerConfig, DecoderConfig, UNetConfig, VocoderConfig
from zoo.families.stabletoken.decoder.speech import SpeechDecoder
from zoo.families.stabletoken.official import decoder as official_decoder
from zoo.families.stabletoken.official.decoder_names import flow_name, vocoder_name

PLAIN = "".join(line for line in reference.CONFIG_YAML.splitlines(keepends=True) if "__set_seed" not in line)


def read(place):
    decoder = SpeechDecoder(official_decoder.read_config(place)).eval()
    decoder.load_state_dict(official_decoder.read(decoder, place))
    return decoder


def write_config(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(text)


def edited(place, edit, stem="flow"):
    """Change the tensors of a file."""
    tensors = torch.load(place / f"{stem}.pt", weights_only=True)
    tensors = edit(tensors) or tensors
    torch.save(tensors, place / f"{stem}.pt")


@pytest.mark.parametrize("count", [1, 4, 13])
def test_waves_are_those_of_the_formulas(tmp_path, count):
    flow, vocoder = reference.write(tmp_path)
    decoder, ids, frames = read(tmp_path), some_ids(count), 441 * count // 128
    # In this order from this seed, as in the published code.
    generator = seeded(42)
    noise = torch.randn(1, 8, frames, generator=generator)[0]
    phases = (2 * torch.rand(1, 9, 1, generator=generator)[0, :, 0] - 1) * math.pi
    phases[0] = 0
    source_noise = torch.randn(1, 9, 256 * frames, generator=generator)[0]
    with torch.no_grad():
        content = decoder.flow.content(ids[None])[0]
        spectrum = decoder.flow(ids, steps=10, guidance=0.7, generator=seeded(42))
        wave = decoder(ids)
    expected = reference.mean_mel(reference.Named(flow), reference.TOY, ids)
    assert (content - expected).abs().max() < 1e-5
    expected = reference.mel(flow, reference.TOY, ids, noise)
    assert (spectrum - expected).abs().max() < 1e-4
    expected = reference.wave(vocoder, expected, phases, source_noise)
    assert 0.01 < expected.abs().max() < 0.99
    assert (wave - expected).abs().max() < 1e-4
    with torch.no_grad():
        other = decoder.flow(ids, steps=3, guidance=0.2, generator=seeded(42))
    assert (other - reference.mel(flow, reference.TOY, ids, noise, 3, 0.2)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("sizes", "config", "counts"),
    [(reference.TOY, TINY_DECODER, None), (reference.PUBLISHED, DecoderConfig(), (106_971_904, 20_460_591))],
)
def test_names_and_shapes(sizes, config, counts):
    with torch.device("meta"):
        decoder = SpeechDecoder(config)
    levels = len(config.unet.channels)
    flow = {flow_name(name, levels): tuple(t.shape) for name, t in decoder.flow.state_dict().items()}
    vocoder = {vocoder_name(name): tuple(t.shape) for name, t in decoder.vocoder.state_dict().items()}
    assert flow == reference.flow_shapes(sizes)
    assert vocoder == reference.vocoder_shapes(sizes)
    if counts:
        parts = (decoder.flow, decoder.vocoder)
        assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == counts


def test_config_is_read(tmp_path):
    write_config(tmp_path, reference.CONFIG_YAML)
    assert official_decoder.read_config(tmp_path) == TINY_DECODER
    (tmp_path / "config.yaml").write_text("flow: {}\nhift: {}\n")
    assert official_decoder.read_config(tmp_path) == DecoderConfig()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("block_size: 4", "block_size: 7", lambda config: config.conformer.block_size == 7),
        ("inference_cfg_rate: 0.7", "inference_cfg_rate: 0.5", lambda config: config.guidance == 0.5),
        ("input_frame_rate: 25", "input_frame_rate: 50", lambda config: config.token_rate == 50),
        ("sample_rate: 22050", "sample_rate: 24000", lambda config: config.sample_rate == 24000),
        ("nsf_sigma: 0.003", "nsf_sigma: 3e-2", lambda config: config.vocoder.noise_std == 0.03),
        ("    block_size: 4\n", "", lambda config: config.conformer.block_size == 25),
    ],
)
def test_settings_are_honoured(tmp_path, old, new, field):
    write_config(tmp_path, PLAIN.replace(old, new, 1))
    assert field(official_decoder.read_config(tmp_path))


def test_round_trip(tmp_path):
    ours = make_decoder()
    place = official_decoder.write(ours, tmp_path / "a")
    assert place == tmp_path / "a/decoder" == official_decoder.locate(tmp_path / "a")
    back = read(place)
    assert back.config == ours.config
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
    for stem, shapes in (("flow", reference.flow_shapes), ("hift", reference.vocoder_shapes)):
        written = torch.load(place / f"{stem}.pt", weights_only=True)
        assert {name: tuple(tensor.shape) for name, tensor in written.items()} == shapes(reference.TOY)


def test_round_trip_of_other_settings(tmp_path):
    other = SpeechDecoder(
        DecoderConfig(
            codebook_size=5,
            num_mel=4,
            sample_rate=16000,
            steps=10,
            guidance=0.25,
            conformer=ConformerConfig(width=24, num_heads=3, ffn_size=20, num_blocks=1),
            unet=UNetConfig(channels=(8, 16, 8), num_middle=1, num_layers=1),
            vocoder=VocoderConfig(channels=8, num_harmonics=2, limit=0.5, slope=0.2),
        )
    )
    back = read(official_decoder.write(other, tmp_path / "b"))
    assert back.config == other.config
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


def test_spectra_in_other_units_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match="mel_std = 2: it cannot be written"):
        official_decoder.write(make_decoder(mel_std=2.0), tmp_path / "a")
    unet = dataclasses.replace(TINY_DECODER.unet, predicts="data")
    with pytest.raises(ConfigError, match="predicts data"):
        official_decoder.write(make_decoder(unet=unet), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_released_files_survive_the_round_trip(tmp_path):
    tensors = reference.write(tmp_path / "a")
    place = official_decoder.write(read(tmp_path / "a"), tmp_path / "b")
    for stem, expected in zip(("flow", "hift"), tensors, strict=True):
        written = torch.load(place / f"{stem}.pt", weights_only=True)
        assert written.keys() == expected.keys()
        assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def test_safetensors_half_precision_and_other_spellings(tmp_path):
    flow, vocoder = reference.write(tmp_path / "a")
    expected = read(tmp_path / "a").state_dict()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/config.yaml").write_text(PLAIN)
    spelt = {}
    for name, tensor in vocoder.items():
        for old, new in (("pre_conv", "conv_pre"), ("post_conv", "conv_post"), (".conv1.", ".convs1.")):
            name = name.replace(old, new)
        for old, new in ((".conv2.", ".convs2."), ("source.l_", "m_source.l_")):
            name = name.replace(old, new)
        for old, number in (("weight_g", 0), ("weight_v", 1)):
            name = name.replace(old, f"parametrizations.weight.original{number}")
        spelt[name] = tensor
    assert not {name for name in vocoder if "_g" in name} & set(spelt)
    save_file(flow, tmp_path / "b/flow.safetensors")
    save_file(spelt, tmp_path / "b/hift.safetensors")
    state = read(tmp_path / "b").state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    edited(tmp_path / "a", lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    state = read(tmp_path / "a").state_dict()
    assert state["flow.tokens.weight"].dtype == torch.float32
    assert torch.equal(state["flow.tokens.weight"], expected["flow.tokens.weight"].half().float())
    twice = spelt | {"pre_conv.bias": torch.zeros(16)}
    save_file(twice, tmp_path / "b/hift.safetensors")
    with pytest.raises(CheckpointError, match=r"pre_conv\.bias twice"):
        read(tmp_path / "b")


@pytest.mark.parametrize("stem", ["flow", "hift"])
def test_missing_tensors_are_named(tmp_path, stem):
    tensors = dict(zip(("flow", "hift"), reference.write(tmp_path), strict=True))[stem]
    decoder = SpeechDecoder(official_decoder.read_config(tmp_path))
    for name in [*tensors][::53]:
        torch.save({other: tensor for other, tensor in tensors.items() if other != name}, tmp_path / f"{stem}.pt")
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            official_decoder.read(decoder, tmp_path)


@pytest.mark.parametrize(
    ("stem", "edit", "message"),
    [
        ("flow", lambda t: t.update({"encoder.pe": torch.zeros(1)}), r"encoder\.pe is unexpected"),
        ("hift", lambda t: t.update({"ups.2.bias": torch.zeros(1)}), r"ups\.2\.bias is unexpected"),
        ("flow", lambda t: t.update({"encoder_proj.bias": torch.zeros(9)}), r"encoder_proj\.bias has the shape \(9,\)"),
        (
            "hift",
            lambda t: t.update({"post_conv.bias": torch.full((18,), torch.nan)}),
            r"NaN or infinite values in post_conv\.bias",
        ),
        ("flow", lambda t: t.update({"encoder_proj.bias": torch.zeros(8, dtype=torch.int32)}), "int32"),
        ("flow", lambda t: t.update({"encoder_proj.bias": [0.0] * 8}), r"encoder_proj\.bias.*list"),
        ("flow", lambda t: t.update({3: torch.zeros(8)}), "at 3"),
        ("flow", lambda t: t.update({"encoder_proj.bias": torch.zeros(8).to_sparse()}), r"flow\.pt"),
        ("hift", lambda t: [*t.values()], "dictionary of tensors by name, got list"),
    ],
)
def test_damaged_tensors(tmp_path, stem, edit, message):
    reference.write(tmp_path)
    edited(tmp_path, edit, stem)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


class Trap:
    """Runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_run_nothing(tmp_path):
    reference.write(tmp_path / "a")
    mark = tmp_path / "mark"
    torch.save({"input_embedding.weight": Trap(mark)}, tmp_path / "a/flow.pt")
    with pytest.raises(CheckpointError, match=r"flow\.pt cannot be read"):
        read(tmp_path / "a")
    (tmp_path / "a/flow.pt").write_bytes(pickle.dumps(Trap(mark)))
    mark.unlink(missing_ok=True)  # the trap is one: reading it the careless way springs it
    with pytest.raises(CheckpointError, match=r"flow\.pt cannot be read"):
        read(tmp_path / "a")
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir ['{mark}']",
        "!!python/object/new:os.mkdir ['{mark}']",
        "!!python/name:os.mkdir ''",
        "!<tag:yaml.org,2002:python/object/apply:os.mkdir> ['{mark}']",
        "!new:os.mkdir ['{mark}']",
        "!apply:os.mkdir ['{mark}']",
        "!name:os.mkdir",
        "!include:{mark}",
        "!module:os",
    ],
)
@pytest.mark.parametrize("where", ["aside", "value", "section"])
def test_hostile_configs_run_nothing(tmp_path, text, where):
    mark = tmp_path / "mark"
    text = text.format(mark=mark)
    config = {
        "aside": f"{PLAIN}\ntrap: {text}\n",
        "value": PLAIN.replace("block_size: 4", f"block_size: {text}"),
        "section": PLAIN[: PLAIN.index("hift:")] + f"hift: {text}\n",
    }[where]
    write_config(tmp_path / "a", config)
    if where == "aside" and not text.startswith(("!!", "!<")):
        assert official_decoder.read_config(tmp_path / "a") == TINY_DECODER  # a value that nobody asks for
    else:
        with pytest.raises(ZooError, match=r"config\.yaml"):
            official_decoder.read_config(tmp_path / "a")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("act_fn: gelu", "act_fn: snake", "act_fn is 'snake'"),
        ("t_scheduler: cosine", "t_scheduler: linear", "t_scheduler"),
        ("sigma_min: 1e-06", "sigma_min: 1e-04", "sigma_min"),
        ("block_rel_selfattn", "rel_selfattn", "selfattention_layer_type"),
        ("macaron_style: false", "macaron_style: true", "macaron_style"),
        ("sampling_ratios: [1, 1, 1, 1]", "sampling_ratios: [1, 1]", "sampling_ratios"),
        ("  input_size: 16", "  input_size: 17", "input_size is 17; only 16"),
        ("attention_heads: 2", "attention_heads: two", "num_heads"),
        ("attention_heads: 2", "attention_heads: 3", "multiple of num_heads"),
        ("block_size: 4", "blocksize: 4", "blocksize.*flow.encoder.block_size"),
        ("nsf_sigma: 0.003", "sigma: 0.003", "sigma.*hift.nsf_sigma"),
        ("vocab_size: 64", "vocab_size: !ref <vocabulary>", "codebook_size"),
        ("vocab_size: 64", "vocab_size: !ref <bands> * 8", "codebook_size"),
        ("hift: ", "vocoder: ", "has no hift"),
    ],
)
def test_settings_that_cannot_be_honoured(tmp_path, old, new, message):
    assert old in PLAIN
    write_config(tmp_path, PLAIN.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        official_decoder.read_config(tmp_path)


@pytest.mark.parametrize("text", ["[1, 2]", "", "a: [", "a: b: c", "\x00", "? [1]\n: 2", "a: &a\n  b: *c", "[" * 1200])
def test_configs_that_are_none(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises((CheckpointError, ConfigError), match=r"config\.yaml"):
        official_decoder.read_config(tmp_path)


def test_too_large_a_config(tmp_path):
    (tmp_path / "config.yaml").write_text(PLAIN + "#" * 2**20)
    with pytest.raises(CheckpointError, match="has more than 1048576 bytes"):
        official_decoder.read_config(tmp_path)


def test_incomplete_folders(tmp_path):
    assert official_decoder.locate(tmp_path) is None
    (tmp_path / "decoder").mkdir()
    assert official_decoder.locate(tmp_path) is None
    files = ("config.yaml", "flow.pt", "hift.pt")
    for number, some in enumerate(itertools.combinations(files, 2)):
        folder = tmp_path / str(number)
        reference.write(folder / "decoder")
        (missing,) = set(files) - set(some)
        (folder / "decoder" / missing).unlink()
        assert official_decoder.locate(folder) == folder / "decoder"
        with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
            read(folder / "decoder")


def test_what_is_written_is_plain_yaml(tmp_path):
    place = official_decoder.write(make_decoder(), tmp_path)
    values = yaml.safe_load((place / "config.yaml").read_text())
    assert values["flow"]["encoder"]["block_size"] == 4
    assert set(values) == {"flow", "hift"}
