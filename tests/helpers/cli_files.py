"""Working folders, real files and expectations for tests of `zoo encode` and `zoo decode`."""

from pathlib import Path

import pytest
import torch
import toy

import zoo
from zoo.cli import main
from zoo.data import media


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working folder with a checkpoint of each toy beside it, whose families are registered."""
    with toy.registered():
        for modality in toy.CLASSES:
            zoo.save(toy.make(modality), tmp_path / "models" / modality)
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        yield tmp_path / "work"


def write(path, modality, seed=0, size=None, rate=16000, frames=2):
    """Write a real file of a modality; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if modality == "speech":
        media.write_wav(path, toy.signals("speech", 1, seed, size or 37)[0], rate)
    elif modality == "image":
        draw = torch.Generator().manual_seed(seed)
        media.write_png(path, torch.rand(3, *(size or (8, 8)), generator=draw))
    else:
        clip = torch.rand(3, 1, 1, 1, generator=torch.Generator().manual_seed(seed)).expand(
            3, frames, *(size or (8, 8))
        )
        media.write_mp4(path, clip, 12.5)
    return path


def ok(*arguments):
    assert main([*map(str, arguments)]) == 0


def fails(capsys, arguments, *parts):
    """Expect one error message that has all the parts, and no output file or half of one."""
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    for part in parts:
        assert part in shown.err
    assert sorted(Path().rglob("*")) == before


def listed(folder):
    """Return the paths of all files in a folder, relative to it, sorted."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
