"""P4: what cannot be read is named, wherever in a reader it was found out."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from zoo.data import media
from zoo.data.inputs import to_batch
from zoo.errors import InputError


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_p4_a_truncated_picture_is_named(tmp_path, suffix):
    path = tmp_path / f"holiday{suffix}"
    Image.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    for read in (lambda: media.read_image(path), lambda: to_batch(path, modality="image")):
        with pytest.raises(InputError, match=f"'.*holiday{suffix}'.*damaged or truncated"):
            read()


def test_p4_a_picture_that_is_whole_but_unfit_is_named(tmp_path):
    Image.new("RGBA", (5, 4)).save(tmp_path / "clear.png")
    Image.fromarray(noise(4, 4)).convert("I").save(tmp_path / "deep.tif")
    for name, problem in (("clear.png", "is transparent"), ("deep.tif", "32-bit integer")):
        with pytest.raises(InputError, match=f"'.*{name}': .*{problem}"):
            media.read_image(tmp_path / name)


def test_p4_an_animation_is_named(tmp_path):
    frames = [Image.fromarray(noise(8, 8, 3)) for _ in range(3)]
    frames[0].save(tmp_path / "cat.gif", save_all=True, append_images=[Image.new("RGB", (8, 8)), frames[1]])
    with pytest.raises(InputError, match=r"'.*cat\.gif': the image has \d frames"):
        media.read_image(tmp_path / "cat.gif")


def test_p4_bytes_are_named_by_their_size(tmp_path):
    Image.new("RGBA", (5, 4)).save(tmp_path / "clear.png")
    content = (tmp_path / "clear.png").read_bytes()
    with pytest.raises(InputError, match=f"the file of {len(content)} bytes: the image is transparent"):
        media.read_image(content)


def test_p4_a_truncated_sound_is_named(tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, noise(4000) / 256 - 0.5, 16000)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(InputError, match=r"talk\.wav"):
        media.read_audio(path)
