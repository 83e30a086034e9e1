"""Files of every common kind, written by other libraries, read by `zoo.data.media`."""

from __future__ import annotations

import gc
import io
import struct

import av
import children
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from zoo.data import media
from zoo.data._clip import read_clip
from zoo.errors import InputError


def tone(samples, rate=16000, channels=1):
    time = np.arange(samples) / rate
    return np.stack([0.4 * np.sin(2 * np.pi * 220 * (c + 1) * time) for c in range(channels)], axis=1).astype("f4")


def picture(height=24, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded_sound(path, container, codec, samples=16000, rate=16000, **options):
    """Write mono sound with FFmpeg."""
    with av.open(str(path), "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone(samples, rate).T), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.read_bytes()


def encoded_video(
    path, container="mp4", codec="mpeg4", frames=24, size=(32, 48), pix_fmt="yuv420p", times=None, **options
):
    """Write frames of growing brightness with FFmpeg; `times` in 1/24 s make the rate vary."""
    with av.open(str(path), "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=24)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        for number in range(frames):
            grey = np.full((*size, 3), 20 + 200 * number // max(frames - 1, 1), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts = number if times is None else times[number]
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path.read_bytes()


def brightness(clip):
    return clip.mean(dim=(0, 2, 3))


def test_import_is_light():
    code = (
        "import sys, torch\nbefore = set(sys.modules)\nimport zoo.data.media, zoo.data.inputs\n"
        "heavy = {'PIL', 'av', 'soundfile', 'torchaudio', 'torchvision', 'lightning', 'timm'}\n"
        "print(sorted(heavy & ({name.split('.')[0] for name in sys.modules} - before)))"
    )
    result = children.run(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_16", 5e-5),
        ("wav", "PCM_U8", 8e-3),
        ("wav", "PCM_24", 1e-6),
        ("wav", "FLOAT", 0),
        ("flac", "PCM_16", 5e-5),
    ],
)
def test_sound_files(tmp_path, rate, channels, suffix, subtype, tolerance):
    path = tmp_path / f"a.{suffix}"
    wave = tone(rate // 10, rate, channels)
    soundfile.write(path, wave, rate, subtype=subtype)
    for source in (path, str(path), path.read_bytes()):
        read, read_rate = media.read_audio(source)
        assert read_rate == rate
        assert read.shape == (channels, rate // 10)
        assert read.dtype == torch.float32
        assert read.is_contiguous()
        assert (read - torch.from_numpy(wave.T)).abs().max() <= tolerance


@pytest.mark.parametrize(("suffix", "subtype"), [("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", "MPEG_LAYER_III")])
def test_lossy_sound_files(tmp_path, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    wave = tone(16000)
    soundfile.write(path, wave, 16000, subtype=subtype)
    read, rate = media.read_audio(path)
    assert (rate, read.shape) == (16000, (1, 16000))
    assert (read[0] - torch.from_numpy(wave[:, 0]))[500:-500].abs().max() < 0.05


@pytest.mark.parametrize(("container", "codec", "rate"), [("ipod", "aac", 16000), ("webm", "libopus", 48000)])
def test_sound_that_only_ffmpeg_reads(tmp_path, container, codec, rate):
    data = encoded_sound(tmp_path / "a.bin", container, codec, samples=rate, rate=rate)
    read, read_rate = media.read_audio(data)
    assert read_rate == rate
    assert rate <= read.shape[1] <= rate + 2048  # the coder fills its last frame
    assert read.shape[0] == 1
    assert (read[0, :rate] - torch.from_numpy(tone(rate, rate)[:, 0]))[2000:-2000].abs().max() < 0.05


def test_sound_is_resampled_and_mixed_only_on_request(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(4410, 44100, 2), 44100, subtype="FLOAT")
    assert media.read_audio(path)[0].shape == (2, 4410)
    mixed, rate = media.read_audio(path, sample_rate=16000, mix_down=True)
    assert (rate, mixed.shape) == (16000, (1, 1600))
    expected = torch.from_numpy(tone(1600, 16000, 2).mean(axis=1))
    assert (mixed[0] - expected)[100:-100].abs().max() < 2e-3


@pytest.mark.parametrize("new_rate", [0, -16000, 15991])
def test_rates_that_cannot_be_had(tmp_path, new_rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(100, 44101), 44101)
    with pytest.raises(InputError, match="rate"):
        media.read_audio(path, sample_rate=new_rate)


def test_wav_round_trip(tmp_path):
    pcm = torch.arange(-32768, 32768, 7)
    wave = torch.stack([pcm, pcm.flip(0)]).float() / 32768
    media.write_wav(tmp_path / "a.wav", wave, 22050)
    read, rate = media.read_audio(tmp_path / "a.wav")
    assert rate == 22050
    assert torch.equal(read, wave)
    media.write_wav(tmp_path / "b.wav", torch.tensor([1.0, -1.0, 0.0]), 8000)
    assert media.read_audio(tmp_path / "b.wav")[0].tolist() == [[32767 / 32768, -1, 0]]


@pytest.mark.parametrize(
    "wave", [torch.zeros(0), torch.zeros(1, 1, 4), torch.tensor([1.01]), torch.tensor([torch.nan])]
)
def test_waves_that_cannot_be_written(tmp_path, wave):
    with pytest.raises(InputError, match="wave to write"):
        media.write_wav(tmp_path / "a.wav", wave, 16000)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", None),
        ("flac", None),
        ("ogg", "VORBIS"),
        ("ogg", "OPUS"),
        ("mp3", None),
        ("aiff", None),
        ("w64", None),
        ("au", None),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_sound(tmp_path, suffix, subtype, kept):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(160000), 16000, subtype=subtype)
    data = path.read_bytes()
    with pytest.raises(InputError, match="truncated"):
        media.read_audio(data[: int(len(data) * kept)])


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("ipod", "aac", {}),
        ("ipod", "aac", {"movflags": "faststart"}),
        ("matroska", "aac", {}),
        ("adts", "aac", {}),
        ("mp3", "libmp3lame", {}),  # with a tag in front of the index
    ],
)
def test_truncated_sound_in_containers(tmp_path, container, codec, options):
    data = encoded_sound(tmp_path / "a.bin", container, codec, samples=48000, **options)
    assert media.read_audio(data)[0].shape[1] >= 48000
    with pytest.raises(InputError, match="truncated"):
        media.read_audio(data[: len(data) // 2])


def test_sound_of_unknown_size_is_not_called_truncated(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1000), 16000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4  # what a program leaves that writes to a pipe
    assert media.read_audio(bytes(data))[0].shape == (1, 1000)
    # An MP3 without an index has no exact length, least of all with a varying bit rate.
    mp3 = encoded_sound(tmp_path / "a.mp3", "mp3", "libmp3lame", write_xing="0")
    assert media.read_audio(mp3)[0].shape[1] >= 16000


def test_sound_without_sound(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1), "f4"), 16000)
    with pytest.raises(InputError, match="no samples"):
        media.read_audio(tmp_path / "a.wav")
    encoded_video(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="no sound track"):
        media.read_audio(tmp_path / "a.mp4")


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_picture_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture()).save(path)
    for source in (path, str(path), path.read_bytes()):
        read = media.read_image(source)
        assert read.dtype == torch.float32
        assert read.is_contiguous()
        assert torch.equal(read, torch.from_numpy(picture()).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    # The corners: red at the top left of the upright picture, green at its top right, blue at its bottom left.
    upright = np.zeros((32, 48, 3), dtype=np.uint8)
    upright[:16, :16, 0] = upright[:16, 32:, 1] = upright[16:, :16, 2] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", quality=95, subsampling=0, exif=exif)
    read = media.read_image(tmp_path / "a.jpg")
    assert (read - torch.from_numpy(upright).permute(2, 0, 1) / 255).abs().mean() < 0.02


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "I;16", "LA", "RGBA", "RGBX"])
def test_modes(mode):
    grey = np.tile(np.linspace(0, 255, 32, dtype=np.uint8), (24, 1))
    image = Image.fromarray(grey)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "1":
        grey = np.where(grey < 128, 0, 255).astype(np.uint8)
        image = image.point(lambda value: 255 * (value >= 128)).convert("1")
    else:
        image = image.convert("RGB").convert(mode) if mode != "P" else image.convert("P")
    buffer = io.BytesIO()
    if mode in ("CMYK", "YCbCr"):
        image.save(buffer, "TIFF")
    elif mode not in ("HSV", "RGBX"):
        image.save(buffer, "PNG")
    else:
        image.convert("RGB").save(buffer, "PNG")
    read = media.read_image(buffer.getvalue())
    assert read.shape == (3, 24, 32)
    assert (read * 255 - torch.from_numpy(grey)).abs().max() <= 3


def test_palette_picture(tmp_path):
    image = Image.fromarray(picture()).quantize(16)
    image.save(tmp_path / "a.png")
    assert torch.equal(
        media.read_image(tmp_path / "a.png"), torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
    )


def test_transparency(tmp_path):
    pixels = np.concatenate([picture(), np.full((24, 32, 1), 255, np.uint8)], axis=2)
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    assert torch.equal(
        media.read_image(tmp_path / "opaque.png") * 255, torch.from_numpy(picture()).permute(2, 0, 1).float()
    )
    pixels[:12, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "half.png")
    with pytest.raises(InputError, match="on_white=True"):
        media.read_image(tmp_path / "half.png")
    read = media.read_image(tmp_path / "half.png", on_white=True)
    assert (read[:, :12] == 1).all()
    assert torch.equal(read[:, 12:] * 255, torch.from_numpy(picture()).permute(2, 0, 1)[:, 12:].float())


def test_transparent_palette(tmp_path):
    image = Image.fromarray(picture()).quantize(4)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255]))
    with pytest.raises(InputError, match="on_white=True"):
        media.read_image(tmp_path / "a.png")
    assert media.read_image(tmp_path / "a.png", on_white=True).shape == (3, 24, 32)


