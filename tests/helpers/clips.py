"""Small videos whose frames can be told apart after decoding."""

import io

import av
import numpy as np

STEP = 8


def encoded(count, kind="mp4", rate=10, size=(32, 32), first=0, codec=None, options=None):
    """Return a video of plain frames; frame k is STEP·(first + k) grey, with a white corner at the left."""
    codec = codec or {"mp4": "libx264", "mpeg": "mpeg1video", "avi": "mpeg4", "gif": "gif"}[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = "rgb8" if kind == "gif" else "yuv420p"
        for number in range(first, first + count):
            frame = np.full((*size, 3), STEP * number, np.uint8)
            frame[: size[0] // 2, : size[1] // 4] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def frames_of(clip):
    """Return the numbers of the frames of a clip (3, T, H, W)."""
    return [round(float(frame[:, frame.shape[1] * 3 // 4 :].mean()) * 255 / STEP) for frame in clip.movedim(1, 0)]


def is_mirrored(clip):
    return bool(clip[0, 0, 1, -2] > 0.9)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
