"""The second level: answers in Redis, and the lock that lets one pod ask for all.

Ages are told by Redis' own clock, by how long an entry is still to live there: the clocks of pods
may differ. A look-up that finds nothing good takes the question's lock in the same step; the others
look again and again until the answer is there or the lock is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dspy_worker.core import envelope
from dspy_worker.edge.redis_link import RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspy_worker.cache.metrics import CacheMetrics
    from dspy_worker.cache.place import Place
    from dspy_worker.core.shelflife import Found, ShelfLife
    from dspy_worker.edge.redis_link import RedisLink

LEVEL: Final = "redis"
LOCK_MS: Final = 1000
"""How long a lock outlives the pod that held it."""
_RENEW_SECONDS: Final = LOCK_MS / 1000 / 4
_POLL_SECONDS, _LONGEST_POLL = 0.005, 0.05
_CLEAR_BATCH: Final = 500

_LOOK = """
local v = redis.call('GET', KEYS[1])
local left = v and redis.call('PTTL', KEYS[1]) or 0
if v and left > tonumber(ARGV[3]) then return {v, left, 0} end
local got = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
return {v, left, got and 1 or 2}
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

_REMIND = """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and known >= ARGV[2] then return 0 end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""


class Lease:
    """A lock that this pod holds until it is released; kept alive in the meantime."""

    def __init__(self, level: Shared, place: Place, token: str) -> None:
        """Keep it alive from now on."""
        self._level, self.place, self.token = level, place, token
        self._task = asyncio.create_task(self._keep())

    async def release(self) -> None:
        """Let others ask; who holds it by now keeps it."""
        self._task.cancel()
        await self._level.unlock(self.place, self.token)

    async def _keep(self) -> None:
        with contextlib.suppress(RedisAway):
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                await self._level.renew(self.place, self.token)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look-up says.

    Attributes:
        found: The answer, good or stale.
        lease: The question's lock, if this pod got it.
        is_asked: Whether another pod holds the lock.
    """

    found: Found | None = None
    lease: Lease | None = None
    is_asked: bool = False


NOTHING: Final = Look()


