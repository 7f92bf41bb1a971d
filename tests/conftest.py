"""Fixtures for all tests: clusters, see devcluster/pytest_plugin.py."""

pytest_plugins = ["devcluster.pytest_plugin"]
