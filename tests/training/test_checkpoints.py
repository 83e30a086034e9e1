"""Training checkpoints as files: where the file system can do less than usual."""

import errno
import os

import pytest
import torch

from zoo.training.checkpoints import _flush, _keep


def refused(number):
    def link(*_):
        raise OSError(number, os.strerror(number))

    return link


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def test_h7_copied_where_there_are_no_hard_links(number, tmp_path, monkeypatch):
    (tmp_path / "whole.ckpt").write_bytes(b"new")
    (tmp_path / "step=2.ckpt").write_bytes(b"of an earlier run")
    monkeypatch.setattr(os, "link", refused(number))
    _keep(tmp_path / "whole.ckpt", tmp_path / "step=2.ckpt")
    assert (tmp_path / "step=2.ckpt").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step=2.ckpt", "whole.ckpt"]


def test_h7_a_link_takes_no_space_where_there_are_some(tmp_path):
    (tmp_path / "whole.ckpt").write_bytes(b"new")
    _keep(tmp_path / "whole.ckpt", tmp_path / "step=2.ckpt")
    assert (tmp_path / "whole.ckpt").stat().st_ino == (tmp_path / "step=2.ckpt").stat().st_ino


def test_h7_a_full_disk_is_told_and_leaves_nothing_half(tmp_path, monkeypatch):
    (tmp_path / "whole.ckpt").write_bytes(b"new")
    monkeypatch.setattr(os, "link", refused(errno.EPERM))
    monkeypatch.setattr("shutil.copyfile", refused(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        _keep(tmp_path / "whole.ckpt", tmp_path / "step=2.ckpt")
    assert not (tmp_path / "step=2.ckpt").exists()


def test_h7_a_folder_that_cannot_be_flushed_is_no_error(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "last.ckpt")
    monkeypatch.setattr(os, "fsync", refused(errno.EINVAL))
    _flush(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        _flush(tmp_path / "last.ckpt")