class Shared:
    """Answers of one app in Redis."""

    def __init__(
        self,
        link: RedisLink,
        app: str,
        life: ShelfLife,
        metrics: CacheMetrics,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Keep what is needed; `app` is NAMESPACE/NAME."""
        self._link = link
        # The braces keep an answer and its lock on the same node of a Redis cluster.
        self._prefix = f"dspy:{{{app}}}"
        self._life = life
        self._metrics = metrics
        self._wall = wall

    @property
    def is_there(self) -> bool:
        """Whether Redis is asked at present."""
        return self._link.is_there

    async def look(self, place: Place) -> Look:
        """Look an answer up; take the question's lock where there is no good one.

        Redis that is away is a miss without a lock.
        """
        if not self._link.is_there:
            return NOTHING
        token = secrets.token_hex(8)
        keys = (self._key(place), self._lock(place))
        stale_ms = int(self._life.stale_seconds * 1000)
        began = time.perf_counter()
        try:
            value, left, lock = await self._run(_LOOK, keys, token, LOCK_MS, stale_ms)
        except RedisAway:
            self._metrics.errors[LEVEL].inc()
            return NOTHING
        self._metrics.seconds[LEVEL].observe(time.perf_counter() - began)
        found = await self._opened(place, value, left)
        self._count(found)
        lease = Lease(self, place, token) if lock == 1 else None
        return Look(found, lease, lock == 2)  # noqa: PLR2004 - what the script returns

    async def follow(self, place: Place, patience: float) -> Found | None:
        """Return the answer that another pod asks for, or None when it will not come.

        Args:
            place: The question's.
            patience: Seconds to wait at most.
        """
        give_up = time.monotonic() + patience
        pause = _POLL_SECONDS
        while (left := give_up - time.monotonic()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_POLL)
            try:
                value, lives, locked = await self._link.ask(
                    lambda client: self._poll(client, place)
                )
            except RedisAway:
                return None
            found = await self._opened(place, value, lives)
            if found and found.is_fresh:
                return found
            if not locked:
                return None
        return None

    async def put(self, place: Place, found: Found) -> None:
        """Keep an answer; Redis that is away keeps nothing."""
        sealed = self._life.envelope(found, self._wall())
        left = sealed.keep_ms - int(found.age_seconds * 1000)
        if left <= 0:
            return
        text = envelope.seal(place.name, sealed)
        try:
            await self._link.ask(lambda client: client.set(self._key(place), text, px=left))
            self._metrics.stores[LEVEL].inc()
        except RedisAway:
            self._metrics.errors[LEVEL].inc()

    async def renew(self, place: Place, token: str) -> None:
        """Keep a lock alive; raises RedisAway."""
        await self._run(_RENEW, (self._lock(place),), token, LOCK_MS)

    async def unlock(self, place: Place, token: str) -> None:
        """Give a lock back; one that cannot be given back ends by itself."""
        with contextlib.suppress(RedisAway):
            await self._run(_RELEASE, (self._lock(place),), token)

    async def marks(self) -> dict[str, str]:
        """Return what was cleared by hand; raises RedisAway."""
        found = await self._link.ask(lambda client: client.hgetall(self._marks))
        return {name.decode(): mark.decode() for name, mark in found.items()}

    async def remind(self, marks: Mapping[str, str]) -> None:
        """Write marks where Redis has older ones or none; raises RedisAway."""
        for name, mark in marks.items():
            await self._run(_REMIND, (self._marks,), name, mark)

    async def remove(self, variant: str, tag: str) -> int:
        """Remove answers of a variant, a tenant's tag, or both; empty for all.

        Returns:
            How many were removed.

        Raises:
            RedisAway: Some may be left.
        """
        pattern = f"{_literal(self._prefix)}:answer:{variant or '*'}:{tag or '*'}:*"
        cursor, removed = 0, 0
        while True:
            cursor, keys = await self._scan(cursor, pattern)
            if keys:
                removed += await self._unlink(keys)
            if not cursor:
                return removed

    async def _unlink(self, keys: list[bytes]) -> int:
        return int(await self._link.ask(lambda client: client.unlink(*keys)))

    async def _scan(self, cursor: int, pattern: str) -> tuple[int, list[bytes]]:
        found = await self._link.ask(
            lambda client: client.scan(cursor, match=pattern, count=_CLEAR_BATCH)
        )
        return int(found[0]), list(found[1])

    async def _run(self, script: str, keys: tuple[str, ...], *arguments: str | int) -> Any:  # noqa: ANN401 - what the script returns
        """Run a script; the client sends its text only where Redis does not know it."""
        return await self._link.ask(
            lambda client: client.register_script(script)(keys=list(keys), args=list(arguments))
        )

    async def _opened(self, place: Place, value: bytes | None, left_ms: int) -> Found | None:
        """Return an answer as it was written; remove one that cannot be read."""
        if value is None:
            return None
        try:
            opened = envelope.unseal(place.name, value)
            envelope.prediction(opened.body)
        except envelope.Unreadable:
            self._metrics.poisoned[LEVEL].inc()
            with contextlib.suppress(RedisAway):
                await self._link.ask(lambda client: client.unlink(self._key(place)))
            return None
        return self._life.found(LEVEL, opened, (opened.keep_ms - left_ms) / 1000)

    async def _poll(self, client: Any, place: Place) -> Any:  # noqa: ANN401 - redis-py's types
        async with client.pipeline(transaction=False) as pipe:
            pipe.get(self._key(place)).pttl(self._key(place)).exists(self._lock(place))
            return await pipe.execute()

    def _count(self, found: Found | None) -> None:
        hit = found is not None and found.is_fresh
        (self._metrics.hits if hit else self._metrics.misses)[LEVEL].inc()

    def _key(self, place: Place) -> str:
        return f"{self._prefix}:answer:{place.name}"

    def _lock(self, place: Place) -> str:
        return f"{self._prefix}:asking:{place.name}"

    @property
    def _marks(self) -> str:
        return f"{self._prefix}:cleared"


def _literal(text: str) -> str:
    """Return a pattern that only this text fits."""
    return "".join(f"\\{c}" if c in "*?[]^\\" else c for c in text)
