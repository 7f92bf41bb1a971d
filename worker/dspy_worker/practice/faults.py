"""What goes wrong on purpose: a plan of faults, and the state that counts them down.

A plan is JSON: one fault, or `{"faults": [...]}` with several.

    {"kind": "latency", "ms": 200, "jitter_ms": 50}
    {"kind": "status", "status": 429, "retry_after_seconds": 2}      429, 500, 502, 503, ...
    {"kind": "garbage"}                        a text that no adapter can parse
    {"kind": "wrong_types"}                    an answer whose typed fields hold plain words
    {"kind": "slow_stream", "ms": 50}          wait before each chunk of a stream
    {"kind": "cut_stream", "after": 3}         break a stream after so many chunks
    {"kind": "hang_up"}                        close the connection without an answer

Each may say `share` (0 to 1, of the calls it could hit; spread evenly, not by chance), `times` (it
ends after so many hits) and `match` (it hits only prompts that contain this text). All faults that
hit a call act on it together.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from dspy_worker.practice import similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspy_worker.practice.schema import Json

LEAST_STATUS, MOST_STATUS = 400, 599


class Kind(Enum):
    """What a fault does."""

    LATENCY = "latency"
    STATUS = "status"
    GARBAGE = "garbage"
    WRONG_TYPES = "wrong_types"
    SLOW_STREAM = "slow_stream"
    CUT_STREAM = "cut_stream"
    HANG_UP = "hang_up"


OF_STREAMS = frozenset({Kind.SLOW_STREAM, Kind.CUT_STREAM})
USED_BY = {
    "ms": {Kind.LATENCY, Kind.SLOW_STREAM},
    "jitter_ms": {Kind.LATENCY},
    "status": {Kind.STATUS},
    "retry_after_seconds": {Kind.STATUS},
    "after": {Kind.CUT_STREAM},
}
NEEDED = {Kind.STATUS: "status", Kind.SLOW_STREAM: "ms", Kind.CUT_STREAM: "after"}


class PlanError(Exception):
    """A plan of faults that cannot be carried out; the message is for its author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong; see the module for the meaning of the fields."""

    kind: Kind
    ms: float = 0.0
    jitter_ms: float = 0.0
    status: int = 0
    retry_after_seconds: float | None = None
    after: int = 0
    share: float = 1.0
    times: int | None = None
    match: str = ""

    def may_hit(self, text: str, *, stream: bool) -> bool:
        """Say whether a call is one that this fault is about."""
        return self.match in text and (stream or self.kind not in OF_STREAMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What the faults do to one call.

    Attributes:
        kinds: The kinds that hit it.
        latency_seconds: Extra time before the answer.
        status: HTTP status of a refusal; 0 answers as usual.
        retry_after_seconds: The refusal's Retry-After.
        chunk_seconds: Time before each chunk of a stream.
        cut_after: Chunks after which a stream breaks; None lets it end.
    """

    kinds: frozenset[Kind] = frozenset()
    latency_seconds: float = 0.0
    status: int = 0
    retry_after_seconds: float | None = None
    chunk_seconds: float = 0.0
    cut_after: int | None = None


NO_EFFECT = Effect()


def read_plan(found: Json) -> tuple[Fault, ...]:
    """Read a plan.

    Raises:
        PlanError: A word is unknown, missing, misplaced or out of its range.
    """
    if not isinstance(found, dict):
        raise PlanError("A plan is a JSON object: one fault, or {'faults': [...]}.")
    if "faults" not in found:
        return (_read_fault(found),)
    rows = found["faults"]
    if found.keys() != {"faults"} or not isinstance(rows, list):
        raise PlanError("'faults' is a list and stands alone.")
    return tuple(_read_fault(row) for row in rows)


