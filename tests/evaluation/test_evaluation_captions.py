"""The suite of captions: which caption is given to what, what is compared, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_textok import make, picture

import zoo
from zoo import resources
from zoo.cli import main
from zoo.components.quantizers import IdentityConfig
from zoo.errors import ConfigError, InputError
from zoo.evaluation import read_suite, run
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.report import card_section, read_report
from zoo.evaluation.suite import DataFolder
from zoo.evaluation.suites.image.captions import runner
from zoo.evaluation.suites.image.captions.config import HOWS, CaptionSuite
from zoo.evaluation.suites.image.config import ImageFiles
from zoo.metrics.image import psnr

CAPTIONS = ["a red ball", "a cat", "two small boats", "a cat", "a tree"]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for number, caption in enumerate(CAPTIONS):
        pixels = (picture(number).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        (root / f"{number}.txt").write_text(caption)
    return root


@pytest.fixture
def models(tmp_path):
    """Return a model that reads captions, its twin that does not, and a continuous one."""
    made = {
        "mine": make(),
        "twin": make(text_in="none"),
        "smooth": make(quantizer=IdentityConfig(3)),
    }
    for name, tokenizer in made.items():
        if name != "twin":
            tokenizer.keep_captions(list(dict.fromkeys(CAPTIONS)))
        zoo.save(tokenizer, tmp_path / name)
    return {name: str(tmp_path / name) for name in made}


def suite(**changes):
    values = {"measures": ("psnr", "ssim"), "batch_size": 3, "num_examples": 2, "bootstrap": Bootstrap(30)} | changes
    return CaptionSuite("captions", "Captions", ImageFiles("captions"), (), **values)


def test_each_is_measured_with_its_caption_none_and_anothers(folder, models):
    mine, twin, smooth = models.values()
    report = run(suite(baseline=twin), models=[mine, twin, smooth], data=folder)
    found = report.models[mine]
    assert {f"psnr@{how}" for how in HOWS} | {f"ssim@{how}" for how in HOWS} <= found.keys()
    assert {name for name in report.models[twin] if "@" in name} == {"psnr@none", "ssim@none"}
    tokenizer = zoo.load(mine)
    photos = sorted(runner.photos_in(folder, "test.jsonl"), key=lambda photo: photo.key)
    captions = [photo.pictures.read(photo.index).caption for photo in photos]
    others = runner._others(captions, photos)
    assert all(other != caption for other, caption in zip(others, captions, strict=True))
    x = torch.stack([photo.read(photo.content(), (16, 16)) for photo in photos])
    tokens = tokenizer.encode(x, caption=captions)
    expected = {
        "true": tokenizer.decode(tokens),
        "none": tokenizer.decode(tokenizer.encode(x)),
        "shuffled": tokenizer.decode(tokenizer.encode(x, caption=others)),
        "swapped": tokenizer.decode(tokens, caption=others),
    }
    values = {how: psnr(made, x) for how, made in expected.items()}
    for how, value in values.items():
        assert found[f"psnr@{how}"].estimate == pytest.approx(float(value.mean()), abs=1e-4)
        assert found[f"psnr@{how}"].low <= found[f"psnr@{how}"].estimate <= found[f"psnr@{how}"].high
    assert found["gain"].estimate == pytest.approx(float((values["true"] - values["none"]).mean()), abs=1e-4)
    assert found["loss"].estimate == pytest.approx(float((values["none"] - values["shuffled"]).mean()), abs=1e-4)
    plain = zoo.load(twin)
    baseline = psnr(plain.decode(plain.encode(x)), x)
    over = float((values["true"] - baseline).mean())
    assert found["over_baseline"].estimate == pytest.approx(over, abs=1e-4)
    assert "over_baseline" not in report.models[twin]
    assert found["bits"].estimate == pytest.approx(5 * math.log2(200))
    assert found["caption_bits"].estimate == pytest.approx(8 * np.mean([len(c) for c in captions]))
    assert "caption_bits" not in report.models[twin], "which needs none"
    assert report.models[smooth]["latents"].estimate == 15
    assert "not counted" in card_section(report)


def test_the_command_writes_table_and_page(folder, models, tmp_path, capsys):
    values = {
        "kind": "captions",
        "title": "Mine",
        "data": {"file": "pictures"},
        "models": [models["mine"]],
        "measures": ["psnr"],
        "bootstrap": {"num_resamples": 20},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    files = ["--out", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    main(["eval", str(tmp_path / "mine.yaml"), *files])
    assert "another's caption" in " ".join(capsys.readouterr().out.split())
    assert read_report(tmp_path / "r.json").suite == "captions"
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<img") == 5 * 5  # of five pictures the original and what four ways make of it


def test_what_cannot_be_measured_is_refused(folder, models, tmp_path):
    with pytest.raises(ConfigError, match="must be one of the models"):
        run(replace(suite(baseline="other"), models=(models["mine"],)), data=folder)
    (folder / "0.txt").unlink()
    with pytest.raises(InputError, match=r"1 of 5 pictures have no caption, such as 0\.png"):
        run(suite(), models=[models["mine"]], data=folder)
    for number in range(5):
        (folder / f"{number}.txt").write_text("a cat")
    with pytest.raises(InputError, match="the same caption"):
        run(suite(), models=[models["mine"]], data=folder)
    zoo.save(make(image_size=24), tmp_path / "larger")
    with pytest.raises(ConfigError, match="one size"):
        run(suite(), models=[models["mine"], str(tmp_path / "larger")], data=folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_items": 1}, "at least 2"),
        ({"batch_size": 0}, "batch_size"),
        ({"measures": ()}, "at least one"),
        ({"measures": ("frechet_distance",)}, "of sets"),
        ({"measures": ("feature_distance",)}, "of a network"),
    ],
)
def test_bad_suites_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        suite(**changes)


def test_a_missing_judge_is_told(folder, models, tmp_path):
    told = suite(measures=("psnr", "st_lpips"), st_lpips=str(tmp_path / "nothing.pth"))
    report = run(told, models=[models["mine"]], data=folder)
    assert report.models[models["mine"]]["st_lpips@true"].reason
    assert "Not measured: st_lpips" in report.protocol


def test_the_shipped_suite_is_read():
    shipped = read_suite(resources.named_suite("captions"))
    assert isinstance(shipped.data, DataFolder)
