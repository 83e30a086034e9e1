"""Sound files of every container, as programs write them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import numpy as np

RATE = 16000
COUNT = 24007  # a second and a half, and odd


def samples(count=COUNT, hertz=220.0, channels=1):
    time = np.arange(count) / RATE
    return np.stack([0.3 * np.sin(2 * np.pi * hertz * (c + 1) * time) for c in range(channels)], axis=1).astype("f4")


def muxed(container, codec, rate=RATE, options=None, **settings):
    """Return sound that FFmpeg wrote, through a path, since it reopens some files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.bin")
        _mux(path, container, codec, rate, options, settings)
        return path.read_bytes()


def _mux(path, container, codec, rate, options, settings):
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono", options=settings)
        for start in range(0, COUNT, 1000):  # in pieces, so that there are several packets
            piece = np.ascontiguousarray(samples()[start : start + 1000].T)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
