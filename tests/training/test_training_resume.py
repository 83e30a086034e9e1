"""A run that is killed anywhere and goes on ends with the very state of one that was never stopped."""

import os
import signal
import time

import pytest
import torch
import training_runs as runs

# Batches of 16 of the 156 chunks: an epoch has 9.
EPOCH = 9


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run of 15 steps ends with that nobody has stopped."""
    root = tmp_path_factory.mktemp("whole")
    assert runs.run(root=root) == 0
    return runs.essence(root)


def test_killed_inside_and_between_epochs(tmp_path):
    # After a step with a checkpoint and without; at the end of an epoch; twice in the next.
    runs.compare(tmp_path, runs.run, [(EPOCH - 1,), (3, 4, EPOCH - 1, EPOCH + 3, EPOCH + 5)], max_steps=16)


def test_killed_where_epochs_limit_the_run(tmp_path):
    runs.compare(tmp_path, runs.run, [(4, EPOCH, EPOCH + 1, EPOCH + 4)], max_steps=-1, max_epochs=2)


def test_killed_within_an_accumulation_of_gradients(tmp_path):
    # An epoch has 5 steps, the last of one batch. Checkpoints are after batches 5, 10 and 16.
    runs.compare(tmp_path, runs.run, [(5, 6, 11, 12)], accumulate_grad_batches=2, max_steps=9)


def test_killed_with_workers_that_read_ahead(whole, tmp_path):
    with_workers = runs.compare(tmp_path, runs.run, [(4, EPOCH, EPOCH + 4)], workers=2)
    # Who reads an item does not matter either.
    assert runs.differences(with_workers, whole) == []


def test_killed_as_two_processes(tmp_path):
    whole = runs.compare(tmp_path, runs.run_pair, [(4, EPOCH, EPOCH + 4)], batch_size=8)
    first, second = (states["torch"] for states in whole["zoo_random_states"])
    assert not torch.equal(first, second)


def test_killed_without_an_average_and_with_other_quantizers(tmp_path):
    model = {"config": {"quantizer": {"kind": "stochastic_vq", "codebook_size": 16, "dim": 4}}}
    assert runs.run(root=tmp_path / "whole", decay=0, model=model) == 0
    assert runs.run(root=tmp_path / "killed", decay=0, model=model, kill_at=7) == -signal.SIGKILL
    assert runs.run(root=tmp_path / "killed", decay=0, model=model, resume=True) == 0
    assert runs.differences(runs.essence(tmp_path / "whole"), runs.essence(tmp_path / "killed")) == []


def test_a_longer_run_goes_on_from_a_finished_one(whole, tmp_path):
    for name, half in {"steps": {"max_steps": 7}, "epochs": {"max_steps": -1, "max_epochs": 1}}.items():
        assert runs.run(root=tmp_path / name, **half) == 0
        assert runs.run(root=tmp_path / name, resume=True) == 0
        assert runs.differences(whole, runs.essence(tmp_path / name)) == [], name


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_and_stops(number, code, tmp_path):
    # Batch 4 is the first of two whose gradients are accumulated.
    settings = {"every": 1000, "accumulate_grad_batches": 2, "max_steps": 6}
    assert runs.run(root=tmp_path / "signalled", **settings, signal_at=(4, number)) == code
    assert runs.read(tmp_path / "signalled")["global_step"] == 3
    assert runs.run(root=tmp_path / "signalled", **settings, resume=True) == 0
    assert runs.run(root=tmp_path / "whole", **settings) == 0
    assert runs.differences(runs.essence(tmp_path / "whole"), runs.essence(tmp_path / "signalled")) == []


def test_another_signal_saves_and_goes_on(tmp_path):
    keep = {"root": tmp_path, "every": 1000}
    assert runs.run(**keep, signal_at=(4, signal.SIGUSR1), kill_at=6) == -signal.SIGKILL
    assert runs.read(tmp_path)["global_step"] == 5


def test_one_process_that_is_signalled_stops_both(tmp_path):
    assert runs.run_pair(root=tmp_path, every=1000, signal_at=(4, signal.SIGTERM, 1), batch_size=8) == [143, 143]
    assert runs.read(tmp_path)["global_step"] == 5


def test_a_checkpoint_is_whole_whenever_the_process_is_killed(tmp_path):
    """Written after every step; killed at moments that nobody has chosen."""
    last = tmp_path / "checkpoints" / "last.ckpt"
    steps = []
    for attempt in range(4):
        process = runs.start(root=tmp_path, every=1, max_steps=100_000, resume=attempt > 0)
        before = last.stat().st_mtime_ns if last.exists() else 0
        deadline = time.monotonic() + 30
        while not last.exists() or last.stat().st_mtime_ns == before:
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.05 + 0.037 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        assert runs.finish(process) == [-signal.SIGKILL]
        steps.append(runs.read(tmp_path)["global_step"])
    assert steps == sorted(set(steps))
    # What a kill leaves of an unfinished file is written over by the next.
    assert {path.name for path in last.parent.iterdir()} - {".saving.ckpt"} >= {"last.ckpt"}
