"""Fixtures and settings shared by all tests."""

import gc
import warnings

import pytest

pytest_plugins = ["hub_env"]


def pytest_collection_finish():
    """What is imported stays: the garbage collector need not go through half a million objects time and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def quiet_lightning():
    """Let Lightning's advice to users be no error."""
    import training_runs

    for text in training_runs.ADVICE:
        warnings.filterwarnings("ignore", text)
