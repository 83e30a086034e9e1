"""What is in a folder that a user names."""

import os

import pytest

from zoo.data.folders import files_in, natural_order
from zoo.errors import InputError


def test_x13_natural_order_of_any_name():
    # "²" is a digit to str.isdigit and no number to int; "٣" is a number, and not one of those that are looked for.
    assert sorted(["1²10", "1²2", "٣", "a10", "a9", "²"], key=natural_order)[:2] == ["1²2", "1²10"]
    assert sorted(["ep_10", "ep_2", "ep_٣"], key=natural_order) == ["ep_2", "ep_10", "ep_٣"]
    assert sorted(["a1b10", "a1b9", "a", ""], key=natural_order) == ["", "a", "a1b9", "a1b10"]


def test_x7_links_to_folders_are_followed_once(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("a/1.wav", "a/deep/2.wav", "elsewhere/3.wav", "a/.hidden.wav"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "deep" / "circle").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "twice").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "file.wav").symlink_to(tmp_path / "a" / "1.wav")
    found = [file.relative_to(tmp_path / "a").as_posix() for file in files_in(tmp_path / "a")]
    assert len(found) == len({name.split("/")[-1] for name in found}) == 4
    assert {name.split("/")[-1] for name in found} == {"1.wav", "2.wav", "3.wav", "file.wav"}


def test_x7_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "a" / "closed").mkdir(parents=True)
    (tmp_path / "a" / "1.wav").touch()
    if os.geteuid() == 0:  # whom permissions do not stop: the system call is what fails
        listed = os.scandir

        def scandir(path):
            if os.fspath(path).endswith("closed"):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return listed(path)

        monkeypatch.setattr(os, "scandir", scandir)
    else:
        (tmp_path / "a" / "closed").chmod(0)
    with pytest.raises(InputError, match=r"closed' cannot be listed \(Permission denied\)"):
        files_in(tmp_path / "a")
    with pytest.raises(InputError, match="cannot be listed"):
        files_in(tmp_path / "missing")
