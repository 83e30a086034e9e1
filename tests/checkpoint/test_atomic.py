"""Writing at one stroke: what a killed process leaves is removed by the next, and nothing of the process is set."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import children
import pytest
import toy

import zoo
from zoo.checkpoint.atomic import STAGING, beside, held, staging, writing
from zoo.errors import CheckpointError
from zoo.hub.client import _checkpoint_files

posix = pytest.mark.skipif(os.name != "posix", reason="locks and permissions of POSIX")

KILLED = """
import os, signal, sys, time
from pathlib import Path
from zoo.checkpoint import atomic
folder = Path(sys.argv[1])
if sys.argv[2] == "file":
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    with atomic.writing(folder / "x.zoo", False) as file:
        file.write(b"half")
with atomic.staging(folder) as staged:
    (staged / "model.safetensors").write_bytes(b"half")
    if sys.argv[2] == "folder":
        os.kill(os.getpid(), signal.SIGKILL)
    while not Path(sys.argv[3]).exists():
        time.sleep(0.01)
"""


def kill(folder, what):
    assert children.run(KILLED, folder, what).returncode == -signal.SIGKILL


def write_whole(path, content, overwrite=False):
    with writing(path, overwrite) as file:
        file.write(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def left(folder):
    return [name for name in names(folder) if name.startswith(STAGING)]


@pytest.fixture
def model():
    with toy.registered():
        yield toy.make("image")


@posix
def test_x9_what_a_killed_save_left_is_ignored_by_push_and_removed_by_the_next(tmp_path, model):
    zoo.save(model, tmp_path)
    kill(tmp_path, "folder")
    assert len(left(tmp_path)) == 1
    assert _checkpoint_files(tmp_path) == ["config.json", "model.safetensors"]
    zoo.save(model, tmp_path, overwrite=True)
    assert names(tmp_path) == ["config.json", "model.safetensors"]


@posix
def test_x9_another_save_at_work_is_left_alone(tmp_path, model):
    is_over = tmp_path / "over"
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(children.run, KILLED, tmp_path, "wait", is_over)
        try:
            while not list(tmp_path.glob(f"{STAGING}*/*")):
                assert not other.done(), other.result().stderr
                time.sleep(0.01)
            zoo.save(model, tmp_path)
            assert len(left(tmp_path)) == 1
        finally:
            is_over.touch()
        assert other.result().returncode == 0
    assert left(tmp_path) == []


@posix
def test_x9_files_as_well(tmp_path):
    kill(tmp_path, "file")
    assert left(tmp_path) == [f"{STAGING}x.zoo"]
    write_whole(tmp_path / "x.zoo", b"whole")
    assert names(tmp_path) == ["x.zoo"]
    assert (tmp_path / "x.zoo").read_bytes() == b"whole"


def test_x9_what_others_keep_beside_it_stays(tmp_path):
    for name in (".x.zoo.swp", ".saving", "x.zoo~", f"{STAGING}other.zoo"):
        (tmp_path / name).write_bytes(b"mine")
    before = names(tmp_path)
    write_whole(tmp_path / "x.zoo", b"whole")
    assert names(tmp_path) == sorted([*before, "x.zoo"])


@pytest.mark.parametrize("name", ["x" * 251 + ".zoo", "\u00e9" * 125 + ".zoo"])
def test_names_as_long_as_a_file_system_allows(name, tmp_path):
    """What stands beside them meanwhile needs a name as well."""
    with writing(tmp_path / name, False) as file:
        file.write(b"old")
        write_whole(tmp_path / name, b"new")
    assert names(tmp_path) == [name]
    with held(beside(tmp_path / name, ".encoding-")):
        assert len(names(tmp_path)) == 2


def test_several_threads_write_one_file(tmp_path):
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(tmp_path / "x", content, True)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() in contents


def test_staging_is_gone_whatever_happens(tmp_path):
    def fail():
        with staging(tmp_path) as staged:
            (staged / "inner").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(tmp_path) == []


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_x15_permissions_are_those_of_any_new_file_and_no_umask_is_set(tmp_path, monkeypatch, mask):
    before = os.umask(mask)
    try:
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("umask was set"))
        write_whole(tmp_path / "x", b"1")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_whole(tmp_path / "none" / "x", b"1")


@posix
def test_a_folder_is_held_by_one_and_kept(tmp_path):
    def hold():
        with held(tmp_path / "work"):
            (tmp_path / "work" / "more").write_bytes(b"")

    with held(tmp_path / "work"):
        (tmp_path / "work" / "half").write_bytes(b"1")
        with pytest.raises(CheckpointError, match="another process is at work in"):
            hold()
    hold()
    assert names(tmp_path / "work") == ["half", "more"]
