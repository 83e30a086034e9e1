"""The image suite on a few pictures: figures by hand, prefixes, peers of as many bits, what cannot be measured."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import tiny_flextok
import torch
import toy
from st_lpips_weights import made_tensors
from toy_pictures import DCTConfig, ToyDCT, write_pictures

import zoo
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.features import STLPIPS, build
from zoo.components.losses.perceptual import PerceptualDistance
from zoo.components.quantizers import FSQConfig, GaussianConfig
from zoo.data.media import read_image
from zoo.errors import ConfigError, InputError
from zoo.evaluation import card_section, read_report, read_suite, run, write_report
from zoo.evaluation.items import balanced
from zoo.evaluation.suites.image.config import Group, Network, Variant
from zoo.evaluation.suites.image.photos import photos_in
from zoo.families.autoencoder_kl.config import AutoencoderKLConfig
from zoo.families.autoencoder_kl.tokenizer import AutoencoderKLTokenizer
from zoo.metrics.feature_distance import feature_rows, feature_vectors, frechet_distance_of_rows, paired_distance

SUITE = Path(__file__).parents[2] / "eval" / "image.yaml"
NETWORK = {"kind": "timm", "model": "test_resnet", "layers": ["pooled"], "pretrained": False}
SIZE = 32


def half(pictures):
    return pictures / 2


def half_with_bits(pictures):
    return pictures / 2, torch.full((len(pictures),), 900)


def nothing(pictures):
    return pictures[:, :1]


def twice(pictures):
    return pictures, torch.ones(2 * len(pictures))


def psnr(made, original):
    return -10 * math.log10(float((made - original).square().mean()))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    conv = ConvConfig(block_channels=(4, 8, 8), layers_per_block=1, norm_groups=4)
    torch.manual_seed(0)
    tokenizers = {"dct": ToyDCT(DCTConfig(size=SIZE)).eval()}
    for name, quantizer in (("fsq", FSQConfig(levels=(8, 5, 5))), ("kl", GaussianConfig(dim=4))):
        config = AutoencoderKLConfig(image_size=SIZE, conv=conv, quantizer=quantizer)
        tokenizers[name] = AutoencoderKLTokenizer(config).eval()
    tokenizers["small"] = toy.make("image")
    tokenizers["speech"] = toy.make("speech")
    for name, tokenizer in tokenizers.items():
        zoo.save(tokenizer, folder / name)
    with toy.registered(*toy.CLASSES.values(), ToyDCT):
        yield {name: str(folder / name) for name in tokenizers}


@pytest.fixture(scope="module")
def suite():
    whole = read_suite(SUITE)
    return dataclasses.replace(
        whole,
        measures=("psnr", "ssim", "feature_distance", "frechet_distance"),
        features=Network(NETWORK),
        groups=(Group("sky", ("sky",)), Group("field", ("field",))),
        batch_size=3,
        num_examples=2,
        bootstrap=dataclasses.replace(whole.bootstrap, num_resamples=50),
    )


@pytest.fixture(scope="module")
def report(suite, corpus, models):
    return run(suite, models=[models["dct"], models["fsq"], models["kl"]], data=corpus)


@pytest.fixture(scope="module")
def originals(corpus):
    """The pictures in the order in which they are measured."""
    photos = sorted(photos_in(corpus, "test.jsonl"), key=lambda photo: photo.key)
    return torch.stack([read_image(corpus / photo.name, size=SIZE) for photo in photos]), photos


def estimates(report, name):
    return {key: figure.estimate for key, figure in report.models[name].items()}


def test_figures_are_those_of_single_pictures_by_hand(report, models, originals):
    pictures, photos = originals
    tokenizer = zoo.load(models["fsq"])
    decoded = tokenizer.decode(tokenizer.encode(pictures))
    found = report.models[models["fsq"]]
    by_hand = [psnr(*pair) for pair in zip(decoded, pictures, strict=True)]
    assert found["psnr"].estimate == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert found["psnr"].low < found["psnr"].estimate < found["psnr"].high
    sky = [value for value, photo in zip(by_hand, photos, strict=True) if photo.source == "sky"]
    assert found["psnr@sky"].estimate == pytest.approx(np.mean(sky), rel=1e-5)
    network = build(NETWORK)
    rows = feature_rows(feature_vectors(network, decoded, "pooled"), feature_vectors(network, pictures, "pooled"))
    assert found["feature_distance"].estimate == pytest.approx(paired_distance(rows), rel=1e-4)
    assert found["frechet_distance"].estimate == pytest.approx(frechet_distance_of_rows(rows), rel=1e-3)
    assert found["frechet_distance"].low is None
    facts = report.data["networks"]["frechet_distance"]
    assert facts["sha256"] == network.digest
    assert facts["name"] == network.name
    assert network.digest[:16] in report.protocol


def test_what_tokens_take(report, models, originals):
    tokens = zoo.load(models["fsq"]).encode(originals[0])
    found = estimates(report, models["fsq"])
    used = len(tokens.ids.unique())
    shares = tokens.ids.flatten().bincount().double() / tokens.ids.numel()
    assert found["tokens"] == 64
    assert found["bits"] == pytest.approx(64 * math.log2(200))
    assert found["bits_per_pixel"] == pytest.approx(64 * math.log2(200) / SIZE**2)
    assert found["codebook_use"] == pytest.approx(100 * used / 200)
    assert found["codebook_use_even"] == pytest.approx(100 * (1 - (1 - 1 / 200) ** 512))
    assert found["perplexity"] == pytest.approx(2 ** float(torch.special.entr(shares).sum() / math.log(2)))
    assert found["encode_per_second"] > 0
    assert found["decode_per_second"] > 0


def test_a_continuous_tokenizer_is_decoded_from_its_latents(report, models, originals):
    pictures = originals[0]
    tokenizer = zoo.load(models["kl"])
    decoded = tokenizer.decode_latents(tokenizer.encode_latents(pictures))
    found = estimates(report, models["kl"])
    assert found["psnr"] == pytest.approx(np.mean([psnr(*pair) for pair in zip(decoded, pictures, strict=True)]))
    assert found["latents"] == 64 * 4
    assert not {"bits", "tokens", "perplexity"} & found.keys()


def test_an_autoencoder_within_a_tokenizer_is_measured_alone(report, models, originals):
    names = list(report.models)
    assert names[:2] == [f"{models['dct']}: autoencoder alone", models["dct"]]
    by_hand = np.mean([psnr(0.99 * picture, picture) for picture in originals[0]])
    assert estimates(report, names[0])["psnr"] == pytest.approx(by_hand, rel=1e-5)


def test_prefixes_are_of_the_trained_lengths(report, models, originals):
    pictures = originals[0]
    assert report.data["prefixes"] == {models["dct"]: [3, 12, 48]}
    tokenizer = zoo.load(models["dct"])
    tokens = tokenizer.encode(pictures)
    found = report.models[models["dct"]]
    for length in (3, 12):
        decoded = tokenizer.decode(tokens[:, :length], generator=torch.Generator().manual_seed(0))
        by_hand = np.mean([psnr(*pair) for pair in zip(decoded, pictures, strict=True)])
        assert found[f"psnr@{length} tokens"].estimate == pytest.approx(by_hand, rel=1e-5)
        assert found[f"psnr@{length} tokens"].low is not None
    assert found["psnr@48 tokens"] == found["psnr"]
    assert found["psnr@3 tokens"].estimate < found["psnr@12 tokens"].estimate < found["psnr"].estimate
    assert f"| PSNR, dB; first 12 tokens | – | {found['psnr@12 tokens'].estimate:.2f}" in card_section(report)


def test_lengths_that_nobody_says_are_powers_of_two(suite, corpus, models, monkeypatch):
    spec = zoo.load(models["dct"]).spec
    monkeypatch.setattr(ToyDCT, "has_autoencoder", False)
    init = ToyDCT.__init__

    def unsaid(self, config):
        init(self, config)
        self.spec = dataclasses.replace(spec, trained_lengths=None)

    monkeypatch.setattr(ToyDCT, "__init__", unsaid)
    quick = dataclasses.replace(suite, measures=("psnr",), max_items=2, peers=())
    found = run(quick, models=[models["dct"]], data=corpus).data["prefixes"]
    assert found == {models["dct"]: [1, 2, 4, 8, 16, 32, 48]}
    said = dataclasses.replace(quick, prefixes=(5, 48, 99), max_prefix_items=1)
    report = run(said, models=[models["dct"]], data=corpus)
    assert report.data["prefixes"] == {models["dct"]: [5, 48]}
    assert report.models[models["dct"]]["psnr@5 tokens"].low is None  # one picture has no interval


def test_peers_have_at_most_the_bits_of_the_tokens(report, models):
    closeness = {"JPEG": [], "WebP": []}
    for model in ("dct", "fsq"):  # the second has more bits
        bits = estimates(report, models[model])["bits"]
        for codec in ("JPEG", "WebP"):
            name = f"{codec}, {bits:.0f} bits"
            found = estimates(report, name)
            assert 0.5 * bits < found["bits"] <= bits
            assert found["file_bits"] > found["bits"]
            assert 1 <= found["coded_side"] <= SIZE
            assert report.settings[name]["bits_of"] == [models[model]]
            closeness[codec].append(found["psnr"])
    assert all(10 < fewer < more for fewer, more in closeness.values())


def test_decode_options_are_those_that_a_model_declares(suite, corpus, models):
    quick = dataclasses.replace(suite, measures=("psnr",), peers=(), models=(models["dct"], models["fsq"]))
    more = (Variant("careful", models["dct"], {"steps": 100}),)
    report = run(dataclasses.replace(quick, decode={"steps": 2}, variants=more), data=corpus)
    plain, careful = (estimates(report, name)["psnr"] for name in (models["dct"], "careful"))
    assert careful > plain + 0.3
    assert report.settings[models["dct"]]["decode"] == {"steps": 2}
    assert report.settings["careful"]["decode"] == {"steps": 100}
    assert report.settings[models["fsq"]]["decode"] == {}
    for decode, message in (
        ({"stepps": 2}, "'stepps', which no model declares; did you mean 'steps'"),
        ({"steps": "many"}, "steps must be int"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(dataclasses.replace(quick, decode=decode), data=corpus)
    with pytest.raises(ConfigError, match="'steps', which no model declares"):
        run(dataclasses.replace(quick, decode={"steps": 2}), models=[models["fsq"]], data=corpus)
    with pytest.raises(ConfigError, match="have one name"):
        run(dataclasses.replace(quick, variants=(Variant(models["fsq"], models["dct"], {}),)), data=corpus)


def test_what_is_drawn_depends_on_the_seed_alone(suite, corpus, models):
    quick = dataclasses.replace(suite, measures=("psnr",), peers=())
    first, again, other = (
        estimates(run(dataclasses.replace(quick, **change), models=[models["dct"]], data=corpus), models["dct"])
        for change in ({}, {"batch_size": 8}, {"seed": 1})
    )
    for key in ("psnr", "psnr@3 tokens"):
        assert first[key] == pytest.approx(again[key], rel=1e-6)
        assert first[key] != pytest.approx(other[key], rel=1e-6)


def test_flextok_is_decoded_by_its_options_and_the_suites_seed(suite, corpus, tmp_path):
    tokenizer = tiny_flextok.make()
    zoo.save(tokenizer, tmp_path / "flextok")
    name = str(tmp_path / "flextok")
    settings = {"decode": {"steps": 1, "guidance": 1, "adaptive_guidance": False}, "seed": 3, "max_items": 2}
    report = run(dataclasses.replace(suite, measures=("psnr",), peers=(), **settings), models=[name], data=corpus)
    assert list(report.models) == [f"{name}: autoencoder alone", name]
    assert report.data["prefixes"] == {name: [1, 2, 4, 8]}
    assert report.settings[name]["seed"] == 3
    photos = balanced(photos_in(corpus, "test.jsonl"), lambda photo: photo.source, lambda photo: photo.key, 2)
    pictures = torch.stack([read_image(corpus / photo.name, size=tokenizer.config.image_size) for photo in photos])
    tokens = tokenizer.encode(pictures)
    for length, key in ((2, "psnr@2 tokens"), (8, "psnr")):
        made = tokenizer.decode(tokens[:, :length], steps=1, guidance=1, seed=3)
        by_hand = np.mean([psnr(*pair) for pair in zip(made, pictures, strict=True)])
        assert estimates(report, name)[key] == pytest.approx(by_hand, rel=1e-4)


def test_any_function_with_and_without_bits(suite, corpus):
    names = [f"{__name__}:{name}" for name in ("half", "half_with_bits")]
    report = run(dataclasses.replace(suite, size=SIZE, measures=("psnr",)), models=names, data=corpus)
    assert list(report.models) == [*names, f"JPEG, as {names[1]}", f"WebP, as {names[1]}"]
    assert estimates(report, names[0])["psnr"] == estimates(report, names[1])["psnr"]
    assert estimates(report, names[1])["bits"] == 900
    for name, message in ((nothing, "must make finite floating-point pictures"), (twice, "bits of each of 1 pictures")):
        with pytest.raises(InputError, match=message):
            run(suite, models=[f"{__name__}:{name.__name__}"], data=corpus)


def test_models_of_several_sizes_need_one_to_be_measured_at(suite, corpus, models):
    quick = dataclasses.replace(suite, measures=("psnr",), peers=())
    both = [models["fsq"], models["small"]]
    with pytest.raises(ConfigError, match=r"takes 32 × 32, .* takes 8 × 8: measure them apart, or give"):
        run(quick, models=both, data=corpus)
    report = run(dataclasses.replace(quick, size=24), models=both, data=corpus)
    assert report.data["size"] == [24, 24]
    assert all(math.isfinite(report.models[name]["psnr"].estimate) for name in both)


def test_st_lpips_is_of_its_weights(suite, corpus, models, originals, tmp_path):
    file = str(tmp_path / "made.pth")
    torch.save(made_tensors(), file)
    quick = dataclasses.replace(suite, measures=("st_lpips",), peers=(), max_items=2, st_lpips=file)
    report = run(quick, models=[models["fsq"]], data=corpus)
    network, tokenizer = STLPIPS(file), zoo.load(models["fsq"])
    names = report.pictures["names"].values()
    chosen = torch.stack([pixels for pixels, photo in zip(*originals, strict=True) if photo.name in names])
    with torch.no_grad():
        distance = PerceptualDistance(network, network.channel_weights)
        expected = distance(tokenizer.decode(tokenizer.encode(chosen)), chosen).mean()
    assert estimates(report, models["fsq"])["st_lpips"] == pytest.approx(float(expected), rel=1e-4)
    assert report.data["networks"]["st_lpips"]["sha256"] == network.digest
    assert "which is not LPIPS" in report.protocol


def test_what_cannot_be_measured_is_null_with_the_reason(suite, corpus, models, tmp_path):
    lacking = dataclasses.replace(
        suite,
        measures=("psnr", "ssim", "st_lpips", "feature_distance"),
        features=Network(NETWORK | {"pretrained": True, "file": str(tmp_path / "none.safetensors")}, "a command"),
        st_lpips=str(tmp_path / "none.pth"),
        max_items=2,
    )
    report = run(lacking, models=[models["small"]], data=corpus)
    figures = report.models[models["small"]]
    assert "at least 11 × 11, got 8 × 8" in figures["ssim"].reason
    assert "none.pth is not a file" in figures["st_lpips"].reason
    assert "Make it with `a command`" in figures["feature_distance"].reason
    assert "frechet_distance" not in figures
    assert math.isfinite(figures["psnr"].estimate)
    jpeg = report.models["JPEG, 16 bits"]["psnr"]
    assert jpeg.reason == "no JPEG has as few as 16 bits."
    assert report.data["not_measured"].keys() == {"ssim", "st_lpips", "feature_distance"}
    write_report(report, tmp_path / "r.json")
    assert "NaN" not in (tmp_path / "r.json").read_text()


def test_equal_pictures_have_a_bounded_psnr_and_are_counted(suite, corpus):
    report = run(dataclasses.replace(suite, measures=("psnr",), size=SIZE), models=["torch:clone"], data=corpus)
    assert report.models["torch:clone"]["psnr"].estimate == 100
    assert report.models["torch:clone"]["exact"].estimate == 1


def test_a_report_survives_its_file_and_repeats(report, suite, corpus, models, tmp_path):
    write_report(report, tmp_path / "r.json")
    assert read_report(tmp_path / "r.json") == report
    assert (tmp_path / "r.json").stat().st_size < 60_000  # pictures are on the page alone
    again = run(suite, models=[models["fsq"]], data=corpus)
    timed = {"encode_per_second", "decode_per_second"}
    for name, figures in again.models.items():
        assert {key: figures[key] for key in figures.keys() - timed} == {
            key: report.models[name][key] for key in figures.keys() - timed
        }


def test_what_does_not_fit_is_refused(suite, corpus, models, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="tokenizes speech, this suite is for image"):
        run(suite, models=[models["speech"]], data=corpus)
    with pytest.raises(ConfigError, match="name at least one model"):
        run(suite, models=[], data=corpus)
    two = NETWORK | {"layers": ["pooled", "layer1"]}
    with pytest.raises(ConfigError, match="features must be of one layer"):
        run(dataclasses.replace(suite, features=Network(two)), models=[models["fsq"]], data=corpus)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"make the folder with `zoo data images`, or point --data at a folder of"):
        run(suite)
