"""The video suite on a few clips: figures by hand, frame by frame, H.264 of as many bits, the page."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

import zoo
from zoo.components.features import build
from zoo.data.media import write_mp4
from zoo.errors import ConfigError, InputError
from zoo.evaluation import read_report, read_suite, run, write_report
from zoo.evaluation.kinds import suite_kind
from zoo.evaluation.suites.image.codecs import encode_within
from zoo.evaluation.suites.image.config import Group, Network
from zoo.evaluation.suites.image.video.clips import clips_in
from zoo.evaluation.suites.image.video.codecs import CODECS
from zoo.metrics.feature_distance import feature_vectors
from zoo.metrics.image import ssim
from zoo.metrics.video import flicker

SUITE = Path(__file__).parents[2] / "eval" / "video.yaml"
NETWORK = {"kind": "timm", "model": "test_resnet", "layers": ["pooled"], "pretrained": False}
SIZE, FRAMES = 32, 6


def moving(frames, seed):
    """Return a bright bar that wanders over a ramp."""
    clip = torch.linspace(0, 0.5, SIZE).expand(3, frames, SIZE, SIZE).clone()
    for number in range(frames):
        clip[:, number, :, (3 * seed + 2 * number) % SIZE] = 1
    return clip


def dim(clips):
    return clips / 2


def first(clips):
    """Return clips whose first frame is as it was."""
    return torch.cat([clips[:, :, :1], clips[:, :, 1:] / 2], 2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for seed, frames in enumerate((14, 7, 6, 3)):
        write_mp4(folder / f"{seed}.mp4", moving(frames, seed), 12)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tokenizers = {"video": toy.make("video", size=(4, SIZE, SIZE)), "image": toy.make("image", size=(SIZE, SIZE))}
    with toy.registered():
        for name, tokenizer in tokenizers.items():
            zoo.save(tokenizer, folder / name)
        yield {name: str(folder / name) for name in tokenizers}


@pytest.fixture(scope="module")
def suite(models):
    whole = read_suite(SUITE)
    return dataclasses.replace(
        whole,
        measures=("psnr", "ssim", "flicker", "feature_distance", "frechet_distance"),
        features=Network(NETWORK),
        frame_models=(models["image"],),
        groups=(),
        num_frames=FRAMES,
        size=SIZE,
        batch_size=3,
        num_examples=2,
        bootstrap=dataclasses.replace(whole.bootstrap, num_resamples=50),
    )


@pytest.fixture(scope="module")
def report(suite, corpus, models):
    return run(suite, models=[models["video"], f"{__name__}:dim"], data=corpus)


@pytest.fixture(scope="module")
def originals(corpus):
    clips, too_short = clips_in(corpus, "test.jsonl", FRAMES, 12.0, None)
    assert [clip.name for clip in clips] == [f"{n}.mp4, frame {k}" for n, k in ((0, 0), (0, 6), (1, 0), (2, 0))]
    assert too_short == 1
    clips.sort(key=lambda clip: clip.key)
    return torch.stack([clip.read(FRAMES, 12.0, (SIZE, SIZE)) for clip in clips])


def test_figures_are_those_of_single_clips_by_hand(report, models, originals):
    tokenizer = zoo.load(models["video"])
    made = tokenizer.decode(tokenizer.encode(originals))
    found = {name: figure.estimate for name, figure in report.models[models["video"]].items()}
    errors = (made - originals).square().mean((1, 3, 4))
    assert found["psnr"] == pytest.approx(float((-10 * errors.log10()).mean()), rel=1e-4)
    frames = [clips.transpose(1, 2).flatten(0, 1) for clips in (made, originals)]
    assert found["ssim"] == pytest.approx(float(ssim(*frames).mean()), rel=1e-4)
    assert found["flicker"] == pytest.approx(float(flicker(made, originals).mean()), rel=1e-4)
    network = build(NETWORK)
    rows = [feature_vectors(network, each, "pooled").unflatten(0, (-1, FRAMES)).mean(1) for each in frames]
    assert found["feature_distance"] == pytest.approx(float((rows[0] - rows[1]).square().sum(1).mean()), rel=1e-3)
    assert "neither is FVD or rFVD" in report.protocol
    assert "1 shots are shorter than a clip" in report.protocol
    assert report.models[models["video"]]["psnr"].low < found["psnr"]


def test_frames_that_are_made_exactly_count_for_100_db(suite, corpus):
    report = run(
        dataclasses.replace(suite, measures=("psnr",), peers=(), frame_models=()),
        models=[f"{__name__}:first"],
        data=corpus,
    )
    found = report.models[f"{__name__}:first"]
    assert found["exact"].estimate == pytest.approx(1 / FRAMES)
    assert 100 / FRAMES < found["psnr"].estimate < 100
    assert "100 dB" in report.protocol


def test_what_tokens_take(report, models):
    found = {name: figure.estimate for name, figure in report.models[models["video"]].items()}
    tokens = 2 * 4 * 8 * 8  # of two windows of four frames
    assert found["tokens"] == tokens
    assert found["bits"] == tokens * 2 * math.log2(16)
    assert found["bits_per_pixel"] == pytest.approx(found["bits"] / (FRAMES * SIZE**2))
    assert found["bits_per_second"] == pytest.approx(found["bits"] * 12 / FRAMES)
    assert 0 < found["codebook_use"] <= 100
    assert found["encode_per_second"] > 0


def test_frame_by_frame(report, models, originals):
    tokenizer = zoo.load(models["image"])
    made = torch.stack([tokenizer.decode(tokenizer.encode(clip.transpose(0, 1))).transpose(0, 1) for clip in originals])
    found = report.models[f"{models['image']}, frame by frame"]
    errors = (made - originals).square().mean((1, 3, 4))
    assert found["psnr"].estimate == pytest.approx(float((-10 * errors.log10()).mean()), rel=1e-4)
    assert found["bits"].estimate == FRAMES * 64 * math.log2(16)


def test_a_function_and_codecs_of_as_many_bits(report, models):
    dimmed = report.models[f"{__name__}:dim"]
    assert dimmed["flicker"].estimate == pytest.approx(0.5, rel=1e-4)
    assert "bits" not in dimmed
    peers = [name for name in report.models if name.startswith("H.264")]
    assert len(peers) == 2, "of the tokenizer's bits, and of those frame by frame"
    for name in peers:
        (of,) = report.settings[name]["bits_of"]
        assert 0 < report.models[name]["bits"].estimate <= report.models[of]["bits"].estimate


def test_a_page_has_the_clips(report, tmp_path):
    suite_kind("video").page(report, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("data:image/gif;base64,") == 2 * (1 + len(report.models))
    assert "frame by frame" in text
    write_report(report, tmp_path / "x.json")
    assert read_report(tmp_path / "x.json").models == report.models


def test_h264_counts_what_a_decoder_needs():
    codec = CODECS["H264"]
    clip = moving(8, 0)
    many, few = codec.encode(clip, 45), codec.encode(clip, 10)
    assert codec.payload(few) < codec.payload(many) < len(many) - 500, "x264 writes its settings into the stream"
    assert codec.decode(many).shape == clip.shape
    assert (codec.decode(many) - clip).abs().mean() < 0.05
    coded = encode_within(clip, 8 * 600, codec)
    assert coded.bits <= 8 * 600
    assert coded.pixels.shape == clip.shape
    with pytest.raises(InputError, match=r"no H\.264 has as few as 8 bits"):
        encode_within(clip, 8, codec)


def test_flicker():
    clip = torch.rand(2, 3, 5, 4, 4)
    still = clip[:, :, :1].expand_as(clip)
    assert flicker(clip, clip).tolist() == [0, 0]
    np.testing.assert_allclose(flicker(still, clip), [1, 1], rtol=1e-5)
    np.testing.assert_allclose(flicker(clip / 2 + 0.3, clip), [0.5, 0.5], rtol=1e-4)
    noisy = still + 0.1 * torch.rand_like(clip)
    assert (flicker(noisy, still) > 1).all(), "of an original that stands still, a grey level counts"
    with pytest.raises(InputError, match="T at least 2"):
        flicker(clip[:, :, :1], clip[:, :, :1])


def test_suites_that_cannot_be(suite, corpus, models):
    for changes, message in (
        ({"num_frames": 1}, "num_frames must be at least 2"),
        ({"stride": 0}, "stride at least 1"),
        ({"frame_rate": 0.0}, "frame_rate must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(suite, **changes)
    with pytest.raises(InputError, match="has 99 frames"):
        run(dataclasses.replace(suite, num_frames=99), models=[models["video"]], data=corpus)
    with pytest.raises(ConfigError, match="steps"):
        run(dataclasses.replace(suite, frame_decode={"steps": 3}), models=[models["video"]], data=corpus)
    named = dataclasses.replace(suite, groups=(Group("film", ("bunny",)),))
    assert named.for_own(corpus, None).groups == ()
