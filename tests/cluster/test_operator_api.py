"""What the operator writes, and when, against a real API server."""

import json
import os
import signal
import time
from typing import Any

import pytest

from devcluster.light import LightCluster
from tests.cluster.operator_world import CHILDREN, World, app, until

OUTAGE_SECONDS = int(os.environ.get("OUTAGE_SECONDS", "20"))
"""For how long the API server is away; `make chaos` asks for ten minutes."""

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(180)]

PYTHON = {"python": {"entrypoint": "shop:build"}, "source": {"configMapRef": {"name": "shop"}}}


def test_an_app_costs_its_children_and_two_status_writes(world: World) -> None:
    start = world.marker()
    world.serve(app())

    assert sorted(world.names(CHILDREN)) == [
        "configmap/tickets-config",
        "configmap/tickets-ops",
        "deployment.apps/tickets",
        "poddisruptionbudget.policy/tickets",
        "service/tickets",
        "serviceaccount/tickets",
    ]
    writes = world.writes(start)
    assert sorted(writes[:5]) == [
        "patch configmaps tickets-config",
        "patch configmaps tickets-ops",
        "patch poddisruptionbudgets tickets",
        "patch serviceaccounts tickets",
        "patch services tickets",
    ], "what pods need comes first, in any order"
    assert writes[5:] == [
        "patch deployments tickets",
        "patch dspyapps/status tickets",
        "patch dspyapps/status tickets",
    ]


def test_an_app_without_pods_is_ready_after_one_status_write(world: World) -> None:
    start = world.marker()
    world.apply(app(serving={"replicas": 0}))
    world.wait_reason("ScaledToZero")
    time.sleep(1)

    assert world.writes(start).count("patch dspyapps/status tickets") == 1


def test_the_users_object_stays_as_the_user_wrote_it(world: World) -> None:
    world.serve(app())
    live = world.get("dspyapp", "tickets")

    world.kubectl("diff", "--filename=-", stdin=json.dumps(app()))
    assert "finalizers" not in live["metadata"]
    assert list(live["metadata"]["annotations"]) == [
        "kubectl.kubernetes.io/last-applied-configuration"
    ]
    assert "labels" not in live["metadata"]


def test_a_normal_start_writes_no_event(world: World) -> None:
    world.serve(app())

    selector = "--field-selector=regarding.kind=DSPyApp"
    events = world.kubectl("get", "events.events.k8s.io", selector, "--output=name")
    assert events == ""


@pytest.mark.parametrize(
    ("kind", "name", "patch", "path"),
    [
        ("deployment", "tickets", {"spec": {"replicas": 7}}, ["spec", "replicas"]),
        ("service", "tickets", {"spec": {"selector": {"a": None, "dspy-operator.io/app": "x"}}},
         ["spec", "selector"]),
        ("configmap", "tickets-config", {"data": {"app.json": "{}"}}, ["data"]),
        ("serviceaccount", "tickets", {"automountServiceAccountToken": True},
         ["automountServiceAccountToken"]),
    ],
)  # fmt: skip
def test_an_edited_child_is_repaired(
    world: World, kind: str, name: str, patch: dict[str, Any], path: list[str]
) -> None:
    def value() -> object:
        found: Any = world.get(kind, name)
        for step in path:
            found = found[step]
        return found

    world.serve(app())
    before = value()
    world.patch(kind, name, patch)

    seconds = until(lambda: value() == before, f"{kind} to be repaired")
    print(f"{kind}: {seconds:.2f} s with kubectl's own time")


def test_a_repair_is_told_with_the_name_of_who_changed_it(world: World) -> None:
    world.serve(app())
    world.kubectl("scale", "deployment", "tickets", "--replicas=5")

    def told() -> str:
        return world.kubectl("get", "events", "--output=jsonpath={.items[*].message}")

    until(lambda: "Deployment tickets had been changed by kubectl" in told(), "the event")
    assert world.operator.metric('dspy_operator_drift_repaired_total{kind="Deployment"}') >= 1


def test_deleted_children_come_back(world: World) -> None:
    world.serve(app())
    old = world.get("configmap", "tickets-ops")["data"]["token"]
    world.kubectl("delete", "service/tickets", "configmap/tickets-ops", "deployment/tickets")

    until(lambda: len(world.names(CHILDREN)) == 6, "the children to come back")
    assert world.get("configmap", "tickets-ops")["data"]["token"] != old


