"""Everything that `encode` accepts becomes the same batch, and everything else a clear error."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.data import media
from zoo.data.actions import read_actions
from zoo.data.inputs import to_batch
from zoo.errors import InputError

RATE = 16000


def batch_of(x, modality, lengths=None, **options):
    if modality == "speech":
        options.setdefault("sample_rate", RATE)
    return to_batch(x, lengths, modality=modality, **options)


def waves(*counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(count, generator=generator) * 1.8 - 0.9 for count in counts]


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def same(x, expected, lengths=None, **options):
    """Check one way of handing over a signal."""
    batch, got = x if isinstance(x, tuple) and isinstance(x[0], torch.Tensor) else batch_of(x, **options)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()
    assert torch.equal(batch, expected)
    assert (got is None) == (lengths is None)
    if lengths is not None:
        assert got.dtype == torch.int64
        assert got.tolist() == lengths


# ------------------------------------------------------------------------------------------------------------- accepted


def test_speech_in_every_form(tmp_path):
    pcm = torch.arange(-32768, 32768, 64).to(torch.int16)
    expected = pcm.float()[None] / 32768
    soundfile.write(tmp_path / "a.wav", pcm.numpy(), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "a.flac", pcm.numpy(), RATE, subtype="PCM_16")
    path = tmp_path / "a.wav"
    wave = expected[0]
    for form in (
        wave,
        expected,
        wave.double(),
        wave.numpy(),
        wave.numpy().astype(">f4"),
        wave.numpy()[::-1].copy()[::-1],
        expected.numpy().astype(np.float64),
        pcm,
        pcm[None],
        pcm.numpy(),
        pcm.int() * 65536,
        pcm.numpy().astype(np.int32) * 65536,
        (wave, RATE),
        (wave.numpy(), float(RATE)),
        (pcm.numpy()[None], np.int64(RATE)),
        (wave, torch.tensor(RATE)),
        path,
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        tmp_path / "a.flac",
        [wave],
        (path,),
        [expected],
    ):
        same(batch_of(form, "speech"), expected)
    mixed = [path, wave, pcm.numpy(), (wave, RATE), path.read_bytes()]
    same(batch_of(mixed, "speech"), expected.expand(5, -1))
    same(batch_of(tuple(mixed), "speech"), expected.expand(5, -1))


def test_uint8_speech_is_centred_on_128():
    for form in (np.array([0, 128, 255], np.uint8), torch.tensor([0, 128, 255], dtype=torch.uint8)):
        same(batch_of(form, "speech"), torch.tensor([[-1, 0, 127 / 128]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    for modality, shape in (("speech", (9,)), ("image", (3, 4, 5)), ("video", (3, 2, 4, 5)), ("action", (4, 2))):
        x = torch.rand(shape).to(dtype)
        same(batch_of(x, modality), x.float()[None])


def test_speech_at_another_rate_or_with_channels(tmp_path):
    stereo = torch.stack(waves(4410, 4410))
    path = tmp_path / "a.wav"
    soundfile.write(path, stereo.T.numpy(), 44100, subtype="FLOAT")
    for x in (path, path.read_bytes(), (stereo, 44100), (stereo.numpy(), 44100)):
        with pytest.raises(InputError, match="mix_down=True"):
            batch_of(x, "speech")
        with pytest.raises(InputError, match=r"44100 Hz, 16000 Hz is expected: pass resample=True"):
            batch_of(x, "speech", mix_down=True)
        expected, rate = media.read_audio(path, sample_rate=RATE, mix_down=True)
        assert rate == RATE
        same(batch_of(x, "speech", mix_down=True, resample=True), expected)
    same(batch_of((stereo, 44100), "speech", sample_rate=44100, mix_down=True), stereo.mean(0, keepdim=True))


def test_s5_speech_as_the_datasets_library_gives_it(tmp_path):
    wave = waves(9)[0]
    path = tmp_path / "a.flac"
    soundfile.write(path, wave.numpy(), RATE)
    read = media.read_audio(path)[0]
    array = read[0].numpy()
    with path.open("rb") as file:
        for x in (
            {"array": array, "sampling_rate": RATE, "path": None},
            {"array": array.astype("f8"), "sampling_rate": RATE},
            {"array": array.tolist(), "sampling_rate": RATE},
            {"array": torch.from_numpy(array), "sampling_rate": float(RATE)},
            {"bytes": path.read_bytes(), "path": "elsewhere.flac"},
            {"bytes": None, "path": str(path)},
        ):
            same(batch_of(x, "speech"), read)
            same(batch_of([x], "speech"), read)
        same(batch_of(file, "speech"), read)
        file.seek(0)
        same(batch_of([file], "speech"), read)
        with pytest.raises(InputError, match=r"nothing left to read: seek\(0\)"):
            batch_of(file, "speech")
    stereo = {"array": np.stack([array, array]), "sampling_rate": 2 * RATE}
    with pytest.raises(InputError, match="mix_down=True"):
        batch_of(stereo, "speech")
    assert batch_of(stereo, "speech", mix_down=True, resample=True)[0].shape == (1, 5)
    for bad in ({}, {"array": array}, {"sampling_rate": RATE}, {"path": None}, {"bytes": 5}):
        with pytest.raises(InputError, match="a mapping of speech has array and sampling_rate"):
            batch_of(bad, "speech")
    with pytest.raises(InputError, match="must be numbers"):
        batch_of({"array": [[1.0], [1.0, 2.0]], "sampling_rate": RATE}, "speech")


def test_s5_open_files(tmp_path):
    wave = waves(9)[0]
    soundfile.write(tmp_path / "a.wav", wave.numpy(), RATE, subtype="FLOAT")
    data = (tmp_path / "a.wav").read_bytes()
    in_front = io.BytesIO(b"in front" + data)
    in_front.seek(8)
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, (tmp_path / "a.wav").open("rb", buffering=0) as raw:
        for file in (io.BytesIO(data), in_front, pipe, raw):
            same(batch_of(file, "speech"), wave[None])
            assert not file.closed
    with (tmp_path / "a.wav").open(encoding="latin-1") as text, pytest.raises(InputError, match="binary mode"):
        batch_of(text, "speech")
    with pytest.raises(InputError, match="cannot be read"):
        batch_of(raw, "speech")


def test_s5_an_axis_of_one_channel():
    batch = torch.stack(waves(9, 9))
    for x in (batch[:, None], batch[:, None].numpy(), [batch[:1, None], batch[1:, None]]):
        same(batch_of(x, "speech"), batch)
    assert torch.equal(batch_of(batch[:, None], "speech", [9, 5])[0], batch_of(batch, "speech", [9, 5])[0])


def test_image_in_every_form(tmp_path):
    array = pixels(12, 16, 3)
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    chw = torch.from_numpy(array).permute(2, 0, 1)
    expected = chw[None] / 255
    read_only = array.copy()
    read_only.flags.writeable = False
    for form in (
        expected,
        expected[0],
        expected[0].numpy(),
        expected.numpy().astype(np.float64),
        array,
        array[None],
        array[::-1][::-1],
        read_only,
        chw,
        chw[None],
        image,
        image.convert("RGBA"),
        Image.open(path),
        path,
        str(path),
        path.read_bytes(),
        [image],
        [path],
    ):
        same(batch_of(form, "image", input_size=(12, 16)), expected)
    same(batch_of([path, image, array, chw, expected, expected[0].numpy()], "image"), expected.expand(6, -1, -1, -1))
    grey = Image.fromarray(array[..., 0])
    same(batch_of(grey, "image"), (chw[0] / 255).expand(1, 3, -1, -1))


def test_transparent_images():
    array = np.concatenate([pixels(4, 5, 3), np.full((4, 5, 1), 7, np.uint8)], axis=2)
    with pytest.raises(InputError, match=r"item 1: .*on_white=True"):
        batch_of([array[..., :3], Image.fromarray(array)], "image")
    batch, _ = batch_of(Image.fromarray(array), "image", on_white=True)
    assert batch.min() > 0.95


def test_video_in_every_form(tmp_path):
    array = pixels(5, 12, 16, 3)
    tchw = torch.from_numpy(array).permute(3, 0, 1, 2)
    expected = tchw[None] / 255
    frames = [Image.fromarray(frame) for frame in array]
    for form in (
        expected,
        expected[0],
        expected.numpy(),
        array,
        array[None],
        tchw,
        frames,
        tuple(frames),
        [frames],
        [array],
    ):
        same(batch_of(form, "video", input_size=(5, 12, 16)), expected)
    same(batch_of([frames, array, tchw], "video", input_size=(12, 16)), expected.expand(3, -1, -1, -1, -1))
    path = tmp_path / "a.mp4"
    media.write_mp4(path, expected[0], 24)
    read, _ = media.read_video(path)
    for form in (path, str(path), path.read_bytes(), [path], read):
        same(batch_of(form, "video"), read[None])
    same(batch_of([path, read], "video"), read.expand(2, -1, -1, -1, -1))


def test_action_in_every_form(tmp_path):
    array = np.random.default_rng(0).normal(0, 100, (6, 3))
    path = tmp_path / "a.npy"
    np.save(path, array)
    expected = torch.from_numpy(array).float()[None]
    for form in (
        array,
        array[None],
        array.astype("f4"),
        torch.from_numpy(array),
        expected,
        path,
        str(path),
        path.read_bytes(),
        [path],
    ):
        same(batch_of(form, "action", input_size=(6, 3)), expected)
    same(batch_of([path, array, expected[0]], "action", input_size=(3,)), expected.expand(3, -1, -1))
    same(batch_of(np.arange(6).reshape(2, 3), "action"), torch.arange(6).reshape(1, 2, 3).float())


def test_sets_of_episodes(tmp_path):
    first, second = np.ones((3, 2), "f4"), np.full((5, 2), 2.0, "f4")
    np.savez(tmp_path / "two.npz", actions=np.concatenate([first, second]), offsets=[0, 3, 8])
    np.savez(tmp_path / "one.npz", actions=second)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "1.npy", first)
    np.save(tmp_path / "folder" / "2.npy", second)
    padded = torch.stack([torch.ones(5, 2), torch.full((5, 2), 2.0)])
    for form in (tmp_path / "two.npz", tmp_path / "folder", read_actions(tmp_path / "two.npz")):
        same(batch_of(form, "action"), padded, [3, 5])
    same(batch_of([first, tmp_path / "one.npz"], "action"), padded, [3, 5])
    with pytest.raises(InputError, match=r"item 1: .*holds 2 episodes"):
        batch_of([first, tmp_path / "two.npz"], "action")
    with pytest.raises(InputError, match=r"item 0: .*does not exist"):
        batch_of([tmp_path / "missing.npz"], "action")


# -------------------------------------------------------------------------------------------------------------- lengths


def test_lists_of_different_lengths_are_padded():
    short, long = waves(5, 9)
    padded = torch.stack([torch.cat([short, torch.zeros(4)]), long])
    same(batch_of([short, long], "speech"), padded, [5, 9])
    actions = [torch.arange(4.0).view(2, 2), torch.arange(10.0).view(5, 2)]
    padded = torch.stack([torch.cat([actions[0], actions[0][-1:].expand(3, -1)]), actions[1]])
    same(batch_of(actions, "action"), padded, [2, 5])


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda n: torch.tensor(n, dtype=torch.int32)])
def test_given_lengths(kind):
    x = torch.stack(waves(9, 9))
    before = x.clone()
    expected = x.clone()
    expected[0, 4:] = 0
    same(batch_of(x, "speech", kind([4, 9])), expected, [4, 9])
    same(batch_of(list(x), "speech", kind([4, 9])), expected, [4, 9])
    assert torch.equal(x, before)
    same(batch_of(x, "speech", kind([9, 9])), x)
    same(batch_of(x[0], "speech", kind([9])), x[:1])
    same(
        batch_of([x[0], x[1, :5]], "speech", kind([4, 5])),
        torch.stack([expected[0], torch.cat([x[1, :5], torch.zeros(4)])]),
        [4, 5],
    )


def test_what_lies_past_the_length_does_not_matter():
    x = torch.rand(2, 6, 3)
    dirty = x.clone()
    dirty[0, 4:] = torch.nan
    dirty[1, 5:] = 1e30
    expected = x.clone()
    expected[0, 4:] = x[0, 3]
    expected[1, 5:] = x[1, 4]
    same(batch_of(dirty, "action", [4, 5]), expected, [4, 5])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([4], r"2 whole numbers.*shape \(1,\)"),
        ([[4, 5]], r"shape \(1, 2\)"),
        (4, r"shape \(\)"),
        ([], "2 whole numbers.*empty"),
        ([4.0, 5.0], "float64"),
        (torch.tensor([4.0, 5.0]), "float32"),
        ([True, True], "bool"),
        (["4", "5"], "2 whole numbers"),
        ([None, 5], "object"),
        ([[4], [5, 6]], "2 whole numbers"),
        ([4, 0], r"lengths\[1\] is 0, it must be from 1 to 9"),
        ([-1, 5], r"lengths\[0\] is -1"),
        ([4, 10], r"lengths\[1\] is 10, it must be from 1 to 9"),
    ],
)
def test_bad_lengths(lengths, message):
    with pytest.raises(InputError, match=message):
        batch_of(torch.stack(waves(9, 9)), "speech", lengths)


def test_lengths_without_values():
    nested = torch.nested.nested_tensor([torch.tensor([9, 5])], layout=torch.jagged)
    for lengths in (torch.zeros(2, dtype=torch.int64, device="meta"), nested, torch.tensor([9, 5]).to_sparse()):
        with pytest.raises(InputError, match="lengths must be 2 whole numbers"):
            batch_of(torch.stack(waves(9, 9)), "speech", lengths)


@pytest.mark.parametrize("modality", ["speech", "image", "action"])
def test_nested_tensors(modality):
    nested = torch.nested.nested_tensor([torch.rand(9, 2), torch.rand(5, 2)], layout=torch.jagged)
    for x in (nested, [nested], (nested, RATE)):
        with pytest.raises(InputError, match=r"is nested: pass a dense one|item 1"):
            batch_of(x, modality)


def test_lengths_where_they_make_no_sense(tmp_path):
    soundfile.write(tmp_path / "a.wav", waves(9)[0].numpy(), RATE)
    for x in (tmp_path / "a.wav", [tmp_path / "a.wav"], (waves(9)[0], RATE), [(waves(9)[0], RATE)]):
        with pytest.raises(InputError, match="leave lengths out"):
            batch_of(x, "speech", [5])
    with pytest.raises(InputError, match="leave them out"):
        batch_of(torch.zeros(1, 3, 4, 4), "image", [2])
    with pytest.raises(InputError, match=r"lengths\[0\] is 8, it must be from 1 to 5, which item 0 has"):
        batch_of(waves(5, 9), "speech", [8, 9])


# -------------------------------------------------------------------------------------------------------------- refused

NAN_IMAGE = torch.zeros(2, 3, 4, 5)
NAN_IMAGE[1, 2, 3, 4] = torch.nan


def _buffer(save):
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


CLOSED = Image.open(io.BytesIO(_buffer(lambda buffer: Image.new("RGB", (5, 4)).save(buffer, "PNG"))))
CLOSED.close()
NPZ = _buffer(lambda buffer: np.savez(buffer, a=np.zeros((2, 2)), b=np.zeros(3)))
PICKLE = _buffer(lambda buffer: np.save(buffer, np.array([None, {}]), allow_pickle=True))

REFUSED = {
    "speech": [
        (torch.zeros(()), r"\(samples,\) or \(B, samples\), got \(\)"),
        (torch.zeros(2, 2, 9), r"got \(2, 2, 9\): average the channels"),
        (torch.zeros(0), r"not be empty"),
        (torch.zeros(0, 16), r"not be empty"),
        (np.zeros((2, 0), "f4"), r"not be empty"),
        (np.zeros((100, 2), "i2"), r"looks like \(samples, channels\)"),
        (torch.tensor([0, torch.nan]), r"\(samples\) = \(1,\) is NaN"),
        (torch.tensor([[0.0], [torch.inf]]), r"item 1: .* is inf"),
        (np.array([0.0, 1e300]), r"is inf"),
        (torch.tensor([0.0, 20000.0]), "divide integer PCM"),
        (torch.tensor([0.0, -1.6]), "from -1.6 to 0"),
        (np.zeros(9, np.int64), "dtype int64: pass floats in"),
        (torch.zeros(9, dtype=torch.int8), "dtype int8"),
        (np.zeros(9, np.uint16), "dtype uint16"),
        ([(waves(9)[0], "16 kHz")], "item 0: .*a tuple of Tensor, str"),
        ((RATE, np.zeros(9, np.int16)), "the rate comes second"),
        ((waves(9)[0], 0), "positive whole number"),
        ((waves(9)[0], 16000.5), "positive whole number"),
        ((waves(9)[0], float("nan")), "positive whole number"),
        ((waves(9)[0], float("inf")), "positive whole number"),
        ((np.zeros((100, 2), "f4"), RATE), r"\(channels, samples\), not empty; got \(100, 2\): transpose"),
        ((np.zeros((2, 0), "f4"), RATE), "not empty"),
        ((np.zeros((1, 2, 9), "f4"), RATE), r"got \(1, 2, 9\)"),
        ([waves(9)[0], torch.zeros(2, 9)], r"item 1: it is a batch, of the shape \(2, 9\).*sound with channels"),
        ([waves(9)[0], waves(9)[0] * torch.nan], "item 1: .*NaN, 9 values"),
        ([0.1, 0.2], "item 0: float cannot be taken as speech.*asarray"),
        ([[0.1, 0.2]], "item 0: a nested list cannot be taken as speech"),
        (b"\0" * 1000, "cannot be read|no sound"),
    ],
    "image": [
        (torch.zeros(4, 5), r"got \(4, 5\): repeat a grey image"),
        (torch.zeros(1, 1, 3, 4, 5), r"\(3, H, W\) or \(B, 3, H, W\), got \(1, 1, 3, 4, 5\)"),
        (torch.zeros(4, 5, 3), r"the channels are last: permute"),
        (torch.zeros(2, 4, 5, 3), r"the channels are last: permute"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"the channels are last: permute"),
        (torch.zeros(1, 4, 5), "repeat a grey channel"),
        (torch.zeros(2, 4, 4, 5), "drop alpha"),
        (pixels(4, 5), r"is \(H, W, 3\), with or without a batch dimension in front; got \(4, 5\)"),
        (pixels(3, 4, 5), r"got \(3, 4, 5\). Tensors and float arrays have the channels first"),
        (pixels(4, 5, 1), "repeat a grey channel"),
        (pixels(4, 5, 4), "drop alpha"),
        (torch.zeros(3, 0, 5), "not be empty"),
        (pixels(0, 5, 3), "not be empty"),
        (torch.zeros(0, 3, 4, 5), "not be empty"),
        (NAN_IMAGE, r"item 1: the value at \(channel, H, W\) = \(2, 3, 4\) is NaN"),
        (torch.full((3, 4, 5), -torch.inf), "-inf, 60 values"),
        (torch.full((3, 4, 5), 200.0), "divide by 255, or pass uint8"),
        (torch.full((3, 4, 5), 60000.0), "divide by 65535"),
        (torch.linspace(-1, 1, 60).view(3, 4, 5), r"\(x \+ 1\) / 2"),
        (torch.linspace(-2.1, 2.6, 60).view(3, 4, 5), "normalisation"),
        (torch.linspace(0, 1.1, 60).view(3, 4, 5), "clamp"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "dtype int64: pass floats in 0…1, or uint8"),
        (np.zeros((4, 5, 3), np.uint16), "dtype uint16"),
        (Image.new("RGBA", (5, 4)), "on_white=True"),
        (Image.new("I", (5, 4)), "full scale"),
        (CLOSED, "cannot be read"),
        (Image.new("RGB", (0, 4)), "is empty"),
        ([pixels(4, 5, 3), pixels(4, 6, 3)], r"one size: item 0 is \(3, H, W\) = \(3, 4, 5\), item 1 is \(3, 4, 6\)"),
        ([pixels(4, 5, 3), Image.new("F", (5, 4), 90.0)], "item 1: .*divide by 255"),
        ([[Image.new("RGB", (5, 4))]], "item 0: a nested list cannot be taken as an image"),
        ({"image": pixels(4, 5, 3)}, "dict cannot be taken as an image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 99, "damaged, truncated"),
    ],
    "video": [
        (torch.zeros(3, 4, 5), "clip of one frame"),
        (torch.zeros(3, 4), r"\(3, T, H, W\) or \(B, 3, T, H, W\), got \(3, 4\)"),
        (torch.zeros(7, 3, 4, 5), "channels come after the frames"),
        (torch.zeros(2, 7, 3, 4, 5), "channels come after the frames"),
        (torch.zeros(7, 4, 5, 3), "the channels are last"),
        (torch.zeros(7, 4, 5, 3, dtype=torch.uint8), "the channels are last"),
        (pixels(3, 7, 4, 5), r"is \(T, H, W, 3\)"),
        (torch.zeros(3, 0, 4, 5), "not be empty"),
        (torch.full((3, 2, 4, 5), torch.nan), r"\(channel, T, H, W\) = \(0, 0, 0, 0\) is NaN"),
        (torch.full((3, 2, 4, 5), 255.0), "divide by 255"),
        (Image.new("RGB", (5, 4)), "Image cannot be taken as a video"),
        ([Image.new("RGB", (5, 4)), Image.new("RGB", (4, 4))], "one size: 0 is 4×5, frame 1 4×4"),
        ([Image.new("RGB", (5, 4)), pixels(2, 4, 5, 3)], "item 0: .*list of PIL images is one clip"),
        ([pixels(4, 5, 3), pixels(4, 5, 3)], r"item 0: .*got \(4, 5, 3\)"),
        ([pixels(2, 4, 5, 3), pixels(3, 6, 5, 3)], r"item 1 is \(3, 3, 6, 5\)"),
        (b"\0" * 1000, "cannot be read|not a video"),
    ],
    "action": [
        (torch.zeros(4), "single action is x.unsqueeze"),
        (torch.zeros(1, 1, 4, 2), r"\(T, D\) or \(B, T, D\), got \(1, 1, 4, 2\)"),
        (torch.zeros(0, 2), "not be empty"),
        (torch.zeros(4, 0), "not be empty"),
        (torch.tensor([[0.0, 1.0], [2.0, torch.nan]]), r"\(T, D\) = \(1, 1\) is NaN"),
        (torch.tensor([[0.0, -torch.inf]]), "is -inf"),
        ([np.zeros((4, 2)), np.zeros((4, 3))], "same degrees of freedom"),
        ([np.zeros((4, 2)), np.zeros((4, 2)), np.full((3, 2), np.nan)], "item 2: .*NaN"),
        (Image.new("RGB", (5, 4)), "Image cannot be taken as an action sequence"),
        (NPZ, "archive of several arrays"),
        (PICKLE, "never unpickled"),
        (b"hello", "cannot be read"),
    ],
}
EVERYWHERE = [
    (None, "NoneType cannot be taken as"),
    (3.0, "float cannot be taken as"),
    ([], "list is empty"),
    ((), "is empty|tuple of"),
    ([None], "item 0: NoneType"),
    ("https://example.org/a.wav", "download it first"),
    ("missing.npy", "does not exist"),
    (["missing.npy"], "item 0: 'missing.npy' does not exist"),
    ("", "path is empty"),
    (b"", "is empty"),
]
BAD_ARRAYS = {
    "bool": (lambda shape: torch.zeros(shape, dtype=torch.bool), "dtype bool"),
    "complex": (lambda shape: torch.zeros(shape, dtype=torch.complex64), "dtype complex64"),
    "float8": (lambda shape: torch.zeros(shape).to(torch.float8_e4m3fn), "dtype float8"),
    "bool array": (lambda shape: np.zeros(shape, bool), "dtype bool"),
    "complex array": (lambda shape: np.zeros(shape, complex), "dtype complex128"),
    "object array": (lambda shape: np.full(shape, None), "dtype object"),
    "text array": (lambda shape: np.full(shape, "a"), "dtype <U1"),
    "long double array": (lambda shape: np.zeros(shape, np.longdouble), "dtype float128|dtype longdouble"),
    "masked array": (lambda shape: np.ma.masked_array(np.zeros(shape), True), "masked"),
    "sparse": (lambda shape: torch.zeros(shape).to_sparse(), "sparse"),
    "meta": (lambda shape: torch.zeros(shape, device="meta"), "meta device"),
    "quantised": (lambda shape: torch._empty_affine_quantized(shape, scale=1, dtype=torch.qint8), "quantised"),
}
SHAPES = {"speech": (9,), "image": (3, 4, 5), "video": (3, 2, 4, 5), "action": (4, 2)}


@pytest.mark.parametrize(
    ("modality", "x", "message"),
    [
        pytest.param(modality, x, message, id=f"{modality}-{number}")
        for modality, cases in REFUSED.items()
        for number, (x, message) in enumerate([*cases, *EVERYWHERE])
    ],
)
def test_refused(modality, x, message):
    with pytest.raises(InputError, match=message):
        batch_of(x, modality)


@pytest.mark.parametrize("modality", SHAPES)
@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_arrays_of_the_wrong_kind(modality, kind):
    make, message = BAD_ARRAYS[kind]
    x = make(SHAPES[modality])
    with pytest.raises(InputError, match=message):
        batch_of(x, modality)
    with pytest.raises(InputError, match=f"item 1: .*{message}"):
        batch_of([torch.zeros(SHAPES[modality]), x], modality)


def test_nested_tensors_are_refused():
    nested = torch.nested.nested_tensor([torch.zeros(3), torch.zeros(4)], layout=torch.jagged)
    with pytest.raises(InputError, match="nested"):
        batch_of(nested, "speech")


@pytest.mark.parametrize("modality", ["speech", "image", "video"])
def test_folders_and_damaged_files_are_named(modality, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"not a media file")
    good = torch.zeros(SHAPES[modality])
    with pytest.raises(InputError, match=r"item 1: .*a\.bin.* cannot be read"):
        batch_of([good, tmp_path / "a.bin"], modality)
    with pytest.raises(InputError, match="is a folder"):
        batch_of(tmp_path, modality)


def test_files_that_are_whole_but_unfit_are_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", waves(9)[0].numpy(), 8000)
    with pytest.raises(InputError, match=r"item 1 \('.*a\.wav'\): the sound is at 8000 Hz"):
        batch_of([waves(9)[0], tmp_path / "a.wav"], "speech")
    Image.new("RGBA", (5, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"item 0: '.*a\.png': the image is transparent"):
        batch_of([str(tmp_path / "a.png")], "image")


@pytest.mark.parametrize(
    ("modality", "shape", "size", "message"),
    [
        (
            "image",
            (3, 4, 5),
            (4, 4),
            r"\(H, W\) = \(4, 4\), got \(4, 5\): resize it first, e.g. zoo.data.media.read_image",
        ),
        ("video", (3, 2, 4, 5), (3, 4, 5), r"\(T, H, W\) = \(3, 4, 5\), got \(2, 4, 5\): cut and resize"),
        ("video", (3, 2, 4, 5), (4, 4), r"\(H, W\) = \(4, 4\)"),
        ("action", (4, 2), (4, 3), r"\(T, D\) = \(4, 3\), got \(4, 2\)"),
        ("action", (4, 2), (3,), r"\(D\) = \(3,\)"),
        ("speech", (9,), (8,), r"\(samples\) = \(8,\)"),
    ],
)
def test_size_of_the_input(modality, shape, size, message):
    x = torch.zeros(shape)
    for form in (x, x[None], x.numpy()):
        with pytest.raises(InputError, match=message):
            batch_of(form, modality, input_size=size)
    with pytest.raises(InputError, match=f"item 1: .*{message}"):
        batch_of([torch.zeros(*shape[: len(shape) - len(size)], *size), x], modality, input_size=size)
    assert batch_of(x, modality, input_size=shape[1:] if shape[1:] else shape)[0].shape == (1, *shape)


def test_overshoot_of_codecs_is_kept():
    x = torch.tensor([[1.2, -1.3]])
    same(batch_of(x, "speech"), x)
    x = torch.full((1, 3, 2, 2), 1.004)
    same(batch_of(x, "image"), x)


def test_values_are_not_looked_at_if_the_caller_does_it():
    x = torch.full((1, 4, 2), torch.nan)
    batch, _ = batch_of(x, "action", check_finite=False)
    assert batch.isnan().all()
    assert batch_of(torch.full((3, 4, 5), 9.0), "image", check_finite=False)[0].max() == 9


def test_mistakes_of_the_calling_code():
    with pytest.raises(ValueError, match="modality must be one of speech"):
        to_batch(torch.zeros(4), modality="text")
    with pytest.raises(ValueError, match="sample_rate"):
        to_batch(torch.zeros(4), modality="speech")


def test_no_copy_where_none_is_needed():
    x = torch.rand(2, 3, 4, 5)
    assert batch_of(x, "image")[0].data_ptr() == x.data_ptr()
    array = np.zeros((4, 2), "f4")
    assert batch_of(array, "action")[0].data_ptr() == array.ctypes.data


def test_gradients_pass_through():
    x = torch.rand(1, 3, 4, 5, requires_grad=True)
    batch_of(x, "image")[0].sum().backward()
    assert x.grad is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices():
    every = torch.arange(256, dtype=torch.uint8)[None, None].expand(3, 1, -1)
    wave = waves(100)[0]
    for x, modality in ((every, "image"), (wave, "speech"), ((wave * 9999).to(torch.int16), "speech")):
        expected, _ = batch_of(x, modality)
        for batch, _ in (batch_of(x.cuda(), modality), batch_of(x, modality, device="cuda")):
            assert batch.is_cuda
            assert torch.equal(batch.cpu(), expected)
    batch, lengths = batch_of([wave.cuda(), wave[:7], wave[:9].numpy()], "speech")
    assert batch.is_cuda
    assert lengths.tolist() == [100, 7, 9]
    assert lengths.is_cuda
    batch, lengths = batch_of(wave[None].cuda(), "speech", [50])
    assert batch[0, 50:].eq(0).all()
    assert lengths.is_cuda
    with pytest.raises(InputError, match="NaN"):
        batch_of(torch.full((1, 4, 2), torch.nan, device="cuda"), "action")


# ----------------------------------------------------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(
    modality=st.sampled_from(["speech", "action"]),
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    seed=st.integers(0, 2**16),
    as_arrays=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_a_batch_holds_what_its_items_would_be_alone(modality, counts, seed, as_arrays):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(count,) if modality == "speech" else (count, 3) for count in counts]
    items = [torch.rand(shape, generator=generator) for shape in shapes]
    mixed = [item.numpy() if flag else item for item, flag in zip(items, as_arrays, strict=False)]
    batch, lengths = batch_of(mixed, modality)
    assert (lengths is None) == (len(set(counts)) == 1)
    for number, (item, count) in enumerate(zip(items, counts, strict=True)):
        alone, none = batch_of(item, modality)
        assert none is None
        assert torch.equal(batch[number, :count], alone[0])
        padding = batch[number, count:]
        assert torch.equal(padding, torch.zeros_like(padding) if modality == "speech" else item[-1:].expand_as(padding))
    if lengths is not None:
        assert lengths.tolist() == counts
        # The padded batch and its lengths say the same again, and so do the lengths with other padding.
        again, lengths_again = batch_of(batch, modality, lengths)
        assert torch.equal(again, batch)
        assert torch.equal(lengths_again, lengths)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    count=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    forms=st.lists(st.integers(0, 4), min_size=4, max_size=4),
)
def test_images_are_the_same_in_every_form(size, count, seed, forms):
    arrays = pixels(count, *size, 3, seed=seed)
    makers = (
        lambda array: array,
        Image.fromarray,
        lambda array: _buffer(lambda buffer: Image.fromarray(array).save(buffer, "PNG")),
        lambda array: torch.from_numpy(array).permute(2, 0, 1),
        lambda array: (torch.from_numpy(array).permute(2, 0, 1) / 255).numpy(),
    )
    listed = [makers[form](array) for form, array in zip(forms, arrays, strict=False)]
    expected = torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255
    same(batch_of(listed, "image"), expected)
    same(batch_of(arrays, "image"), expected)


def test_videos_of_different_lengths_repeat_their_last_frame():
    long, short = torch.rand(3, 4, 2, 2), torch.rand(3, 1, 2, 2)
    batch, lengths = batch_of([long, short], "video")
    assert lengths.tolist() == [4, 1]
    assert torch.equal(batch, torch.stack([long, short.expand(-1, 4, -1, -1)]))
    padded = torch.cat([short, torch.full((3, 3, 2, 2), torch.nan)], 1)
    again, counts = batch_of(torch.stack([long, padded]), "video", [4, 1])
    assert torch.equal(again, batch)
    assert counts.tolist() == [4, 1]
    with pytest.raises(InputError, match=r"one height and width: item 0 is .* item 1 is"):
        batch_of([long, torch.rand(3, 4, 2, 3)], "video")
    with pytest.raises(InputError, match=r"lengths\[1\] is 5, it must be from 1 to 4"):
        batch_of(torch.stack([long, long]), "video", [4, 5])