def test_pictures_without_a_full_scale(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.int32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match="full scale"):
        media.read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animated_pictures_are_refused(tmp_path, suffix):
    first, second = Image.fromarray(picture()), Image.fromarray(picture(seed=1))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="2 frames"):
        media.read_image(tmp_path / f"a.{suffix}")


def test_preview_frames_are_not_an_animation(tmp_path):
    first, second = Image.fromarray(picture()), Image.fromarray(picture(seed=1))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second], quality=95)
    assert media.read_image(tmp_path / "a.mpo").shape == (3, 24, 32)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tiff"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_pictures(tmp_path, suffix, kept):
    Image.fromarray(picture(96, 96)).save(tmp_path / f"a.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    with pytest.raises(InputError, match=r"damaged|truncated"):
        media.read_image(data[: int(len(data) * kept)])


@pytest.mark.parametrize("limit", [2000, 100])  # Pillow warns up to twice its limit and raises above
def test_decompression_bombs(tmp_path, monkeypatch, limit):
    Image.fromarray(picture(50, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match="MAX_IMAGE_PIXELS"):
        media.read_image(tmp_path / "a.png")


def test_drawings_are_not_drawn():
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(InputError, match="drawing"):
        media.read_image(drawing)


def test_resizing_pictures(tmp_path):
    wide = np.zeros((40, 120, 3), dtype=np.uint8)
    wide[:, 40:80] = 255  # a white square in the middle third
    Image.fromarray(wide).save(tmp_path / "a.png")
    cut = media.read_image(tmp_path / "a.png", size=20)
    assert cut.shape == (3, 20, 20)
    assert cut[:, :, 2:-2].min() > 0.99
    stretched = media.read_image(tmp_path / "a.png", size=(20, 24), crop=None)
    assert stretched.shape == (3, 20, 24)
    assert stretched[:, :, :6].max() < 0.01
    assert stretched[:, :, 10:14].min() > 0.99
    assert float(stretched.min()) >= 0
    assert float(stretched.max()) <= 1
    assert torch.equal(media.read_image(tmp_path / "a.png", size=(40, 120)), media.read_image(tmp_path / "a.png"))


def test_resizing_filters_what_the_smaller_size_cannot_hold(tmp_path):
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    read = media.read_image(tmp_path / "a.png", size=8)
    assert (read - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("arguments", [{"size": 0}, {"size": (3,)}, {"size": (4, -1)}, {"size": 4, "crop": "left"}])
def test_bad_sizes(tmp_path, arguments):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="must be"):
        media.read_image(tmp_path / "a.png", **arguments)


def test_png_round_trip(tmp_path):
    image = torch.from_numpy(picture()).permute(2, 0, 1) / 255
    media.write_png(tmp_path / "a.png", image)
    assert torch.equal(media.read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 4, 4), torch.zeros(3, 0, 4), torch.full((3, 4, 4), 1.1), torch.full((3, 4, 4), torch.nan)]
)
def test_pictures_that_cannot_be_written(tmp_path, image):
    with pytest.raises(InputError, match="to write"):
        media.write_png(tmp_path / "a.png", image)