def test_what_others_add_to_a_child_stays(world: World) -> None:
    world.serve(app())
    start = world.marker()
    added = {"metadata": {"annotations": {"team": "blue"}, "labels": {"cost": "42"}}}
    template = {"spec": {"template": {"metadata": {"annotations": {"injected": "yes"}}}}}
    world.patch("deployment", "tickets", {**added, **template})
    time.sleep(2)

    live = world.get("deployment", "tickets")
    assert live["metadata"]["annotations"]["team"] == "blue"
    assert live["spec"]["template"]["metadata"]["annotations"]["injected"] == "yes"
    assert "patch deployments tickets" not in world.writes(start)


def test_a_field_that_leaves_the_spec_leaves_the_child(world: World) -> None:
    serving = {
        "replicas": 1,
        "nodeSelector": {"disk": "fast"},
        "env": [{"name": "A", "value": "1"}],
    }
    world.serve(app(serving=serving))
    assert world.get("deployment", "tickets")["spec"]["template"]["spec"]["nodeSelector"]

    world.apply(app(serving={"replicas": 1}))

    def pod() -> dict[str, Any]:
        spec: dict[str, Any] = world.get("deployment", "tickets")["spec"]["template"]["spec"]
        return spec

    until(lambda: "nodeSelector" not in pod(), "the selector to go")
    assert [e["name"] for e in pod()["containers"][0]["env"]] == ["HOME"]


def test_a_paused_app_is_left_alone(world: World) -> None:
    world.serve(app())
    world.apply(app(paused=True))
    until(lambda: "Paused" in json.dumps(world.get("dspyapp", "tickets")["status"]), "Paused")
    start = world.marker()

    world.kubectl("scale", "deployment", "tickets", "--replicas=5")
    world.apply(app(paused=True, image="example.com/other:1"))
    time.sleep(2)
    assert world.writes(start) == []
    assert world.get("deployment", "tickets")["spec"]["replicas"] == 5

    world.apply(app(image="example.com/other:1"))
    until(lambda: world.get("deployment", "tickets")["spec"]["replicas"] == 2, "the repair")
    until(lambda: not world.condition("Paused"), "Paused to go")


def test_deletion_leaves_nothing(world: World) -> None:
    world.serve(app())
    world.kubectl("delete", "dspyapp", "tickets")

    until(lambda: not world.names(f"{CHILDREN},pods,replicasets"), "all to be gone", 40)
    gone = f'app_ready{{name="tickets",namespace="{world.namespace}"}}'
    until(lambda: gone not in world.operator.get("metrics")[1], "the metric to go")


def test_a_killed_operator_comes_back_and_writes_nothing(world: World) -> None:
    world.serve(app())
    start = world.marker()

    world.operator.stop(signal.SIGKILL)
    world.operator.start()
    time.sleep(1)

    assert world.writes(start) == []
    assert world.operator.metric("dspy_operator_errors_total") == 0


def test_what_happened_while_the_operator_was_away_is_caught_up(world: World) -> None:
    world.serve(app())
    world.operator.stop()
    world.kubectl("delete", "service", "tickets")
    world.apply(app("second"))
    world.operator.start()

    until(lambda: len(world.names(CHILDREN)) == 6, "the Service to come back")
    until(lambda: len(world.names(CHILDREN, "second")) == 6, "the second app's children")


def test_a_spec_that_only_the_reader_refuses_is_stalled_and_heals(world: World) -> None:
    broken = {
        "signature": {"inputs": [{"name": "q"}], "outputs": [{"name": "a", "type": "Adress"}]}
    }
    world.apply(app(program=broken))
    found = world.wait_reason("InvalidSpec", kind="Stalled")

    assert "'Adress' is unknown" in found["message"]
    assert world.condition("Ready")["status"] == "False"
    assert world.names(CHILDREN) == []

    world.serve(app())
    assert not world.condition("Stalled")


def test_a_broken_change_leaves_the_good_pods_alone(world: World) -> None:
    world.serve(app())
    old = world.get("deployment", "tickets")["spec"]["template"]
    broken = {
        "signature": {"inputs": [{"name": "q"}], "outputs": [{"name": "a", "type": "Adress"}]}
    }
    world.apply(app(program=broken))
    world.wait_reason("InvalidSpec")

    assert world.get("deployment", "tickets")["spec"]["template"] == old


def test_the_users_files_are_awaited_and_their_change_rolls_the_pods(world: World) -> None:
    world.apply(app(program=PYTHON))
    found = world.wait_reason("SourceMissing")
    assert "ConfigMap shop" in found["message"]
    assert world.names("deployments") == []

    def digest() -> str:
        template = world.get("deployment", "tickets")["spec"]["template"]
        return str(template["metadata"]["annotations"]["dspy-operator.io/config-digest"])

    world.kubectl("create", "configmap", "shop", "--from-literal=shop.py=one = 1")
    until(lambda: world.names("deployments"), "the Deployment", 10)
    first = digest()
    world.patch("configmap", "shop", {"data": {"shop.py": "two = 2"}})
    until(lambda: digest() != first, "a new template", 10)

    world.play_kubelet()
    world.kubectl("delete", "configmap", "shop")
    world.wait_reason("SourceMissing")
    assert world.names("deployments"), "what runs goes on"


