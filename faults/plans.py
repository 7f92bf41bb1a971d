"""From the trace of an undisturbed run to the faults that could matter. Pure.

A point names a request or a watch line by what it is, not by its number: numbers move between runs.
A plan is one fault at one point of one scenario. What is left out, and why:

* points in steps that only prepare (another scenario has them),
* a request whose content another scenario already lost in the same way,
* a crash before a write that followed an answered one: the same state as a crash after that one,
* a hidden line that the answer to our own write had told already, or that nothing follows which
  would correct it: a watch that loses the last word is outside of what the API promises,
* for faults that end or delay a stream: a second line of the same type in the same scenario, and
  lines that the answers to our own writes had told already, but for the first in the campaign.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from faults.trace import Request

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from faults.trace import Line, Trace


class Kind(Enum):
    """A fault; the value is its name in plans and reports."""

    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    LOST_REPLY = "lost_reply"
    TIMEOUT = "timeout"
    RACE = "race"
    CONFLICT = "conflict"
    THROTTLE = "throttle"
    ERROR = "error"
    FORBIDDEN = "forbidden"
    OUTAGE = "outage"
    HIDE = "hide"
    GONE = "gone"
    ERROR_LINE = "error_line"
    BROKEN_LINE = "broken_line"
    SILENT = "silent"
    LAG = "lag"
    STALE = "stale"


MEANING: Mapping[Kind, str] = {
    Kind.CRASH_BEFORE: "SIGKILL when a write arrives; it is not forwarded",
    Kind.CRASH_AFTER: "SIGKILL when a write was accepted, before the answer",
    Kind.LOST_REPLY: "a write is accepted, the connection breaks instead of an answer",
    Kind.TIMEOUT: "a write is accepted, the answer is 504",
    Kind.RACE: "another writer is faster: it changes the object, or creates it",
    Kind.CONFLICT: "409 once, although nothing changed",
    Kind.THROTTLE: "429 with Retry-After once",
    Kind.ERROR: "500 once, not forwarded",
    Kind.FORBIDDEN: "403 to everything for four seconds; streams end",
    Kind.OUTAGE: "connections break for four seconds, streams too",
    Kind.HIDE: "one watch line never arrives, later ones do",
    Kind.GONE: "ERROR 410 instead of a line, which is lost",
    Kind.ERROR_LINE: "ERROR 500 instead of a line, which is lost",
    Kind.BROKEN_LINE: "the stream breaks in the middle of a line",
    Kind.SILENT: "a stream stays open and says nothing any more",
    Kind.LAG: "a stream is three seconds behind the others from a line on",
    Kind.STALE: "restart into the lists of the past for five seconds; writes go through",
}

ON_WRITE = (
    Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.LOST_REPLY, Kind.TIMEOUT, Kind.RACE, Kind.CONFLICT,
    Kind.THROTTLE, Kind.ERROR, Kind.FORBIDDEN,
)  # fmt: skip
ON_LINE = (Kind.GONE, Kind.ERROR_LINE, Kind.BROKEN_LINE, Kind.LAG)
ONCE_PER_STEP = (Kind.OUTAGE, Kind.STALE)
CRASHES = frozenset({Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.STALE})


@dataclass(frozen=True, slots=True)
class Point:
    """Where a fault happens.

    Attributes:
        step: Step of the scenario.
        what: Verb and target of a request, stream, type and name of a line, or "start".
        nth: Which one of these in that step, from 1.
    """

    step: str
    what: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.step}: {self.what}" + (f" #{self.nth}" if self.nth > 1 else "")


START = "start"
"""The point before a step's first action."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One fault at one point of one scenario."""

    scenario: str
    kind: Kind
    at: Point

    def __str__(self) -> str:
        return f"{self.scenario}/{self.kind.value} {self.at}"


Seen: TypeAlias = set[tuple[Kind, str, str]]


def name_of(entry: Request | Line) -> str:
    """Return the `what` of a point for a request or a line."""
    if isinstance(entry, Request):
        return f"{entry.verb} {entry.target}"
    return f"{entry.stream} {entry.type} {entry.name}"


class Counting:
    """Gives each request or line its point while a run goes on."""

    def __init__(self) -> None:
        """Start at the first step."""
        self._counts: Counter[tuple[str, str]] = Counter()

    def point(self, entry: Request | Line) -> Point:
        """Return the point of the next request or line; call it once for each, in order."""
        key = entry.step, name_of(entry)
        self._counts[key] += 1
        return Point(*key, self._counts[key])


