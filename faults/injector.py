"""Decides at each request and each watch line whether the plan's moment has come, and what then.

It touches neither sockets nor processes; it does that through `Levers` and through what it returns
to the proxy.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from faults.plans import Counting, Kind, Plan, Point

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from faults.trace import Line, Request

FORBIDDEN_SECONDS = 4.0
OUTAGE_SECONDS = 4.0
LAG_SECONDS = 3.0
STALE_SECONDS = 5.0


class CutError(Exception):
    """The connection is to break instead of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request of the operator that waits for its answer.

    Attributes:
        forward: Asks the API server, and records the answer.
        again: Asks the API server the same, as somebody else.
    """

    request: Request
    forward: Callable[[], Awaitable[Answer]]
    again: Callable[[], Awaitable[Answer]]


class Levers(Protocol):
    """What a fault can do beside answering."""

    async def crash(self) -> None:
        """Kill the operator and start it again."""

    async def touch(self, request: Request) -> bool:
        """Change the object of a request as another writer; return whether it was there."""

    def end_streams(self, *, broken: bool) -> None:
        """End all watch streams, properly or by breaking their connections."""


class Then(Enum):
    """What follows a watch line."""

    GO_ON = "go on"
    END = "end of the stream"
    BREAK = "broken connection"
    SILENCE = "nothing ever again"


@dataclass(frozen=True, slots=True)
class Sent:
    """What the operator gets instead of a watch line."""

    data: bytes
    then: Then = Then.GO_ON


class Injector:
    """One plan's fault, once; without a plan it lets everything pass.

    Attributes:
        fired: Whether the point was reached.
        hidden: The watch line that was withheld, once it was.
    """

    def __init__(
        self,
        plan: Plan | None,
        levers: Levers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Arm the fault."""
        self.fired = False
        self.hidden: Line | None = None
        self._plan = plan
        self._levers = levers
        self._clock = clock
        self._counting = Counting()
        self._down_until = 0.0
        self._forbidden_until = 0.0
        self._held_stream = ""
        self._held_until = 0.0
        self._stale_until = 0.0
        self._stale_version = ""

    async def request(self, exchange: Exchange) -> Answer:
        """Answer a request.

        Raises:
            CutError: There is no answer.
        """
        point = self._counting.point(exchange.request)
        if self._clock() < self._down_until:
            raise CutError
        if self._clock() < self._forbidden_until:
            return refusal(403, "Forbidden", "the fault campaign forbids everything")
        if self._is_due(point):
            return await self._disturb(exchange)
        return await exchange.forward()

    def refuse_stream(self) -> Answer | None:
        """Return the answer to a new stream where there is none to be had, else None.

        Raises:
            CutError: There is not even an answer.
        """
        if self._clock() < self._down_until:
            raise CutError
        if self._clock() < self._forbidden_until:
            return refusal(403, "Forbidden", "the fault campaign forbids everything")
        return None

    def line(self, line: Line, raw: bytes) -> Sent:
        """Return what the operator gets for a watch line."""
        if not self._is_due(self._counting.point(line)) or self._plan is None:
            return Sent(raw + b"\n")
        if self._plan.kind is Kind.HIDE:
            self.hidden = line
        if self._plan.kind is Kind.LAG:
            self._held_stream, self._held_until = line.stream, self._clock() + LAG_SECONDS
        return _sent(self._plan.kind, raw)

    def begin_step(self, point: Point) -> None:
        """Hear that a step is about to begin."""
        if self._plan == _with(self._plan, Kind.OUTAGE, point):
            self.fired = True
            self._down_until = self._clock() + OUTAGE_SECONDS
            self._levers.end_streams(broken=True)

    def travels(self, step: str) -> bool:
        """Tell whether the operator is to be sent into the time before this step."""
        return (
            self._plan is not None and self._plan.kind is Kind.STALE and self._plan.at.step == step
        )

    def go_back(self, version: str) -> None:
        """Answer lists as of a version from now on, for some seconds; streams open after that."""
        self.fired = True
        self._stale_version = version
        self._stale_until = self._clock() + STALE_SECONDS

    @property
    def stale_version(self) -> str:
        """The version at which lists are answered; empty for the present."""
        return self._stale_version if self._clock() < self._stale_until else ""

    def held_seconds(self, stream: str) -> float:
        """Return how long a line of a stream has to wait."""
        until = self._held_until if stream == self._held_stream else 0.0
        return max(0.0, until - self._clock(), self._stale_until - self._clock())

    def _is_due(self, point: Point) -> bool:
        if self.fired or self._plan is None or self._plan.at != point:
            return False
        self.fired = True
        return True

    async def _disturb(self, exchange: Exchange) -> Answer:
        kind = self._plan.kind if self._plan is not None else None
        match kind:
            case Kind.CONFLICT:
                return refusal(409, "Conflict", "the object has been modified; apply again")
            case Kind.THROTTLE:
                return refusal(429, "TooManyRequests", "come again later", {"Retry-After": "1"})
            case Kind.ERROR:
                return refusal(500, "InternalError", "the fault campaign says no")
            case Kind.FORBIDDEN:
                self._forbidden_until = self._clock() + FORBIDDEN_SECONDS
                self._levers.end_streams(broken=False)
                return refusal(403, "Forbidden", "the fault campaign forbids everything")
            case Kind.RACE:
                if not await self._levers.touch(exchange.request):
                    await exchange.again()
                return await exchange.forward()
            case _:
                return await self._lose(kind, exchange)

    async def _lose(self, kind: Kind | None, exchange: Exchange) -> Answer:
        """Lose the answer, the request, or the operator itself."""
        if kind is not Kind.CRASH_BEFORE:
            await exchange.forward()
        if kind is Kind.TIMEOUT:
            return refusal(504, "Timeout", "the request did not complete in time")
        if kind in {Kind.CRASH_BEFORE, Kind.CRASH_AFTER}:
            await self._levers.crash()
        raise CutError


def _with(plan: Plan | None, kind: Kind, point: Point) -> Plan:
    return Plan(plan.scenario if plan is not None else "", kind, point)


def refusal(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer in the form of the Kubernetes API."""
    body = json.dumps(_status(code, reason, message)).encode()
    return Answer(status=code, body=body, headers=headers or {})


def _status(code: int, reason: str, message: str) -> dict[str, object]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _error_line(code: int, reason: str) -> bytes:
    status = _status(code, reason, "the fault campaign ends this stream")
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


def _sent(kind: Kind, raw: bytes) -> Sent:
    """Return what a fault makes of a watch line."""
    match kind:
        case Kind.HIDE:
            return Sent(b"")
        case Kind.GONE:
            return Sent(_error_line(410, "Expired"), Then.END)
        case Kind.ERROR_LINE:
            return Sent(_error_line(500, "InternalError"), Then.END)
        case Kind.BROKEN_LINE:
            return Sent(raw[: len(raw) // 2], Then.BREAK)
        case Kind.SILENT:
            return Sent(b"", Then.SILENCE)
        case _:
            return Sent(raw + b"\n")
