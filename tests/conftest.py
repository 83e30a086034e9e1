"""Fixtures and settings shared by all tests."""

pytest_plugins = ["hub_env"]
