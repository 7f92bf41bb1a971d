"""Who leads: two candidates, one clock that the test moves, and an API server in memory."""

import copy
from typing import Any

import pytest

from dspy_operator import errors
from dspy_operator.core import lease
from dspy_operator.core.manifest import Manifest, Ref
from dspy_operator.edge import kube
from dspy_operator.edge.limiter import Bucket
from dspy_operator.reconcile.leader import Elected

WHERE = Ref("Lease", "dspy-system", "dspy-operator")


class Api:
    """One Lease with optimistic locking, and outages."""

    def __init__(self) -> None:
        self.live: Manifest | None = None
        self.away = False
        self.version = 0

    async def get(self, ref: Ref) -> Manifest | None:
        assert ref == WHERE
        self._answer()
        return copy.deepcopy(self.live)

    async def create(self, desired: Manifest) -> Manifest:
        self._answer()
        if self.live is not None:
            raise errors.ConflictError("exists", status=409)
        return self._store(desired)

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        self._answer()
        assert self.live is not None
        if patch["metadata"]["resourceVersion"] != self.live["metadata"]["resourceVersion"]:
            raise errors.ConflictError("modified", status=409)
        return self._store({**self.live, "spec": {**self.live["spec"], **patch["spec"]}})

    def _store(self, live: Manifest) -> Manifest:
        self.version += 1
        metadata = {**live["metadata"], "resourceVersion": str(self.version)}
        self.live = copy.deepcopy({**live, "metadata": metadata})
        return copy.deepcopy(self.live)

    def _answer(self) -> None:
        if self.away:
            raise errors.UnavailableError("away")


class Race:
    """Candidates `a` and `b` and the time."""

    def __init__(self) -> None:
        self.api = Api()
        self.now = 100.0
        self.gauges: dict[str, float] = {}
        self.a, self.b = self._candidate("a"), self._candidate("b")

    def _candidate(self, name: str) -> Elected:
        def gauge(value: float) -> None:
            self.gauges[name] = value

        return Elected(self.api, WHERE, name, gauge=gauge, clock=lambda: self.now)

    async def steps(self, *candidates: Elected, seconds: float) -> None:
        """Let candidates look once a second."""
        for _ in range(int(seconds)):
            self.now += 1
            for each in candidates:
                await each._try_once()

    def leaders(self) -> list[str]:
        each = (("a", self.a), ("b", self.b))
        return [name for name, candidate in each if candidate.may_write()]


@pytest.fixture
def race() -> Race:
    return Race()


def spec(race: Race) -> dict[str, Any]:
    assert race.api.live is not None
    found: dict[str, Any] = race.api.live["spec"]
    return found


async def test_the_first_leads_and_the_second_waits(race: Race) -> None:
    await race.steps(race.a, race.b, seconds=60)

    assert race.leaders() == ["a"]
    assert (spec(race)["holderIdentity"], spec(race)["leaseTransitions"]) == ("a", 0)
    assert race.gauges == {"a": 1, "b": 0}


async def test_a_released_lease_is_taken_at_the_next_look(race: Race) -> None:
    await race.steps(race.a, race.b, seconds=5)
    await race.a.release()
    assert race.leaders() == []
    await race.steps(race.b, seconds=1)

    assert race.leaders() == ["b"]
    assert spec(race)["leaseTransitions"] == 1


async def test_a_dead_leader_is_followed_after_the_lease_and_not_before(race: Race) -> None:
    await race.steps(race.a, race.b, seconds=5)
    await race.steps(race.b, seconds=lease.DURATION_SECONDS - 1)
    assert not race.b.may_write()
    await race.steps(race.b, seconds=2)

    assert race.leaders() == ["b"]


async def test_a_frozen_leader_may_not_write_before_anybody_follows_it(race: Race) -> None:
    await race.steps(race.a, race.b, seconds=5)
    for _ in range(40):  # `a` is stopped: its clock goes on, it does nothing
        await race.steps(race.b, seconds=1)
        assert len(race.leaders()) <= 1

    assert race.leaders() == ["b"]
    await race.steps(race.a, seconds=3)
    assert race.leaders() == ["b"], "it wakes up and sees that it has lost"


async def test_a_leader_that_cannot_renew_stops_and_comes_back_if_it_was_short(race: Race) -> None:
    await race.steps(race.a, seconds=2)
    race.api.away = True
    await race.steps(race.a, seconds=lease.VALID_SECONDS - 1)
    assert race.leaders() == ["a"]
    race.api.away = False
    await race.steps(race.a, seconds=1)
    assert race.leaders() == ["a"]

    race.api.away = True
    await race.steps(race.a, seconds=lease.VALID_SECONDS + 1)
    assert race.leaders() == []


async def test_losing_the_lease_ends_the_run(race: Race, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0)
    monkeypatch.setattr(lease, "RETRY_SECONDS", 0)
    await race.a._try_once()
    race.api._store({**race.api.live, "spec": {**spec(race), "holderIdentity": "b"}})  # type: ignore[dict-item]
    race.now += lease.VALID_SECONDS
    await race.a.run()

    assert race.gauges["a"] == 0


async def test_a_restart_in_the_same_pod_need_not_wait(race: Race) -> None:
    await race.steps(race.a, seconds=3)
    again = Elected(race.api, WHERE, "a", gauge=lambda _: None, clock=lambda: race.now)
    await again._try_once()

    assert again.may_write()
    assert spec(race)["leaseTransitions"] == 0


async def test_whoever_does_not_lead_sends_no_write() -> None:
    cluster = kube.Cluster(
        None,  # type: ignore[arg-type]  # nothing may be sent
        "http://127.0.0.1:1",
        Bucket(rate=10, burst=10),
        may_write=lambda: False,
    )
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "b"}}

    with pytest.raises(errors.NotLeadingError):
        await cluster.apply(service, manager="m")
