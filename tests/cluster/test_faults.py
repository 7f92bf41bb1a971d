"""One or two faults of each kind against the operator; `make chaos` runs all of them.

The plans follow from what an undisturbed run showed, so a test names them by a pattern and takes
the first that fits. They run side by side, once for all tests here.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence

import pytest

from devcluster.light import LightCluster
from faults import campaign, scenarios
from faults.campaign import Outcome, Result
from faults.plans import Kind, Plan

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(600)]

SHORT = {
    "a crash before the first child": "create/crash_before create: patch",
    "a crash after a child": "create/crash_after create: patch serviceaccounts",
    "a crash before anybody knows the status": "create/crash_after create: patch dspyapps/status",
    "a crash in a roll-out": "change/crash_after program: patch deployments",
    "a lost reply to a new child": "create/lost_reply create: patch services",
    "a time-out of a status write": "create/timeout create: patch dspyapps/status",
    "a rival who makes a child": "create/race create: patch deployments",
    "a rival at a deletion": "prune/race leftover: delete configmaps",
    "a conflict out of nothing": "change/conflict program: patch dspyapps/status",
    "a throttled write": "create/throttle create: patch configmaps",
    "an error of the server": "prune/error leftover: delete configmaps",
    "rights that are gone for a while": "change/forbidden program: patch deployments",
    "an API server that is away": "delete/outage delete: start",
    "a pod's event that never comes": "change/hide program: pods",
    "a deletion of an app in a 410": "delete/gone delete: dspyapps DELETED",
    "a deletion of a child in a 410": "prune/gone leftover: configmaps DELETED",
    "an error line in kopf's stream": "delete/error_line delete: dspyapps DELETED",
    "half a line in kopf's stream": "delete/broken_line delete: dspyapps DELETED",
    "a silent stream": "delete/silent delete: dspyapps DELETED",
    "a deletion that comes late": "delete/lag delete: dspyapps DELETED",
    "a restart into the past": "change/stale program: start",
}
PLAYED = ("create", "change", "delete", "prune")


def pick(every: Sequence[Plan]) -> Iterable[Plan]:
    """Return the first plan of each pattern, in the order of the patterns."""
    for pattern in SHORT.values():
        yield from [plan for plan in every if re.match(pattern, str(plan))][:1]


@pytest.fixture(scope="module")
def outcome(light_cluster: LightCluster) -> Outcome:
    played = [scenarios.BY_NAME[name] for name in PLAYED]
    return asyncio.run(campaign.run(light_cluster.access, played, pick, print, rounds=2))


def result(outcome: Outcome, pattern: str) -> Result:
    fitting = [r for r in outcome.results if re.match(pattern, str(r.plan))]
    assert fitting, f"no plan fits {pattern!r}: the undisturbed run has changed"
    return fitting[0]


@pytest.mark.parametrize("pattern", SHORT.values(), ids=SHORT)
def test_the_operator_survives(outcome: Outcome, pattern: str) -> None:
    found = result(outcome, pattern)

    assert found.findings == (), f"{found.plan}\n{found.log}"
    assert found.fired, "the fault did not happen"


def test_each_kind_of_fault_is_in_the_short_list(outcome: Outcome) -> None:
    assert {r.plan.kind for r in outcome.results} == set(Kind)
