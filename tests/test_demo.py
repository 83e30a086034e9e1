"""The demo shows every tokenizer that ships."""

import matplotlib as mpl
import pytest
from PIL import Image

from zoo import demo, registry


def test_every_shipped_model_is_shown(tmp_path, capsys):
    assert demo.main(["--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for name in registry.list_models():
        if registry.model(name).is_shipped:
            picture = Image.open(tmp_path / f"{name}.png")
            assert min(picture.size) > 300
            # More than a blank page: curves, axes and text.
            assert len(picture.convert("L").getcolors(2**20)) > 50
            assert f"{name}.png" in shown
    assert mpl.get_backend().lower() == "agg"


def test_the_help_says_what_it_is_for(capsys):
    with pytest.raises(SystemExit):
        demo.main(["--help"])
    assert "folder for pictures" in capsys.readouterr().out
