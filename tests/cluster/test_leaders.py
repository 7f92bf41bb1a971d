"""Two operators and one Lease: who acts, who takes over, and that never both act.

Times are shown by the test's output and not asserted, beyond what the lease itself promises.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.light import LightCluster
from tests.cluster.operator_world import Operator, World, app, until

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(240)]

USERS = ("leader-test-a", "leader-test-b")


@pytest.fixture
def pair(
    light_cluster: LightCluster, light_namespace: str, rules: list[dict[str, Any]], tmp_path: Path
) -> Iterator[tuple[Operator, Operator]]:
    """Start two operators, each a user of its own, so that the audit log tells who wrote."""
    grant(light_cluster, light_namespace, rules)
    made = [operator(light_cluster, light_namespace, tmp_path, user) for user in USERS]
    for each in made:
        each.start()
    yield made[0], made[1]
    for each in made:
        if each.runs() and each.process is not None:
            os.kill(each.process.pid, signal.SIGCONT)
            each.process.kill()
            each.process.wait()


def operator(cluster: LightCluster, namespace: str, folder: Path, user: str) -> Operator:
    return Operator(
        kubeconfig=cluster.access.kubeconfig_for(user),
        log=folder / f"{user}.log",
        arguments=(
            f"--namespaces={namespace}",
            f"--lease-namespace={namespace}",
            f"--identity={user}",
        ),
    )


def grant(cluster: LightCluster, namespace: str, rules: list[dict[str, Any]]) -> None:
    """Give both users the chart's rules, and the lease, in one namespace."""
    chart = next(r["rules"] for r in rules if r["kind"] == "ClusterRole" and "rules" in r)
    lease = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "patch"],
    }
    group = "rbac.authorization.k8s.io"
    role = {
        "apiVersion": f"{group}/v1",
        "kind": "Role",
        "metadata": {"name": "leaders", "namespace": namespace},
        "rules": [*chart, lease],
    }
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "leaders", "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "leaders"},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group} for user in USERS],
    }
    cluster.access.apply([role, binding])


def leads(each: Operator) -> bool:
    return each.runs() and each.metric("dspy_operator_leader") == 1


def sorted_by_role(pair: tuple[Operator, Operator]) -> tuple[Operator, Operator]:
    """Return the leader and the standby."""
    until(lambda: any(map(leads, pair)), "a leader")
    return pair if leads(pair[0]) else (pair[1], pair[0])


def writers(world: World, since: int) -> set[str]:
    """Return the users of these tests that wrote anything but leases."""
    return {
        e.user
        for e in world.access.audit(since)
        if e.user in USERS and e.namespace == world.namespace and e.resource != "leases"
    }


def user_of(each: Operator) -> str:
    return each.arguments[2].removeprefix("--identity=")


@pytest.fixture
def here(
    light_cluster: LightCluster, light_namespace: str, pair: tuple[Operator, Operator]
) -> World:
    return World(access=light_cluster.access, namespace=light_namespace, operator=pair[0])


def test_one_acts_and_the_other_is_ready_to(here: World, pair: tuple[Operator, Operator]) -> None:
    leader, standby = sorted_by_role(pair)
    start = here.marker()
    here.serve(app())

    assert writers(here, start) == {user_of(leader)}
    assert standby.is_ready()
    assert not leads(standby)


def test_a_planned_end_hands_over_at_once(here: World, pair: tuple[Operator, Operator]) -> None:
    leader, standby = sorted_by_role(pair)
    here.serve(app())
    assert leader.stop() == 0
    print(f"planned: {until(lambda: leads(standby), 'the standby to lead', 10):.1f} s")

    start = here.marker()
    here.kubectl("delete", "service", "tickets")
    until(lambda: here.names("services"), "drift to be repaired")
    assert writers(here, start) == {user_of(standby)}


def test_a_killed_leader_is_followed_and_nothing_is_written_twice(
    here: World, pair: tuple[Operator, Operator]
) -> None:
    leader, standby = sorted_by_role(pair)
    here.serve(app())
    start = here.marker()
    leader.stop(signal.SIGKILL)
    print(f"killed: {until(lambda: leads(standby), 'the standby to lead', 30):.1f} s")
    time.sleep(2)

    assert writers(here, start) == set(), "the standby knew everything and had nothing to write"


def test_a_frozen_leader_writes_nothing_when_it_wakes_up(
    here: World, pair: tuple[Operator, Operator]
) -> None:
    leader, standby = sorted_by_role(pair)
    here.serve(app())
    assert leader.process is not None
    os.kill(leader.process.pid, signal.SIGSTOP)
    # The frozen one still has this change in its sockets when it wakes up.
    here.patch("dspyapp", "tickets", {"spec": {"serving": {"replicas": 3}}})
    until(lambda: leads(standby), "the standby to lead", 30)
    until(lambda: here.get("deployment", "tickets")["spec"]["replicas"] == 3, "three pods")
    here.patch("dspyapp", "tickets", {"spec": {"serving": {"replicas": 4}}})
    until(lambda: here.get("deployment", "tickets")["spec"]["replicas"] == 4, "four pods")

    start = here.marker()
    os.kill(leader.process.pid, signal.SIGCONT)
    assert leader.process.wait(timeout=30) == 1, "it ends; its pod starts it again as a standby"
    here.patch("dspyapp", "tickets", {"spec": {"serving": {"replicas": 5}}})
    until(lambda: here.get("deployment", "tickets")["spec"]["replicas"] == 5, "five pods")
    assert writers(here, start) == {user_of(standby)}


def test_an_observer_writes_nothing_beside_a_leader(
    light_cluster: LightCluster, here: World, pair: tuple[Operator, Operator], tmp_path: Path
) -> None:
    leader, standby = sorted_by_role(pair)
    standby.stop()
    observer = Operator(
        kubeconfig=standby.kubeconfig,
        log=tmp_path / "observer.log",
        arguments=(*standby.arguments, "--observe-only", "--worker-image=worker:next"),
    )
    here.serve(app())
    start = here.marker()
    observer.start()
    until(lambda: "tickets" in observer.get("changes")[1], "the report")
    changes = json.loads(observer.get("changes")[1])["apps"][f"{here.namespace}/tickets"]
    observer.stop()

    assert any("Deployment tickets" in c and "image" in c for c in changes)
    assert writers(here, start) <= {user_of(leader)}
