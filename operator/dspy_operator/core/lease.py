"""Who may act: a Lease (`coordination.k8s.io/v1`) and what one candidate does about it.

    what the candidate sees                               what it does
    ------------------------------------------------------------------------
    no Lease                                              creates it
    it holds the Lease itself                             renews it
    nobody holds it (released)                            takes it over
    another holds it and has renewed it lately            waits
    another has not renewed it for its whole duration     takes it over

Clocks of different machines are never compared: a candidate measures by its own monotonic clock
since when a record has stayed the same, as client-go's leaderelection does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from dspy_operator.core.manifest import Manifest

DURATION_SECONDS: Final = 15
"""Time after the last renewal before another may take over."""
VALID_SECONDS: Final = 10.0
"""Time after the last renewal for which the holder itself goes on acting."""
RENEW_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 1.0
"""Time between two looks of one who waits: a release is noticed as soon."""

Action: TypeAlias = Literal["create", "renew", "take", "wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a Lease says.

    Attributes:
        holder: Identity of the holder; empty where it was released.
        duration: Seconds after which it may be taken over.
        transitions: How often it has changed hands.
        version: The resourceVersion, the precondition of the next write.
    """

    holder: str
    duration: float
    transitions: int
    version: str


@dataclass(slots=True)
class Candidate:
    """One process that wants to act.

    Attributes:
        identity: Its name, other than that of any other candidate.
    """

    identity: str
    _seen: Record | None = None
    _since: float = 0.0

    def decide(self, record: Record | None, now: float) -> Action:
        """Return what to do about the Lease as it is at `now`, in monotonic seconds."""
        if record is None:
            return "create"
        if record != self._seen:
            self._seen, self._since = record, now
        if record.holder == self.identity:
            return "renew"
        over = now - self._since >= record.duration
        return "take" if over or not record.holder else "wait"


def read(live: Manifest) -> Record:
    """Read a Lease as the API server returns it."""
    spec = live.get("spec", {})
    return Record(
        holder=spec.get("holderIdentity") or "",
        duration=float(spec.get("leaseDurationSeconds") or DURATION_SECONDS),
        transitions=spec.get("leaseTransitions") or 0,
        version=live["metadata"]["resourceVersion"],
    )


def create(namespace: str, name: str, identity: str, now: str) -> Manifest:
    """Return a new Lease; `now` as RFC 3339 with microseconds."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        },
    }


def renew(record: Record, now: str) -> Manifest:
    """Return the patch of a renewal; it fails where somebody else has written since."""
    return _patch(record, {"renewTime": now})


def take(record: Record, identity: str, now: str) -> Manifest:
    """Return the patch that takes the Lease over."""
    spec = {
        "holderIdentity": identity,
        "leaseDurationSeconds": DURATION_SECONDS,
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": record.transitions + 1,
    }
    return _patch(record, spec)


def release(record: Record, now: str) -> Manifest:
    """Return the patch that gives the Lease back, so that the next one need not wait."""
    return _patch(record, {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now})


def _patch(record: Record, spec: dict[str, Any]) -> Manifest:
    return {"metadata": {"resourceVersion": record.version}, "spec": spec}
