"""Gather, decide, act for one app, against a cluster in memory."""

import copy
from datetime import UTC, datetime, timedelta

import pytest

from dspy_operator import errors
from dspy_operator.core.manifest import Manifest
from dspy_operator.reconcile.observer import Observer
from dspy_operator.reconcile.store import APP_KIND
from tests.unit.operator.fakes import APP, World, app, ref

PYTHON = {"python": {"entrypoint": "shop:build"}, "source": {"configMapRef": {"name": "shop"}}}
FIRST = [
    "make ServiceAccount",
    "make ConfigMap",
    "make ConfigMap",
    "make Service",
    "make PodDisruptionBudget",
    "make Deployment",
    "status DSPyApp",
]


@pytest.fixture
def world() -> World:
    made = World()
    made.user_applies(app())
    return made


def shop() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "shop", "namespace": "team"},
        "data": {"shop.py": "one = 1"},
    }


async def test_an_app_gets_its_children_and_a_status_and_then_nothing_more(world: World) -> None:
    await world.reconcile(APP)
    assert world.cluster.writes() == FIRST
    assert world.condition()["reason"] == "PodsStarting"

    world.watch()
    await world.reconcile(APP)
    assert world.cluster.writes() == []
    assert world.recorder.events == []


async def test_a_deleted_child_comes_back_and_is_told(world: World) -> None:
    await world.reconcile(APP)
    world.cluster.writes()
    world.somebody_deletes(ref("Service"))
    await world.reconcile(APP)

    assert world.cluster.writes() == ["make Service"]
    assert world.recorder.events == [
        ("DriftRepaired", "Service qa was missing; it is as desired again.")
    ]


async def test_an_app_that_is_gone_or_going_is_left_alone(world: World) -> None:
    live = world.cluster.objects[ref(APP_KIND)]
    live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.user_applies(live)
    assert await world.reconcile(APP) is None

    world.somebody_deletes(ref(APP_KIND))
    assert await world.reconcile(APP) is None
    assert world.cluster.calls == []


async def test_pausing_is_said_once_and_nothing_else_is_written(world: World) -> None:
    await world.reconcile(APP)
    world.user_applies(app(paused=True))
    world.cluster.writes()
    world.somebody_deletes(ref("Service"))
    await world.reconcile(APP)
    await world.reconcile(APP)

    assert world.cluster.writes() == ["status DSPyApp"]
    assert world.condition("Paused")["status"] == "True"
    assert world.condition()["reason"] == "PodsStarting"


async def test_a_spec_that_cannot_be_read_touches_no_child(world: World) -> None:
    await world.reconcile(APP)
    world.cluster.writes()
    world.user_applies(app(program={}))
    await world.reconcile(APP)

    assert world.cluster.writes() == ["status DSPyApp"]
    assert world.condition("Stalled")["reason"] == "InvalidSpec"


@pytest.mark.parametrize(
    "error", [errors.ForbiddenError("exceeded quota"), errors.RefusedError("invalid")]
)
async def test_a_refused_child_is_a_condition_and_an_event_and_is_tried_again(
    world: World, error: errors.ClusterError
) -> None:
    world.cluster.fail["make", ref("Deployment")] = error
    for _ in range(2):
        with pytest.raises(type(error)):
            await world.reconcile(APP)

    assert world.cluster.writes().count("status DSPyApp") == 1
    assert world.condition()["reason"] == error.reason
    assert world.recorder.events == [(error.reason, str(error))]


async def test_an_outage_leaves_the_status_as_it_was(world: World) -> None:
    world.cluster.fail["make", ref("Service")] = errors.UnavailableError("away")
    with pytest.raises(errors.UnavailableError):
        await world.reconcile(APP)

    assert "status DSPyApp" not in world.cluster.writes()


async def test_a_source_that_comes_wakes_its_app_which_then_gets_pods(world: World) -> None:
    world.user_applies(app(program=PYTHON))
    await world.reconcile(APP)
    assert world.condition()["reason"] == "SourceMissing"
    assert ref("Deployment") not in world.cluster.objects

    world.woken.clear()
    world.cluster.hold(shop())
    world.watch()
    assert APP in world.woken
    await world.reconcile(APP)
    assert ref("Deployment") in world.cluster.objects


async def test_a_stranger_with_a_childs_name_is_a_condition(world: World) -> None:
    stranger = {"apiVersion": "v1", "kind": "ServiceAccount"}
    stranger |= {"metadata": {"name": "qa", "namespace": "team"}}
    before = copy.deepcopy(world.cluster.hold(stranger))
    with pytest.raises(errors.NameTakenError):
        await world.reconcile(APP)

    assert world.condition()["reason"] == "NameTaken"
    assert world.cluster.objects[ref("ServiceAccount")] == before


