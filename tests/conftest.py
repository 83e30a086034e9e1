"""Fixtures and settings shared by all tests."""

import warnings

import pytest

pytest_plugins = ["hub_env"]


@pytest.fixture
def quiet_lightning():
    """Let Lightning's advice to users be no error."""
    import training_runs

    for text in training_runs.ADVICE:
        warnings.filterwarnings("ignore", text)
