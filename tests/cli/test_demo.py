"""The demo shows every tokenizer that ships."""

import matplotlib as mpl
import pytest
import soundfile
import tiny_flextok
import tiny_larp
import tiny_textok
import torch
import toy
from PIL import Image
from tiny_stabletoken import TINY_DECODER, make

import zoo
from zoo import pictures, registry
from zoo.cli import demo
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import FSQConfig
from zoo.data.media import read_audio, read_video
from zoo.families.autoencoder_kl import AutoencoderKLConfig, AutoencoderKLTokenizer
from zoo.generator import GeneratorConfig, TokenGenerator


def test_models_are_shown_by_name(tmp_path, capsys):
    # All that ship are shown in `tests/test_package.py`.
    assert demo.main(["beast", "fast.default", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    names = ["beast.default.png", "fast.default.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(name in shown for name in names)
    assert mpl.get_backend().lower() == "agg"


@pytest.mark.parametrize("decoder", [None, TINY_DECODER])
def test_speech_is_heard_where_there_is_a_decoder(tmp_path, decoder, monkeypatch):
    wave, rate = read_audio(demo.SAMPLES / "austen.flac")
    samples = tmp_path / "samples"
    samples.mkdir()
    soundfile.write(samples / "austen.flac", wave[0, : 2 * rate].numpy(), rate)  # two seconds do
    monkeypatch.setattr(demo, "SAMPLES", samples)
    out = tmp_path / "out"
    out.mkdir()
    tokenizer = make(decoder=decoder)
    (row,) = demo.show_speech(tokenizer, out)
    names = [f"{tokenizer.name}.{kind}" for kind in ("recording", "gaussian", "brown")]
    wanted = {f"{tokenizer.name}.png", *(f"{name}.wav" for name in names)}
    if decoder is not None:
        wanted |= {f"{name}.decoded.wav" for name in names}
    assert {path.name for path in row.files} == {path.name for path in out.iterdir()} == wanted
    recording, rate = read_audio(demo.SAMPLES / "austen.flac")
    for name in names:
        heard, found = read_audio(out / f"{name}.wav")
        assert (heard.shape, found) == (recording.shape, rate)
        if decoder is not None:
            spoken, found = read_audio(out / f"{name}.decoded.wav")
            assert (spoken.shape, found) == (recording.shape, rate)
            if name.endswith("recording"):  # the noisy ones were encoded before they had 16 bits
                expected = tokenizer.decode(tokenizer.encode(heard)).clamp(-1, 1)
                torch.testing.assert_close(spoken, expected, rtol=0, atol=2**-15)
    with Image.open(row.files[0]) as picture:
        width, height = picture.size
    assert (width > 1.5 * height) == (decoder is not None)  # two columns or one
    assert ("It makes no speech" in row.remark) == (decoder is None)


def tiny_image_tokenizers():
    flextok = tiny_flextok.make()
    ordered = {"1 token, 2 bytes", "4 tokens, 8 bytes", "8 tokens, 16 bytes"}
    conv = ConvConfig(block_channels=(8, 12), layers_per_block=1, norm_groups=4)
    with_ids = AutoencoderKLTokenizer(AutoencoderKLConfig(16, conv, FSQConfig((5, 5, 5)))).eval()
    continuous = AutoencoderKLTokenizer(AutoencoderKLConfig(16, conv)).eval()
    return [(flextok, ordered), (with_ids, {"64 tokens, 56 bytes"}), (continuous, {"from its latents"})]


def test_a_picture_is_shown_beside_what_its_first_tokens_say(tmp_path, monkeypatch):
    drawn = {}
    draw = pictures.draw_images
    monkeypatch.setattr(pictures, "draw_images", lambda images, title: drawn.update(images) or draw(images, title))
    for number, (tokenizer, names) in enumerate(tiny_image_tokenizers()):
        tokenizer.name = f"{tokenizer.family}.{number}"
        drawn.clear()
        (row,) = demo.SHOWS["image"](tokenizer, tmp_path)
        assert set(drawn) == {"original", *names}
        assert row.files == [tmp_path / f"{tokenizer.name}.png"]
        with Image.open(row.files[0]) as picture:
            assert picture.width > 250 * len(drawn)
        if tokenizer.spec.is_continuous:
            continue
        tokens = tokenizer.encode(drawn["original"])
        assert (row.tokens, row.bits) == (tokens.ids.numel(), float(tokens.num_bits))
        assert " ".join(map(str, tokens.tolist()[0][:8])) in row.remark
        for name, image in drawn.items():
            if name != "original":
                expected = tokenizer.decode(tokens[:, : int(name.split()[0])])[0]
                assert torch.equal(image, expected)


def test_a_drawing_is_shown_with_its_caption_without_and_with_another(tmp_path, monkeypatch):
    drawn = {}
    draw = pictures.draw_images
    monkeypatch.setattr(pictures, "draw_images", lambda images, title: drawn.update(images) or draw(images, title))
    tokenizer = tiny_textok.make(text_len=24)
    (row,) = demo.SHOWS["image"](tokenizer, tmp_path)
    own, other = (demo.SAMPLES / "drawing.txt").read_text(encoding="utf-8").splitlines()
    assert list(drawn) == ["original", f"“{own}”", "without its caption", f"decoded with “{other}”"]
    tokens = tokenizer.encode(drawn["original"], caption=own)
    expected = [tokenizer.decode(tokens), tokenizer.decode(tokenizer.encode(drawn["original"]))]
    expected.append(tokenizer.decode(tokens, caption=other))
    for image, wanted in zip([*drawn.values()][1:], expected, strict=True):
        assert torch.equal(image, wanted[0])
    assert (row.tokens, row.bits) == (5, float(tokens.num_bits))
    assert f"the caption, {len(own)} bytes" in row.remark
    drawn.clear()
    demo.SHOWS["image"](tiny_textok.make(text_in="none"), tmp_path)
    assert list(drawn) == ["original", "5 tokens, 5 bytes"], "without text it is a tokenizer like others"


def test_the_help_says_what_it_is_for(capsys):
    with pytest.raises(SystemExit):
        demo.main(["--help"])
    assert "folder for pictures" in capsys.readouterr().out


@pytest.fixture
def drawing(tmp_path):
    """Names of a generator of clips and of one that continues them, which are there like those that ship."""
    tokenizer = tiny_larp.make()
    facts = {"family": "larp", "modality": "video", "licence": "MIT", "description": "", "trained_on": ""}
    facts |= {"num_parameters": 1}
    names = {"larp.tiny_ar": {}, "larp.tiny_ar_fp": {"prefix_tokens": 6, "condition_frames": 3}}
    with toy.registered():
        zoo.save(tokenizer, tmp_path / "larp", name="larp.tiny")
        zoo.register(zoo.ModelEntry("larp.tiny", source=str(tmp_path / "larp"), **facts))
        own = zoo.load("larp.tiny")
        for seed, (name, config) in enumerate(names.items()):
            torch.manual_seed(seed)
            made = TokenGenerator(GeneratorConfig("video", 32, 6, width=16, num_layers=1, num_heads=2, **config))
            with torch.no_grad():
                made.heads[0].weight.normal_()
            zoo.save(made.of(own), tmp_path / name, name=name)
            zoo.register(zoo.ModelEntry(name, source=str(tmp_path / name), tokenizer="larp.tiny", **facts))
        yield list(names)


def test_what_generators_draw_is_shown_as_soon_as_they_are_there(drawing, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(registry, "list_models", lambda: ["larp.tiny"])
    monkeypatch.setattr(registry, "list_generators", lambda: drawing)
    assert demo.main(["--out", str(out)]) == 0, "no names: all that ship"
    shown = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.gif" for name in ("larp.tiny", *drawing)]
    clips = zoo.load("larp.tiny").decode(zoo.load_generator(drawing[0]).sample(4, seed=0))
    found, _ = read_video(out / "larp.tiny_ar.gif")
    assert found.shape == (3, 4, 256, 4 * 256), "side by side, and large enough to be looked at"
    assert (found[:, :, ::32, ::32] - torch.cat(list(clips), 3)).abs().mean() < 0.03, "256 colours"
    continued, _ = read_video(out / "larp.tiny_ar_fp.gif")
    film, _ = read_video(demo.SAMPLES / "bunny.mp4", size=8)
    assert continued.shape[2:] == (256, 5 * 256), "the film, and four ways in which it may go on"
    assert (continued[:, 0, ::32, :256:32] - film[:, 0]).abs().mean() < 0.03
    assert "whose first 3 frames they know" in " ".join(shown.split())


def test_two_seconds_of_film_are_shown_beside_what_comes_back(tmp_path):
    tokenizer = toy.make("video", size=(16, 32, 32))
    (row,) = demo.show_videos(tokenizer, tmp_path)
    clip, rate = read_video(demo.SAMPLES / "bunny.mp4", size=32)
    tokens = tokenizer.encode(clip)
    made = tokenizer.decode(tokens)[0]
    assert (row.tokens, row.input) == (2 * 16 * 8 * 8, "24 frames of 32 × 32 pixels")
    assert row.error == f"{float((made - clip).square().mean().sqrt() / clip.std()):.1%}"
    shown, _ = read_video(row.files[0])
    assert shown.shape == (3, 24, 256, 512), "large enough to be looked at"
    assert rate == 12