async def test_a_spec_that_comes_with_the_answer_to_a_status_write_is_looked_at(
    world: World,
) -> None:
    at = ref(APP_KIND)
    seen = world.store.get(APP_KIND, APP)
    changed = app(image="worker:2")
    changed["metadata"]["generation"] = 2
    event = world.cluster.hold({**world.cluster.objects[at], **changed})
    world.woken.clear()

    assert seen is not None
    await world.reconcile(APP)
    assert APP in world.woken, "the answer was the first to bring the new spec"
    world.store.put(APP_KIND, event)
    await world.reconcile(APP)
    pod = world.cluster.objects[ref("Deployment")]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "worker:2"


async def test_an_app_whose_deletion_nobody_told_is_forgotten(world: World) -> None:
    world.somebody_deletes(ref(APP_KIND), seen=False)
    await world.reconcile(APP)

    assert world.store.apps() == []
    assert world.woken[-1] == APP, "one more look drops its metric"


async def test_children_of_an_app_whose_deletion_nobody_told_are_not_made_again(
    world: World,
) -> None:
    """A 410 hides deletions from kopf, and the garbage collector deletes the children."""
    await world.reconcile(APP)
    world.watch()
    world.somebody_deletes(ref(APP_KIND), seen=False)
    world.somebody_deletes(ref("Service"))
    world.cluster.writes()
    await world.reconcile(APP)

    assert world.cluster.writes() == []
    assert world.store.apps() == []


async def test_a_restart_into_the_past_rolls_nothing_back(world: World) -> None:
    """A list or a stream may come from an API server that lags behind."""
    await world.reconcile(APP)
    past = copy.deepcopy(world.cluster.objects[ref(APP_KIND)])
    world.user_applies(app(image="worker:2"))
    await world.reconcile(APP)
    restarted = World(cluster=world.cluster)
    restarted.watch()
    restarted.store.forget(APP_KIND, APP)
    restarted.store.put(APP_KIND, past)
    world.cluster.writes()
    await restarted.reconcile(APP)

    assert world.cluster.writes() == []
    assert restarted.woken[-1] == APP, "there is something newer to look at"
    await restarted.reconcile(APP)
    assert world.cluster.writes() == []


async def test_a_new_app_costs_no_read(world: World) -> None:
    await world.reconcile(APP)
    world.watch()
    world.user_applies(app(image="worker:2"))
    await world.reconcile(APP)

    assert [at for verb, at in world.cluster.calls if verb == "get" and at.kind == APP_KIND] == []


async def test_children_that_were_never_there_are_not_called_deleted(world: World) -> None:
    world.user_applies(app(program=PYTHON))
    world.cluster.fail["make", ref("Service")] = errors.ForbiddenError("exceeded quota")
    with pytest.raises(errors.ForbiddenError):
        await world.reconcile(APP)
    world.cluster.fail.clear()
    await world.reconcile(APP)
    world.cluster.hold(shop())
    world.watch()
    await world.reconcile(APP)

    assert ref("Deployment") in world.cluster.objects
    assert [reason for reason, _ in world.recorder.events] == ["Forbidden", "SourceMissing"]


async def test_demos_that_nest_too_deeply_trouble_their_own_app_only(world: World) -> None:
    deep: object = "x"
    for _ in range(300):
        deep = [deep]
    program = {**app()["spec"]["program"], "demos": [{"q": deep, "a": "x"}]}
    world.store.put(APP_KIND, world.cluster.hold(app(program=program)))
    await world.reconcile(APP)

    assert world.condition("Stalled")["reason"] == "InvalidSpec"
    assert "spec.program.demos" in world.condition()["message"]


async def test_a_source_that_may_not_be_read_is_a_condition(world: World) -> None:
    world.user_applies(app(program=PYTHON))
    world.cluster.hold(shop())
    world.watch()
    denied = errors.ForbiddenError("configmaps is forbidden")
    world.cluster.fail["get", ref("ConfigMap", "shop")] = denied
    with pytest.raises(errors.ForbiddenError):
        await world.reconcile(APP)

    assert world.condition()["reason"] == "Forbidden"


async def test_a_value_that_only_the_standard_library_refuses_is_an_invalid_spec(
    world: World,
) -> None:
    model = {"name": "main", "model": "m", "endpoint": "http://[lm]/v1"}
    world.user_applies(app(models=[model]))
    await world.reconcile(APP)

    assert world.condition("Stalled")["reason"] == "InvalidSpec"


async def test_a_paused_app_has_its_metric_after_a_restart(world: World) -> None:
    await world.reconcile(APP)
    world.user_applies(app(paused=True))
    await world.reconcile(APP)
    restarted = World(cluster=world.cluster)
    restarted.watch()
    await restarted.reconcile(APP)

    labels = {"namespace": "team", "name": "qa"}
    value = restarted.telemetry.registry.get_sample_value("dspy_operator_app_ready", labels)
    assert value == 0


