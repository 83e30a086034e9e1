"""Fixtures and settings shared by all tests."""

import gc
import warnings

import pytest

pytest_plugins = ["hub_env"]


def pytest_sessionstart():
    """What is imported stays: looking for garbage among half a million objects time and again finds none."""
    gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture
def quiet_lightning():
    """Let Lightning's advice to users be no error."""
    import training_runs

    for text in training_runs.ADVICE:
        warnings.filterwarnings("ignore", text)
