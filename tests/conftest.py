"""Fixtures for all tests: clusters (devcluster/pytest_plugin.py) and the practice LM."""

pytest_plugins = ["devcluster.pytest_plugin", "tests.practice_fixture"]
