"""Polls the workers' reports: unready pods often, ready ones seldom; nobody waits for it."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson

from dspy_worker import contract
from dspy_worker.contract import state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dspy_operator.core.manifest import Key
    from dspy_operator.edge.telemetry import Telemetry
    from dspy_worker.contract.state import WorkerState

    Reports = Mapping[str, WorkerState]

_ROUND_SECONDS: Final = 3.0
_UNREADY_SECONDS: Final = 2.5
"""Less than a round, so that an unready worker is asked in each."""
_READY_SECONDS: Final = 30.0
_SCALED_SECONDS: Final = 10.0
"""An autoscaler looks every 15 s; it must not add pods while the LM provider throttles."""
_TIMEOUT_SECONDS: Final = 2.0
_TOGETHER: Final = 16
_LARGEST_REPORT: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One worker that can be asked.

    Attributes:
        uid: Uid of the pod.
        app: The app that it belongs to.
        address: IP of the pod.
        token: The app's token.
        ready: Whether the pod is ready; such a one is asked seldom.
        scaled: Whether an autoscaler decides about the number of pods.
    """

    uid: str
    app: Key
    address: str
    token: str
    ready: bool
    scaled: bool = False

    @property
    def period(self) -> float:
        """Return the seconds between two looks."""
        if not self.ready:
            return _UNREADY_SECONDS
        return _SCALED_SECONDS if self.scaled else _READY_SECONDS


class Poller:
    """Keeps the newest report of each worker.

    Attributes:
        reports: The reports by the uid of the pod.
    """

    def __init__(
        self,
        targets: Callable[[], Iterable[Target]],
        changed: Callable[[Key], None],
        telemetry: Telemetry,
    ) -> None:
        """Ask `targets`; call `changed` when a report says something else than before."""
        self.reports: dict[str, WorkerState] = {}
        self._targets = targets
        self._changed = changed
        self._telemetry = telemetry
        self._due: dict[str, float] = {}
        # Not the session's limit: its time-out counts the wait for a connection, so that a few dead
        # pods would make all others miss theirs.
        self._slots = asyncio.Semaphore(_TOGETHER)

    async def run(self) -> None:
        """Poll for ever."""
        async with _open_session() as session:
            while True:
                await self.round(session, time.monotonic())
                await asyncio.sleep(_ROUND_SECONDS)

    async def round(self, session: aiohttp.ClientSession, now: float) -> None:
        """Ask every worker that is due."""
        targets = {target.uid: target for target in self._targets()}
        for gone in [uid for uid in self._due if uid not in targets]:
            del self._due[gone]
            self.reports.pop(gone, None)
        due = [t for t in targets.values() if self._is_due(t, now)]
        await asyncio.gather(*(self._poll(session, target) for target in due))

    def _is_due(self, target: Target, now: float) -> bool:
        period = target.period
        # A pod that was ready when it was asked last may have become unready since.
        due = min(self._due.get(target.uid, now), now + period)
        if due > now:
            self._due[target.uid] = due
            return False
        self._due[target.uid] = now + period * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        return True

    async def _poll(self, session: aiohttp.ClientSession, target: Target) -> None:
        try:
            async with self._slots:
                report = await _ask(session, target)
            news = self._is_news(target, report)
        except Exception:  # noqa: BLE001 - it is a user's image that answers, and may answer anything
            self._telemetry.polls.labels("error").inc()
            return
        self._telemetry.polls.labels("success").inc()
        self.reports[target.uid] = report
        if news:
            self._changed(target.app)

    def _is_news(self, target: Target, report: WorkerState) -> bool:
        old = self.reports.get(target.uid)
        return old is None or _what_matters(old) != _what_matters(report)


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
    )


async def _ask(session: aiohttp.ClientSession, target: Target) -> WorkerState:
    host = f"[{target.address}]" if ":" in target.address else target.address
    url = f"http://{host}:{contract.OPS_PORT}{contract.STATE_PATH}"
    headers = {"Authorization": f"Bearer {target.token}"}
    async with session.get(url, headers=headers, allow_redirects=False) as response:
        response.raise_for_status()
        return state.load(orjson.loads(await _read(response.content)))


async def _read(stream: aiohttp.StreamReader) -> bytes:
    """Read all of a report, however many packets bring it; what is too long is no report."""
    text = b""
    async for chunk in stream.iter_any():
        text += chunk
        if len(text) > _LARGEST_REPORT:
            raise ValueError("a report of a worker is longer than any can be")
    return text


def _what_matters(report: WorkerState) -> tuple[object, ...]:
    """Return what a verdict depends on; counters move with every request."""
    return (
        report.config_digest,
        report.ready,
        report.not_ready_reason,
        report.not_ready_message,
        report.credentials,
        report.throttled,
    )
