"""Servers that workers ask: a practice LM for each module of tests, one PostgreSQL, one Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import postgres_process, practice_fixture, redis_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_process import Postgres
    from tests.practice_fixture import PracticeLM
    from tests.redis_process import RedisProcess


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


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisProcess]:
    """Run a Redis for all tests of a run."""
    with redis_process.running() as server:
        yield server


@pytest.fixture
def redis(redis_server: RedisProcess) -> RedisProcess:
    """Return an empty Redis that runs, even where the test before has killed it."""
    if redis_server.process is None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    return redis_server
