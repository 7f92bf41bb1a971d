"""A practice LM for each module of tests that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import practice_fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.practice_fixture import PracticeLM


@pytest.fixture(scope="module")
def lm() -> Iterator[PracticeLM]:
    """Run a practice LM that the workers of a module ask."""
    with practice_fixture.running() as server:
        yield server


@pytest.fixture
def clean_lm(lm: PracticeLM) -> None:
    """End its faults and its counts."""
    lm.reset()