def _read_fault(row: Json) -> Fault:
    if not isinstance(row, dict):
        raise PlanError(f"A fault is a JSON object, not {row!r}.")
    names = [kind.value for kind in Kind]
    if row.get("kind") not in names:
        raise PlanError(f"'kind' is one of {', '.join(names)}; found {row.get('kind')!r}.")
    kind = Kind(row["kind"])
    values = {name: _checked(kind, name, value) for name, value in row.items() if name != "kind"}
    needed = NEEDED.get(kind)
    if needed and needed not in values:
        raise PlanError(f"A fault of the kind {kind.value!r} needs {needed!r}.")
    return Fault(kind=kind, **values)  # type: ignore[arg-type]  # _checked has looked at each


def _checked(kind: Kind, name: str, value: Json) -> Json:
    known = {field.name for field in dataclasses.fields(Fault)}
    if name not in known or kind not in USED_BY.get(name, set(Kind)):
        raise PlanError(f"A fault of the kind {kind.value!r} has no {name!r}.")
    if name == "match":
        good = isinstance(value, str)
    else:
        good = _is_number(value, whole=name in {"status", "times", "after"}) and _in_range(
            name, value
        )
    if not good:
        raise PlanError(f"{name!r} cannot be {value!r}.")
    return value


def _is_number(value: Json, *, whole: bool) -> bool:
    return not isinstance(value, bool) and isinstance(value, int if whole else (int, float))


def _in_range(name: str, value: Json) -> bool:
    if not isinstance(value, int | float):
        return False
    if name == "status":
        return LEAST_STATUS <= value <= MOST_STATUS
    return value >= (1 if name == "times" else 0) and (name != "share" or value <= 1)


class Plan:
    """The faults in force, how often each may still hit, and how often each has hit."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        """Start afresh with these faults."""
        self.faults = tuple(faults)
        self.seen = [0] * len(self.faults)
        self.hits = [0] * len(self.faults)

    def effect(self, text: str, *, stream: bool) -> Effect:
        """Decide what happens to the next call, and count it."""
        effect = NO_EFFECT
        for index, fault in enumerate(self.faults):
            if fault.may_hit(text, stream=stream) and self._is_due(index):
                effect = _add(effect, fault, self.hits[index])
        return effect

    def _is_due(self, index: int) -> bool:
        """Spread the hits evenly: with a share of 0.5, every second call."""
        fault = self.faults[index]
        if fault.times is not None and self.hits[index] >= fault.times:
            return False
        before, self.seen[index] = self.seen[index], self.seen[index] + 1
        due = int(self.seen[index] * fault.share + 1e-9) > int(before * fault.share + 1e-9)
        self.hits[index] += due
        return due

    def dump(self) -> dict[str, Json]:
        """Return the plan as JSON, with the hits so far."""
        return {"faults": [self._row(index) for index in range(len(self.faults))]}

    def _row(self, index: int) -> Json:
        fault = self.faults[index]
        row = {name: getattr(fault, name) for name in USED_BY if fault.kind in USED_BY[name]}
        row |= {"share": fault.share, "times": fault.times, "match": fault.match}
        return {"kind": fault.kind.value, **row, "hits": self.hits[index]}


def _add(effect: Effect, fault: Fault, nth: int) -> Effect:
    effect = dataclasses.replace(effect, kinds=effect.kinds | {fault.kind})
    match fault.kind:
        case Kind.LATENCY:
            jitter = fault.jitter_ms * similarity.share("jitter", nth)
            seconds = effect.latency_seconds + (fault.ms + jitter) / 1000
            return dataclasses.replace(effect, latency_seconds=seconds)
        case Kind.STATUS:
            wait = fault.retry_after_seconds
            return dataclasses.replace(effect, status=fault.status, retry_after_seconds=wait)
        case Kind.SLOW_STREAM:
            return dataclasses.replace(effect, chunk_seconds=fault.ms / 1000)
        case Kind.CUT_STREAM:
            return dataclasses.replace(effect, cut_after=fault.after)
        case Kind.GARBAGE | Kind.WRONG_TYPES | Kind.HANG_UP:
            return effect
