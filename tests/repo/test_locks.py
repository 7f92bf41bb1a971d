"""The locks hold on every Python that we support, not only on that of whoever made them."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
OLDEST = {"python_full_version": "3.11.2", "python_version": "3.11", "extra": ""}
"""Debian 12's Python, which the images of the test cluster have."""
BY_HAND = {"dspy", "litellm", "diskcache"}
"""DSPy is installed without what it asks for; see worker.in."""


def locked(name: str) -> dict[str, str]:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


@pytest.mark.parametrize("name", ["operator", "worker"])
def test_a_lock_has_what_its_packages_need_on_the_oldest_python(name: str) -> None:
    lock = locked(name)
    missing = {
        f"{package} needs {needed.name}"
        for package in lock.keys() - BY_HAND
        for needed in map(Requirement, metadata.requires(package) or ())
        if needed.marker is None or needed.marker.evaluate(OLDEST)
        if canonicalize_name(needed.name) not in lock
    }
    assert missing == set()