def test_a_failed_program_speaks_while_the_previous_pods_serve(world: World) -> None:
    world.serve(app())
    old = set(world.pods())
    world.apply(app(image="example.com/worker:broken"))
    until(lambda: set(world.pods()) - old, "a new pod")
    said = json.dumps({"reason": "ImportFailed", "message": "No module named 'shop'."})
    ended = {"exitCode": 78, "reason": "Error", "message": said}
    status = {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "worker", "ready": False, "restartCount": 1, "image": "x", "imageID": "x",
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": ended},
            }
        ],
    }  # fmt: skip
    new = next(iter(set(world.pods()) - old))
    world.kubectl(
        "patch", new, "--subresource=status", "--type=merge",
        f"--patch={json.dumps({'status': status})}",
    )  # fmt: skip

    found = world.wait_reason("ProgramFailed")
    assert found["message"] == (
        "No module named 'shop'. 2 pods of the previous version go on answering."
    )
    assert world.condition("Stalled")["status"] == "True"


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("configmap", "tickets-config", ["--from-literal=precious=yes"]),
        ("serviceaccount", "tickets", []),
        ("poddisruptionbudget", "tickets", ["--selector=precious=yes", "--min-available=1"]),
        ("deployment", "tickets", ["--image=precious", "--replicas=0"]),
    ],
)
def test_an_object_of_somebody_else_is_not_taken_over(
    world: World, kind: str, name: str, options: list[str]
) -> None:
    world.kubectl("create", kind, name, *options)
    before = world.get(kind, name)
    world.apply(app())
    found = world.wait_reason("NameTaken")
    after = world.get(kind, name)

    assert name in found["message"]
    assert {**after, "status": None, "metadata": _written(after)} == {
        **before,
        "status": None,
        "metadata": _written(before),
    }

    world.kubectl("delete", kind, name)
    until(lambda: len(world.names(CHILDREN)) == 6, "the children", 60)


def _written(live: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata that people and operators write."""
    return {n: live["metadata"].get(n) for n in ("uid", "labels", "ownerReferences")}


def test_rights_that_are_gone_for_a_while_are_waited_for(
    world: World, rules: list[dict[str, Any]]
) -> None:
    world.serve(app())
    binding = next(d for d in rules if d["kind"] == "ClusterRoleBinding")
    world.access.kubectl("delete", "clusterrolebinding", binding["metadata"]["name"])
    time.sleep(0.5)
    world.apply(app(image="example.com/other:2"))
    time.sleep(8)
    assert world.operator.runs()
    world.access.apply(binding)

    def image() -> str:
        template = world.get("deployment", "tickets")["spec"]["template"]["spec"]
        return str(template["containers"][0]["image"])

    until(lambda: image() == "example.com/other:2", "the change to arrive", 40)


def test_the_metrics_have_the_shapes_that_dashboards_know(world: World) -> None:
    world.serve(app())
    text = world.operator.get("metrics")[1]

    for name in (
        'reconcile_total{kind="DSPyApp",result="success"}',
        'reconcile_time_seconds_bucket{kind="DSPyApp"',
        "workqueue_depth ",
        "workqueue_adds_total",
        'api_requests_total{code="200",resource="deployments",verb="watch"}',
        f'app_ready{{name="tickets",namespace="{world.namespace}"}} 1.0',
        "build_info{version=",
    ):
        assert f"dspy_operator_{name}" in text, name


@pytest.mark.timeout(OUTAGE_SECONDS + 180)
def test_an_api_server_that_is_away_is_waited_for(
    world: World, light_cluster: LightCluster
) -> None:
    world.serve(app())
    light_cluster.stop_api_server()
    try:
        alive = set()
        for _ in range(OUTAGE_SECONDS // 10):
            time.sleep(10)
            alive.add(world.operator.get("livez"))
    finally:
        light_cluster.start_api_server()
    start = world.marker()
    world.kubectl("delete", "service", "tickets")
    world.apply(app("second"))

    until(lambda: len(world.names(CHILDREN)) == 6, "the Service to come back", 30)
    until(lambda: len(world.names(CHILDREN, "second")) == 6, "the second app's children", 30)
    assert alive == {(200, "ok\n")}
    until(lambda: world.pods("second"), "the cluster's own controllers, for other tests", 120)
    assert "patch deployments tickets" not in world.writes(start)
