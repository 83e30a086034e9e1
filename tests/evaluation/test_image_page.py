"""The page of the image suite: pictures inside it, rows of first tokens, curves; and the codecs beside them."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
import toy
from PIL import Image
from toy_pictures import DCTConfig, ToyDCT, write_pictures

import zoo
from zoo.data.media import read_image
from zoo.errors import ConfigError, InputError
from zoo.evaluation import read_report, read_suite, run, write_report
from zoo.evaluation.suites.image.codecs import CODECS, encode_within, sides
from zoo.evaluation.suites.image.page import page

SUITE = Path(__file__).parents[2] / "eval" / "image.yaml"
SIZE = 32


def smooth(size=64):
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small, (size, size), mode="bicubic").clamp(0, 1)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_pictures(folder, 5)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    suite = dataclasses.replace(read_suite(SUITE), measures=("psnr",), num_examples=2, max_prefix_items=5)
    suite = dataclasses.replace(suite, bootstrap=dataclasses.replace(suite.bootstrap, num_resamples=20))
    with toy.registered(ToyDCT):
        zoo.save(ToyDCT(DCTConfig(size=SIZE)).eval(), folder / "dct")
        return run(suite, models=[str(folder / "dct")], data=folder / "test.jsonl")


class Balanced(HTMLParser):
    """Checks that tags are closed, and collects what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_has_its_pictures_inside(report):
    parser = Balanced()
    text = page(report)
    parser.feed(text)
    assert parser.open == []
    # Original, autoencoder, tokens and two codecs; and the first tokens of 3, 12 and 48, and the original again.
    assert len(parser.sources) == 2 * (5 + 4)
    for source in parser.sources:
        kind, _, encoded = source.partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
            assert picture.size == (SIZE, SIZE)
    assert text.count("original</th>") == 2
    for told in ("first 12 tokens", "How it was measured", "3 tokens</th>", " dB</small>"):
        assert told in text
    assert len(re.findall("<polyline", text)) >= 1


def test_pictures_are_what_was_made(report, folder):
    kept = report.pictures
    number = next(iter(kept["names"]))
    original, made = (read_image(kept["made"][name][number]) for name in ("original", str(folder / "dct")))
    error = -10 * (original - made).square().mean().log10()
    assert kept["psnr"][str(folder / "dct")][number] == pytest.approx(float(error), abs=0.1)


def test_a_page_of_a_file_has_no_pictures_and_none_of_another_kind_is_made(report, tmp_path):
    write_report(report, tmp_path / "r.json")
    text = page(read_report(tmp_path / "r.json"))
    assert "<img" not in text
    assert "<svg" in text
    with pytest.raises(ConfigError, match="this is one of the kind 'stab'"):
        page(dataclasses.replace(report, suite="stab"))


class TestCodecs:
    @pytest.mark.parametrize("name", CODECS)
    def test_more_bits_are_closer_and_never_more_than_there_are(self, name):
        picture = smooth()
        errors = []
        for bits in (400, 1600, 6400):
            coded = encode_within(picture, bits, CODECS[name])
            assert coded.bits <= bits < 1.6 * coded.bits + 200
            assert coded.pixels.shape == picture.shape
            errors.append(float((coded.pixels - picture).square().mean()))
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 1e-3

    @pytest.mark.parametrize("name", CODECS)
    def test_few_bits_make_it_code_a_smaller_picture(self, name):
        noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
        few, many = (encode_within(noise, bits, CODECS[name]) for bits in (400, 60_000))
        assert max(few.size) < 64
        assert many.size == (64, 64)
        with pytest.raises(InputError, match="as few as 8 bits"):
            encode_within(noise, 8, CODECS[name])

    @pytest.mark.parametrize("name", CODECS)
    def test_what_counts_is_most_of_a_large_file(self, name):
        noise = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
        coded = encode_within(noise, 1e9, CODECS[name])
        assert coded.quality == CODECS[name].qualities[1]
        assert 0.95 < coded.bits / coded.file_bits < 1

    def test_sizes_end_with_a_single_pixel(self):
        assert sides((8, 4)) == [(8, 4), (6, 3), (4, 2), (3, 1), (2, 1), (1, 1)]
