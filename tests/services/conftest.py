"""A practice LM for each module of tests that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import postgres_process, practice_fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_process import Postgres
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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """Run a PostgreSQL for all tests of a run."""
    with postgres_process.running() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres) -> Postgres:
    """Return a PostgreSQL that runs, even where the test before has killed it."""
    assert postgres_server.process is not None
    if postgres_server.process.poll() is not None:
        postgres_server.start()
    return postgres_server
