"""Exact work: one thread a kernel, results in order, and nothing of the caller or the process changed."""

import os
import threading
import time

import pytest
import torch

from zoo.components.exact.one_by_one import canonical

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def settings(_=None):
    return (torch.get_num_threads(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_b11_settings_are_those_of_the_work_alone(workers):
    with torch.autocast("cpu"):
        mine = settings()
        found = canonical(CPU, workers, lambda run: [settings(), *run(settings, range(7))])
        assert settings() == mine
    assert set(found) == {(1, False, False)}


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_in_order(workers):
    def square(number):
        time.sleep(0.001 * (number % 3))
        return number**2

    expected = [number**2 for number in range(20)]
    assert canonical(CPU, workers, lambda run: run(square, range(20))) == expected
    assert canonical(CPU, workers, lambda run: run(square, [])) == []


def test_work_within_work():
    def inner(number):
        return sum(canonical(CPU, 2, lambda run: run(lambda x: x * number, range(4))))

    assert canonical(CPU, 3, lambda run: run(inner, range(5))) == [0, 6, 12, 18, 24]


@pytest.mark.parametrize("workers", [1, 3])
def test_errors_come_through_and_end_the_work(workers):
    done = []

    def fail(number):
        if number == 2:
            raise KeyError(number)
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(KeyError):
        canonical(CPU, workers, lambda run: run(fail, range(1000)))
    assert len(done) < 20
    assert canonical(CPU, workers, lambda run: run(str, [1])) == ["1"]


def test_threads_are_kept():
    def busy(run):
        return run(lambda _: time.sleep(0.01), range(6))

    canonical(CPU, 3, busy)
    before = threading.active_count()
    for _ in range(10):
        canonical(CPU, 3, busy)
    assert threading.active_count() <= before + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_process():
    canonical(CPU, 3, lambda run: run(str, range(9)))
    child = os.fork()
    if not child:
        made = canonical(CPU, 3, lambda run: run(settings, range(9)))
        os._exit(0 if set(made) == {(1, False, False)} else 1)
    assert os.waitpid(child, 0)[1] == 0
