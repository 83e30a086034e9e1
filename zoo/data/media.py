"""Media files to tensors and back, resized or resampled only where an argument says so.

Importing this module imports torch alone; a decoder is imported by the function that needs it.

| function | gives |
|---|---|
| `read_audio` | wave (channels, samples), −1…1, and its rate |
| `read_image` | (3, H, W), 0…1 |
| `read_video` | (3, T, H, W), 0…1, and its frames a second |
| `write_wav`, `write_png`, `write_mp4`, `write_gif` | files from the same tensors |
"""

from zoo.data._image import read_image, write_png
from zoo.data._video import read_video
from zoo.data._video_writing import write_gif, write_mp4
from zoo.data.audio import read_audio, write_wav

__all__ = ["read_audio", "read_image", "read_video", "write_gif", "write_mp4", "write_png", "write_wav"]