# ---------------------------------------------------------------------------------------------------------------- video


def test_mp4_round_trip(tmp_path):
    ramp = torch.linspace(0.1, 0.9, 48)
    video = (ramp[None, None, None, :] * torch.linspace(0.5, 1, 10)[None, :, None, None]).expand(3, 10, 32, 48)
    media.write_mp4(tmp_path / "a.mp4", video, 30000 / 1001)
    for source in (tmp_path / "a.mp4", (tmp_path / "a.mp4").read_bytes()):
        read, rate = media.read_video(source)
        assert read.shape == (3, 10, 32, 48)
        assert read.dtype == torch.float32
        assert rate == pytest.approx(30000 / 1001)
        assert (read - video).abs().mean() < 0.02


@pytest.mark.parametrize(
    "video", [torch.zeros(3, 4, 5, 4), torch.zeros(4, 3, 4, 4), torch.zeros(3, 0, 4, 4), torch.full((3, 1, 4, 4), 2.0)]
)
def test_videos_that_cannot_be_written(tmp_path, video):
    with pytest.raises(InputError, match="to write"):
        media.write_mp4(tmp_path / "a.mp4", video, 24)


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("matroska", "mpeg4", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("gif", "gif", "rgb8"),
        ("mpegts", "mpeg4", "yuv420p"),
    ],
)
def test_video_files(tmp_path, container, codec, pix_fmt):
    if codec not in av.codecs_available:
        pytest.skip(f"this build of av has no {codec}")
    data = encoded_video(tmp_path / "a.bin", container, codec, pix_fmt=pix_fmt)
    read, rate = media.read_video(data)
    assert read.shape == (3, 24, 32, 48)
    assert rate == pytest.approx(24, abs=1.1)  # a GIF counts in hundredths of a second
    assert torch.allclose(brightness(read) * 255, torch.tensor([20 + 200 * n // 23 for n in range(24)]) + 0.0, atol=20)


def test_choosing_frames(tmp_path):
    data = encoded_video(tmp_path / "a.mp4")
    every, _ = media.read_video(data)
    first, rate = media.read_video(data, num_frames=5)
    assert (rate, torch.equal(first, every[:, :5])) == (24, True)
    half, rate = media.read_video(data, frame_rate=12)
    assert (rate, torch.equal(half, every[:, ::2])) == (12, True)
    double, rate = media.read_video(data, frame_rate=48, num_frames=20)
    assert torch.equal(double, every[:, :10].repeat_interleave(2, dim=1))
    assert torch.equal(media.read_video(data, frame_rate=48)[0], every.repeat_interleave(2, dim=1))
    third, _ = media.read_video(data, frame_rate=8, num_frames=8, size=16)
    assert third.shape == (3, 8, 16, 16)
    assert torch.allclose(brightness(third), brightness(every[:, ::3]), atol=0.01)
    with pytest.raises(InputError, match="24 frames, 25 were asked for"):
        media.read_video(data, num_frames=25)


def test_varying_frame_rate(tmp_path):
    data = encoded_video(tmp_path / "a.mkv", "matroska", frames=4, times=[0, 1, 12, 13])
    every, _ = media.read_video(data)
    assert every.shape[1] == 4
    at_24, _ = media.read_video(data, frame_rate=24, num_frames=13)
    assert torch.equal(at_24, every[:, [0, *[1] * 11, 2]])


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_rotated_video(tmp_path, matrix, turns):
    video = torch.zeros(3, 2, 32, 48)
    video[:, :, :16, :24] = 1  # white at the top left of the stored frames
    media.write_mp4(tmp_path / "a.mp4", video, 24)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # the display matrix in the track's header
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    read, _ = media.read_video(bytes(data))
    assert (read - torch.rot90(video, turns, dims=(2, 3))).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt", "options"),
    [
        ("mp4", "mpeg4", "yuv420p", {}),
        ("mp4", "mpeg4", "yuv420p", {"movflags": "faststart"}),
        ("matroska", "mpeg4", "yuv420p", {}),
        ("avi", "mpeg4", "yuv420p", {}),
        ("gif", "gif", "rgb8", {}),
    ],
)
def test_truncated_video(tmp_path, container, codec, pix_fmt, options):
    data = encoded_video(tmp_path / "a.bin", container, codec, pix_fmt=pix_fmt, size=(64, 64), **options)
    with pytest.raises(InputError, match="truncated"):
        media.read_video(data[: len(data) // 2])


def test_transparent_frames_are_refused_or_laid_on_white(tmp_path):
    rgba = np.zeros((32, 48, 4), np.uint8)
    rgba[..., 0], rgba[:, 24:, 3] = 200, 255
    rgba[:, :8, 3] = 51  # a fifth
    frames = [rgba, np.ascontiguousarray(rgba[:, ::-1])]
    with av.open(str(tmp_path / "a.mov"), "w") as out:
        stream = out.add_stream("qtrle", rate=24)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "argb"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgba")))
        out.mux(stream.encode())
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100, disposal=2)
    for name in ("a.mov", "a.gif"):
        with pytest.raises(InputError, match=rf"{name}' is transparent in places.*pass on_white=True"):
            media.read_video(tmp_path / name)
        with pytest.raises(InputError, match="is transparent in places"):
            read_clip(tmp_path / name, num_frames=1)
    clip, _ = media.read_video(tmp_path / "a.mov", on_white=True)
    assert (clip[:, 0, 0, 30] * 255).round().tolist() == [200, 0, 0]
    assert (clip[:, 0, 0, 15] * 255).round().tolist() == [255, 255, 255]
    assert (clip[:, 0, 0, 3] * 255).round().tolist() == [244, 204, 204]
    assert torch.equal(clip[:, 1], clip[:, 0].flip(-1))
    assert torch.equal(clip[:, :1], read_clip(tmp_path / "a.mov", num_frames=1, on_white=True)[0])


def test_not_a_video(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", tone(100), 16000)
    for name in ("a.png", "a.wav"):
        with pytest.raises(InputError, match="not a video"):
            media.read_video(tmp_path / name)


def test_playlists_are_not_followed(tmp_path, monkeypatch):
    encoded_video(tmp_path / "s.ts", "mpegts")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\ns.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "a.ffconcat").write_text("ffconcat version 1.0\nfile 's.ts'\n")
    for name in ("a.m3u8", "a.ffconcat"):
        with pytest.raises(InputError, match="cannot be read"):
            media.read_video(tmp_path / name)
        with pytest.raises(InputError, match="cannot be read"):
            media.read_audio(tmp_path / name)


@pytest.mark.parametrize(
    "arguments", [{"num_frames": 0}, {"frame_rate": 0.0}, {"frame_rate": float("nan")}, {"size": -1}]
)
def test_bad_video_arguments(tmp_path, arguments):
    data = encoded_video(tmp_path / "a.mp4", frames=2)
    with pytest.raises(InputError, match="must be"):
        media.read_video(data, **arguments)


# ---------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("read", [media.read_audio, media.read_image, media.read_video])
class TestSources:
    @pytest.mark.parametrize("url", ["https://a.b/c.wav", "hf://a/b", "s3://a/b.png", "data:image/png;base64,AAAA"])
    def test_url(self, read, url):
        with pytest.raises(InputError, match="download it first"):
            read(url)

    @pytest.mark.parametrize("name", ["missing.wav", "a/b/c.png", "x" * 5000, "a\0b", "~nobody-of-this-name/a.wav"])
    def test_missing(self, read, name):
        with pytest.raises(InputError, match=r"does not exist|not the path of a file"):
            read(name)

    def test_empty_path(self, read):
        with pytest.raises(InputError, match="path is empty"):
            read("")

    def test_folder(self, read, tmp_path):
        with pytest.raises(InputError, match="folder"):
            read(tmp_path)

    def test_device(self, read):
        with pytest.raises(InputError, match="not a regular file"):
            read("/dev/null")

    def test_empty_file(self, read, tmp_path):
        (tmp_path / "a.bin").touch()
        for source in (tmp_path / "a.bin", b""):
            with pytest.raises(InputError, match="is empty"):
                read(source)

    @pytest.mark.parametrize(
        "content", [b"hello", bytes(range(256)) * 20, b"RIFF\x00\x00\x00\x00WAVE", b"\x89PNG\r\n\x1a\n"]
    )
    def test_garbage(self, read, content):
        with pytest.raises(InputError, match=r"not a video|damaged|truncated|no samples|no sound track"):
            read(content)

    def test_home(self, read, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "a.bin").write_bytes(b"hello")
        with pytest.raises(InputError, match="cannot be read"):
            read("~/a.bin")

    def test_nothing_stays_open(self, read, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(b"RIFF" * 1000)
        with pytest.raises(InputError):
            read(path)
        gc.collect()  # an open file would warn here, and warnings are errors


def test_gif_keeps_frames_and_time(tmp_path):
    video = torch.stack([torch.full((3, 6, 5), level / 10) for level in (0, 1, 1, 2, 9)], 1)
    media.write_gif(tmp_path / "a.gif", [video[:, :2], video[:, 2:]], 12)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0
        shown = []
        for number in range(image.n_frames):
            image.seek(number)
            shown.append((image.convert("RGB").getpixel((0, 0))[0], image.info["duration"]))
    assert shown == [(0, 80), (26, 170), (51, 80), (230, 90)], "in hundredths of a second, equal neighbours joined"
    with pytest.raises(InputError, match="up to 50 frames a second"):
        media.write_gif(tmp_path / "b.gif", video, 60)
    with pytest.raises(InputError, match=r"is \(3, T, H, W\) not empty"):
        media.write_gif(tmp_path / "b.gif", video[:, :0], 12)
    with pytest.raises(InputError, match="no frames"):
        media.write_gif(tmp_path / "b.gif", [], 12)


def test_a_video_is_written_in_parts(tmp_path):
    video = torch.rand(3, 5, 16, 16)
    media.write_mp4(tmp_path / "whole.mp4", video, 12)
    media.write_mp4(tmp_path / "parts.mp4", (part for part in video.split(2, 1)), 12)
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    with pytest.raises(InputError, match="all parts of one size"):
        media.write_mp4(tmp_path / "a.mp4", [video, video[..., :8]], 12)