def derive(
    references: Mapping[str, Trace], steps: Mapping[str, Collection[str]]
) -> tuple[Plan, ...]:
    """Return the plans of a campaign.

    Args:
        references: The trace of each scenario's undisturbed run, in the order to run them.
        steps: The steps of each scenario that faults are injected in.
    """
    seen: Seen = set()
    lines: set[str] = set()
    found: list[Plan] = []
    for scenario, trace in references.items():
        wanted = steps[scenario]
        found += _of_steps(scenario, wanted)
        found += _of_writes(scenario, trace, wanted, seen)
        found += _of_lines(scenario, trace, wanted, lines)
        found += _hidden(scenario, trace, wanted)
    return tuple(sorted(found, key=lambda plan: _order(plan, list(references), steps)))


def _order(
    plan: Plan, scenarios: list[str], steps: Mapping[str, Collection[str]]
) -> tuple[int, int, int, str, int]:
    return (
        scenarios.index(plan.scenario),
        list(steps[plan.scenario]).index(plan.at.step),
        list(Kind).index(plan.kind),
        plan.at.what,
        plan.at.nth,
    )


def _of_steps(scenario: str, steps: Iterable[str]) -> Iterator[Plan]:
    for step in steps:
        for kind in ONCE_PER_STEP:
            yield Plan(scenario, kind, Point(step, START))


def _of_writes(scenario: str, trace: Trace, steps: Collection[str], seen: Seen) -> Iterator[Plan]:
    counting = Counting()
    before: list[Request] = []
    for request in trace.requests:
        point = counting.point(request)
        if not (request.is_write and request.is_accepted and request.step in steps):
            continue
        for kind in ON_WRITE:
            content = (kind, point.what, request.digest)
            if content not in seen and not _is_same_crash(kind, request, before):
                seen.add(content)
                yield Plan(scenario, kind, point)
        before.append(request)


def _is_same_crash(kind: Kind, request: Request, before: Iterable[Request]) -> bool:
    """Tell a crash before a write that leaves the state of a crash after the write before it."""
    earlier = [r for r in before if r.step == request.step]
    return (
        kind is Kind.CRASH_BEFORE and bool(earlier) and all(r.answered < request.n for r in earlier)
    )


def _of_lines(
    scenario: str, trace: Trace, steps: Collection[str], seen: set[str]
) -> Iterator[Plan]:
    counting = Counting()
    silent: set[str] = set()
    for line in trace.lines:
        point = counting.point(line)
        if not _is_told(line, steps) or not _is_first(line, trace, seen):
            continue
        for kind in ON_LINE:
            yield Plan(scenario, kind, point)
        if line.stream not in silent:  # each takes more than a minute
            silent.add(line.stream)
            yield Plan(scenario, Kind.SILENT, point)


def _is_first(line: Line, trace: Trace, seen: set[str]) -> bool:
    """Tell whether no earlier line was like this one, and remember it.

    What our own write has told already matters once in a campaign, news once in each scenario.
    """
    like = f"{line.stream} {line.type}"
    if not _is_echo(line, trace):
        like += f" {id(trace)}"
    is_first = like not in seen
    seen.add(like)
    return is_first


def _is_told(line: Line, steps: Collection[str]) -> bool:
    return line.step in steps and line.type in {"ADDED", "MODIFIED", "DELETED"}


def _is_echo(line: Line, trace: Trace) -> bool:
    """Tell whether the answer to one of our own writes has shown the same version."""
    resource = line.stream.partition("/")[0]
    return any(
        r.is_write and (r.target.resource, r.version) == (resource, line.version)
        for r in trace.requests
    )


def _hidden(scenario: str, trace: Trace, steps: Collection[str]) -> Iterator[Plan]:
    counting = Counting()
    for line in trace.lines:
        point = counting.point(line)
        is_news = _is_told(line, steps) and not _is_echo(line, trace)
        if is_news and _is_corrected(line, trace):
            yield Plan(scenario, Kind.HIDE, point)


def _is_corrected(line: Line, trace: Trace) -> bool:
    """Tell whether a later line speaks of the object, and not because we reacted to this one."""
    later = (
        other.n
        for other in trace.lines
        if other.n > line.n
        and (other.step, other.stream, other.name) == (line.step, line.stream, line.name)
    )
    following = next(later, None)
    if following is None:
        return False
    return not any(
        line.n < r.n < following
        and r.is_write
        and (r.target.resource, r.target.name) == (line.stream.partition("/")[0], line.name)
        for r in trace.requests
    )
