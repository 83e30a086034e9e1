"""The image suite on pictures of one's own, suites of one's own, and the command."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import toy
import yaml
from cli_files import ok
from PIL import Image
from toy_pictures import DCTConfig, ToyDCT, write_pictures

import zoo
from zoo.errors import ConfigError, InputError
from zoo.evaluation import read_suite, run
from zoo.evaluation.suites.image.photos import photos_in

SUITE = Path(__file__).parents[2] / "eval" / "image.yaml"
SIZE = 32
HALF = f"{__name__}:half"


def half(pictures):
    return pictures / 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def suite():
    whole = read_suite(SUITE)
    quick = dataclasses.replace(whole.bootstrap, num_resamples=20)
    return dataclasses.replace(whole, measures=("psnr",), peers=(), size=SIZE, bootstrap=quick)


class TestOwnPictures:
    def test_any_layout(self, corpus, tmp_path):
        assert len(photos_in(corpus / "sky", "test.jsonl")) == 4
        assert len(photos_in(corpus / "test.jsonl", "none.jsonl")) == 8
        assert [photo.name for photo in photos_in(corpus / "sky" / "0.png", "test.jsonl")] == ["0.png"]
        for split, count in (("train", 3), ("val", 2)):
            (tmp_path / split).mkdir()
            for number in range(count):
                Image.new("RGB", (20, 20)).save(tmp_path / split / f"{number}.png")
        assert {photo.name for photo in photos_in(tmp_path, "test.jsonl")} == {"val/0.png", "val/1.png"}
        (tmp_path / "none").mkdir()
        with pytest.raises(InputError, match="no pictures"):
            photos_in(tmp_path / "none", "test.jsonl")

    def test_a_folder_is_called_by_its_name_and_has_no_groups(self, suite, corpus):
        report = run(suite, models=[HALF], data=corpus / "sky")
        assert report.title.endswith(": sky")
        assert report.data["groups"] == {}
        assert report.data["pictures"] == 4
        assert not any("@" in key for key in report.models[HALF])

    def test_transparent_ones_lie_on_white(self, suite, tmp_path):
        Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
        report = run(suite, models=[HALF], data=tmp_path)
        assert report.models[HALF]["psnr"].estimate == pytest.approx(10 * math.log10(4), rel=1e-4)

    def test_what_is_no_picture_is_named(self, suite, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no picture")
        with pytest.raises(InputError, match=r"broken\.png: .* image"):
            run(suite, models=[HALF], data=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_items": 0}, "max_items must be at least 1"),
        ({"measures": ["lpips"]}, "must be one of 'psnr'"),
        ({"prefixes": [4, 2]}, "prefixes must ascend"),
        ({"features": None}, "are of a network: name it under features"),
        ({"peers": ["GIF"]}, "must be one of 'JPEG'"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path, change, message):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(SUITE.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        read_suite(path)


def test_the_command(corpus, tmp_path, capsys):
    model = str(zoo.save(ToyDCT(DCTConfig(size=SIZE)).eval(), tmp_path / "dct"))
    settings = yaml.safe_load(SUITE.read_text()) | {"measures": ["psnr"], "bootstrap": {"num_resamples": 20}}
    (tmp_path / "image.yaml").write_text(yaml.safe_dump(settings))
    files = {"--out": tmp_path / "r.json", "--html": tmp_path / "r.html", "--markdown": tmp_path / "r.md"}
    options = [str(part) for pair in files.items() for part in pair]
    with toy.registered(ToyDCT):
        ok("eval", str(tmp_path / "image.yaml"), "--models", model, "--data", str(corpus), *options)
    shown = capsys.readouterr()
    for text in ("PSNR, dB", "first 12", "bits a pixel", "JPEG"):
        assert text in shown.out
    assert json.loads(files["--out"].read_text())["models"][model]["tokens"] == 48
    assert "<img" in files["--html"].read_text()
    assert "PSNR, dB" in files["--markdown"].read_text()