HPA = {"autoscaling": {"minReplicas": 3, "maxReplicas": 30, "cpuPercent": 70}}


def replicas(world: World) -> int:
    found: int = world.cluster.objects[ref("Deployment")]["spec"]["replicas"]
    return found


async def test_the_number_of_pods_is_handed_to_an_autoscaler_and_back(world: World) -> None:
    world.user_applies(app(serving={"replicas": 20}))
    await world.reconcile(APP)
    world.cluster.writes()

    world.user_applies(app(serving={"replicas": 20, **HPA}))
    await world.reconcile(APP)
    handed = world.cluster.writes()
    assert handed.index("scale Deployment") < handed.index("apply Deployment")
    assert handed.index("apply Deployment") < handed.index("make HorizontalPodAutoscaler")
    assert replicas(world) == 20

    world.watch()
    await world.reconcile(APP)
    assert not [w for w in world.cluster.writes() if "Deployment" in w]

    world.user_applies(app(serving={"replicas": 7}))
    await world.reconcile(APP)
    assert "delete HorizontalPodAutoscaler" in world.cluster.writes()
    assert replicas(world) == 20, "the old autoscaler may still be at work"
    await world.reconcile(APP)
    assert replicas(world) == 7


async def test_a_new_app_begins_with_the_fewest_pods_of_its_autoscaler(world: World) -> None:
    world.user_applies(app(serving=HPA))
    await world.reconcile(APP)

    assert "scale Deployment" in world.cluster.writes()
    assert replicas(world) == 3


async def test_a_sleeping_app_is_woken_up_for_its_autoscaler(world: World) -> None:
    world.user_applies(app(serving={"replicas": 0}))
    await world.reconcile(APP)
    world.user_applies(app(serving=HPA))
    await world.reconcile(APP)

    assert replicas(world) == 3


async def test_a_missing_kind_is_said_and_its_child_comes_with_it(world: World) -> None:
    world.user_applies(app(monitoring={"rules": {}}))
    await world.reconcile(APP)
    assert "PrometheusRule" in world.condition("KindsMissing")["message"]

    world.optional.served = frozenset({"PrometheusRule"})
    await world.reconcile(APP)
    assert "make PrometheusRule" in world.cluster.writes()
    assert world.condition("KindsMissing") == {}
    assert world.recorder.events == [], "a child that could not be made was not deleted"


async def test_a_pause_may_end_by_itself(world: World) -> None:
    await world.reconcile(APP)
    end = (datetime.now(UTC) + timedelta(seconds=90)).isoformat()
    world.user_applies(app(paused=True, pausedUntil=end))
    world.cluster.writes()

    again = await world.reconcile(APP)
    assert again is not None
    assert 80 < again <= 90, "it is looked at when the pause is over"
    assert world.condition("Paused")["message"].endswith(f"until {end}")
    assert world.cluster.writes() == ["status DSPyApp"]

    later = (datetime.now(UTC) + timedelta(hours=9)).isoformat()
    world.user_applies(app(paused=True, pausedUntil=later))
    await world.reconcile(APP)
    assert later in world.condition("Paused")["message"]

    over = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    world.user_applies(app(paused=True, pausedUntil=over))
    await world.reconcile(APP)
    assert world.condition("Paused") == {}


async def test_an_observer_tells_what_it_would_do_and_does_nothing() -> None:
    acting = World()
    acting.user_applies(app(serving={"replicas": 2}))
    await acting.reconcile(APP)
    acting.cluster.writes()
    acting.user_applies(app(serving={"replicas": 5}, monitoring={"dashboard": {}}))
    acting.cluster.objects[ref("Service")]["spec"]["type"] = "NodePort"
    observer = Observer()
    beside = World(cluster=acting.cluster, observer=observer)
    beside.watch()
    await beside.reconcile(APP)

    assert beside.cluster.writes() == []
    assert beside.recorder.events == []
    changes = observer.document()["apps"]["team/qa"]
    assert "change Service qa: spec.type" in changes
    assert "create ConfigMap qa-dashboard" in changes
    assert any("Deployment qa" in c and "spec.replicas" in c for c in changes)
    labels = {"namespace": "team", "name": "qa"}
    gauge = "dspy_operator_pending_changes"
    assert beside.telemetry.registry.get_sample_value(gauge, labels) == len(changes)


async def test_a_busy_operator_makes_children_first_and_tells_later(world: World) -> None:
    world.busy = True
    assert await world.reconcile(APP) is None
    assert world.put_off == [APP]
    assert world.cluster.writes() == FIRST[:-1], "no status yet"
    await world.reconcile(APP)
    assert world.cluster.writes() == ["status DSPyApp"], "it is put off once"


async def test_trouble_is_told_however_busy(world: World) -> None:
    world.busy = True
    world.user_applies(app(program=PYTHON))
    await world.reconcile(APP)

    assert world.condition()["reason"] == "SourceMissing"
