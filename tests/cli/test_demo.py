"""The demo shows every tokenizer that ships."""

import matplotlib as mpl
import pytest
import torch
from PIL import Image
from tiny_stabletoken import TINY_DECODER, make

from zoo.cli import demo
from zoo.data.media import read_audio


def test_models_are_shown_by_name(tmp_path, capsys):
    # All that ship are shown in `tests/test_package.py`.
    assert demo.main(["beast", "fast.default", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    names = ["beast.default.png", "fast.default.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(name in shown for name in names)
    assert mpl.get_backend().lower() == "agg"


@pytest.mark.parametrize("decoder", [None, TINY_DECODER])
def test_speech_is_heard_where_there_is_a_decoder(tmp_path, decoder):
    tokenizer = make(decoder=decoder)
    (row,) = demo.show_speech(tokenizer, tmp_path)
    names = [f"{tokenizer.name}.{kind}" for kind in ("recording", "gaussian", "brown")]
    wanted = {f"{tokenizer.name}.png", *(f"{name}.wav" for name in names)}
    if decoder is not None:
        wanted |= {f"{name}.decoded.wav" for name in names}
    assert {path.name for path in row.files} == {path.name for path in tmp_path.iterdir()} == wanted
    recording, rate = read_audio(demo.SAMPLES / "austen.flac")
    for name in names:
        heard, found = read_audio(tmp_path / f"{name}.wav")
        assert (heard.shape, found) == (recording.shape, rate)
        if decoder is not None:
            spoken, found = read_audio(tmp_path / f"{name}.decoded.wav")
            assert (spoken.shape, found) == (recording.shape, rate)
            if name.endswith("recording"):  # the noisy ones were encoded before they had 16 bits
                expected = tokenizer.decode(tokenizer.encode(heard)).clamp(-1, 1)
                torch.testing.assert_close(spoken, expected, rtol=0, atol=2**-15)
    with Image.open(row.files[0]) as picture:
        width, height = picture.size
    assert (width > 3 * height) == (decoder is not None)
    assert ("It makes no speech" in row.remark) == (decoder is None)


def test_the_help_says_what_it_is_for(capsys):
    with pytest.raises(SystemExit):
        demo.main(["--help"])
    assert "folder for pictures" in capsys.readouterr().out
