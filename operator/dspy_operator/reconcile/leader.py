"""Holds the Lease, or waits for it; tells everybody else whether this process may write.

A lease does not fence: a process that was frozen may wake up with a write in its hands. So every
write asks `may_write` at the moment it is sent, and the answer is no from ten seconds after the
last renewal on, five seconds before anybody else may take over.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import structlog

from dspy_operator import errors
from dspy_operator.core import lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_operator.core.lease import Action, Candidate, Record
    from dspy_operator.core.manifest import Manifest, Ref

_log = structlog.get_logger(__name__)


class Leases(Protocol):
    """What is asked of the API server."""

    async def get(self, ref: Ref) -> Manifest | None:
        """Return an object, or None."""

    async def create(self, desired: Manifest) -> Manifest:
        """Create an object."""

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        """Change an object."""


class Alone:
    """The leader where no other process may be: it always leads."""

    def __init__(self) -> None:
        """Lead."""
        self.leading = asyncio.Event()
        self.leading.set()

    def may_write(self) -> bool:
        """Return True."""
        return True

    async def run(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """There is nothing to give back."""


class Elected:
    """A leader among others.

    Attributes:
        leading: Set once this process holds the Lease; it never comes back, the process ends then.
    """

    def __init__(
        self,
        leases: Leases,
        where: Ref,
        identity: str,
        *,
        gauge: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            leases: The API server.
            where: The Lease.
            identity: Name of this process among the candidates.
            gauge: Hears of 1 while this process leads, else of 0.
            clock: Seconds from any fixed point; it must go on while the process is stopped.
        """
        self.leading = asyncio.Event()
        self._leases = leases
        self._where = where
        self._gauge = gauge
        self._clock = clock
        self._candidate: Candidate = lease.Candidate(identity)
        self._record: Record | None = None
        self._valid_until = float("-inf")
        self._one_at_a_time = asyncio.Lock()
        self._over = False
        gauge(0)

    def may_write(self) -> bool:
        """Return whether this process holds the Lease at this very moment."""
        return self._clock() < self._valid_until

    async def run(self) -> None:
        """Try to lead, then lead; return when the Lease is lost."""
        while True:
            async with self._one_at_a_time:
                held = not self._over and await self._try_once()
            if self.leading.is_set() and not held and not self.may_write():
                if not self._over:
                    _log.error("the lease is lost", lease=str(self._where))
                self._gauge(0)
                return
            period = lease.RENEW_SECONDS if held else lease.RETRY_SECONDS
            await asyncio.sleep(period * random.uniform(0.8, 1.0))  # noqa: S311 - spreads load

    async def release(self) -> None:
        """Give the Lease back; nothing may be written afterwards."""
        async with self._one_at_a_time:
            self._over = True
            if not self.may_write() or self._record is None:
                return
            self._valid_until = float("-inf")
            self._gauge(0)
            try:
                await self._leases.merge(self._where, lease.release(self._record, _now()))
            except errors.ClusterError as error:
                _log.warning("the lease was not released", error=str(error))

    async def _try_once(self) -> bool:
        """Return whether this process holds the Lease after one look at it."""
        asked = self._clock()
        try:
            live = await self._leases.get(self._where)
            record = None if live is None else lease.read(live)
            action = self._candidate.decide(record, self._clock())
            if action == "wait":
                return False
            asked = self._clock()
            answer = await self._write(action, record)
        except errors.ConflictError:
            return False  # somebody was faster; the next look tells who
        except errors.ClusterError as error:
            _log.warning("the lease could not be renewed", error=str(error))
            return False
        self._hold(lease.read(answer), asked)
        return True

    async def _write(self, action: Action, record: Record | None) -> Manifest:
        identity, now = self._candidate.identity, _now()
        if record is None:
            new = lease.create(self._where.namespace, self._where.name, identity, now)
            return await self._leases.create(new)
        patch = lease.take(record, identity, now) if action == "take" else lease.renew(record, now)
        return await self._leases.merge(self._where, patch)

    def _hold(self, record: Record, asked: float) -> None:
        """Count from the moment of asking: the answer may have taken its time."""
        self._record = record
        self._valid_until = asked + lease.VALID_SECONDS
        if not self.leading.is_set():
            self.leading.set()
            self._gauge(1)
            _log.info("leading", lease=str(self._where), transitions=record.transitions)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
