"""What a question to Redis finds whose connection is given up for another one's failure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dspy_worker.edge.keys import FixedKey
from dspy_worker.edge.redis_link import RedisAway, RedisLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.redis_process import RedisProcess

pytestmark = pytest.mark.services

CLOSED = "unable to perform operation on a transport; the handler is closed"
"""What uvloop says in a RuntimeError to who writes on a connection that has just been closed."""


@pytest.fixture
async def link(redis: RedisProcess) -> AsyncIterator[RedisLink]:
    found = RedisLink(FixedKey("URL", redis.url))
    await found.start()
    yield found
    await found.stop()


async def late(_: object) -> None:
    raise TimeoutError


async def test_a_question_whose_connection_is_closed_under_it_finds_redis_away(
    link: RedisLink,
) -> None:
    """It must not become a 500: Redis is away for it as for the question that was late."""

    async def closed(_: object) -> None:
        with pytest.raises(RedisAway):
            await link.ask(late)
        raise RuntimeError(CLOSED)

    with pytest.raises(RedisAway):
        await link.ask(closed)
    while not link.is_there:
        await asyncio.sleep(0.01)


async def test_a_mistake_in_a_question_is_not_taken_for_redis(link: RedisLink) -> None:
    async def wrong(_: object) -> None:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="of ours"):
        await link.ask(wrong)

    assert link.is_there
