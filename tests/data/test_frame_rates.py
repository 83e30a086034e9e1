"""Frames a second of videos of few frames, and of formats in which frames have times and no rate."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from zoo.data import media
from zoo.data._clip import video_facts
from zoo.errors import InputError


def frames(count):
    return [Image.new("RGB", (16, 16), (90 * number, 10, 20)) for number in range(count)]


def animated(kind, count, **options):
    """An animation by Pillow; `duration` is in ms a frame."""
    file, images = io.BytesIO(), frames(count)
    images[0].save(file, format=kind, save_all=True, append_images=images[1:], **options)
    return file.getvalue()


def encoded(container, codec, count, rate):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for image in frames(count):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "rate"),
    [
        (animated("GIF", 1), 10),  # 100, the resolution of its times, by FFmpeg
        (animated("GIF", 1, duration=200), 5),
        (animated("GIF", 2, duration=0), 10),
        (animated("GIF", 3, duration=10), 100),
        (animated("GIF", 3, duration=[100, 200, 300]), 5),
        (animated("GIF", 3, duration=20), 50),
        (animated("PNG", 2, duration=100), 10),  # 100,000 by FFmpeg
        *((encoded("mp4", "mpeg4", count, 25), 25) for count in (1, 2)),
        (encoded("matroska", "mpeg4", 1, 25), 25),
        *((encoded("mpeg", "mpeg1video", count, 25), 25) for count in (1, 2)),  # 50 by FFmpeg
    ],
)
def test_frames_a_second(content, rate):
    clip, found = media.read_video(content)
    assert found == pytest.approx(rate)
    facts = video_facts(content)
    assert facts.frame_rate == pytest.approx(rate)
    assert facts.num_frames == clip.shape[1]


def test_one_frame_at_another_rate_is_shown_as_long():
    assert media.read_video(animated("GIF", 1, duration=200), frame_rate=20)[0].shape[1] == 4
    assert media.read_video(animated("GIF", 1), frame_rate=10)[0].shape[1] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(animated("WEBP", 2), "an animated WebP, which FFmpeg does not read"), (animated("WEBP", 1), "no moving picture")],
)
def test_webp_is_no_video(content, message):
    with pytest.raises(InputError, match=message):
        media.read_video(content)
