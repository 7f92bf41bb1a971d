"""The writes of one app's plan: who is asked, who is refused, and what a failure leaves behind."""

import pytest

from dspy_operator import errors
from dspy_operator.core.manifest import Manifest
from dspy_operator.reconcile.store import APP_KIND
from tests.unit.operator.fakes import APP, IDENTITY, World, app, ref


@pytest.fixture
def world() -> World:
    made = World()
    made.user_applies(app())
    return made


def stranger(kind: str, name: str = "qa", **more: object) -> Manifest:
    return {"kind": kind, "metadata": {"name": name, "namespace": "team"}, **more}


def inject_sidecar(live: Manifest) -> None:
    """Rewrite a field of ours, as an admission webhook may."""
    if live["kind"] == "Deployment":
        live["spec"]["template"]["spec"]["enableServiceLinks"] = True


async def look(world: World, times: int = 1) -> None:
    for _ in range(times):
        await world.reconcile(APP)
        world.watch()


async def test_what_pods_need_is_there_before_the_deployment(world: World) -> None:
    await look(world)
    applied = [at.kind for verb, at in world.cluster.calls if verb == "make"]

    assert applied[-1] == "Deployment"
    before = ["ConfigMap", "ConfigMap", "PodDisruptionBudget", "Service", "ServiceAccount"]
    assert sorted(applied[:-1]) == before


async def test_a_write_that_fails_in_a_batch_lets_the_others_stand_and_the_deployment_wait(
    world: World,
) -> None:
    world.cluster.fail["make", ref("ConfigMap", "qa-config")] = errors.UnavailableError("away")
    with pytest.raises(errors.UnavailableError):
        await look(world)
    assert world.store.get("Service", APP) is not None, "answers of the same batch are kept"
    assert world.store.get("Deployment", APP) is None
    world.cluster.writes()

    world.cluster.fail.clear()
    await look(world)
    assert world.cluster.writes() == ["make ConfigMap", "make Deployment", "status DSPyApp"]
    assert world.recorder.events == []


async def test_the_token_in_use_survives_a_failure_beside_it(world: World) -> None:
    world.cluster.fail["make", ref("Deployment")] = errors.UnavailableError("away")
    with pytest.raises(errors.UnavailableError):
        await look(world)
    token = world.cluster.objects[ref("ConfigMap", "qa-ops")]["data"]

    world.cluster.fail.clear()
    await look(world)
    assert world.cluster.objects[ref("ConfigMap", "qa-ops")]["data"] == token


@pytest.mark.parametrize("kind", ["ServiceAccount", "Service", "Deployment"])
async def test_a_strangers_object_is_refused_and_left_alone(world: World, kind: str) -> None:
    before = world.cluster.hold(stranger(kind))
    with pytest.raises(errors.NameTakenError, match=f"{kind} qa exists already"):
        await look(world)

    assert world.cluster.objects[ref(kind)] == before


async def test_a_child_that_the_watch_has_lost_is_made_right(world: World) -> None:
    """Somebody took its label away, so that no list of ours shows it."""
    await look(world)
    world.store.drop("Deployment", world.cluster.objects[ref("Deployment")])
    await world.reconcile(APP)

    assert ("apply", ref("Deployment")) in world.cluster.calls


async def test_a_child_that_a_webhook_rewrites_is_not_fought_over(world: World) -> None:
    world.cluster.admit = inject_sidecar
    await look(world)
    world.cluster.writes()
    await look(world, times=5)

    assert world.cluster.writes() == []
    assert world.recorder.events == []


async def test_a_stubborn_child_is_applied_again_once_the_wish_has_changed(world: World) -> None:
    world.cluster.admit = inject_sidecar
    await look(world)
    world.cluster.writes()
    world.user_applies(app(image="worker:2"))
    await look(world)

    assert "apply Deployment" in world.cluster.writes()
    pod = world.cluster.objects[ref("Deployment")]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "worker:2"


async def test_a_stubborn_child_is_not_called_as_desired_again(world: World) -> None:
    """The Deployment's controller adds an annotation of its own right after each change."""
    world.cluster.admit = inject_sidecar
    await look(world)
    live = world.cluster.objects[ref("Deployment")]
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    world.cluster.hold(live)
    world.watch()
    await look(world, times=3)

    assert world.recorder.events == []


async def test_what_is_remembered_of_stubborn_children_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspy_operator.reconcile.children._REMEMBERED", 2)
    world.cluster.admit = inject_sidecar
    for number in range(3):
        world.children._stubborn[f"gone-{number}"] = ("", "")
    await look(world)

    assert len(world.children._stubborn) == 2


async def test_an_unwanted_child_of_the_app_goes_and_a_labelled_stranger_stays(
    world: World,
) -> None:
    await look(world)
    service = world.cluster.objects[ref("Service")]
    ours = {**service, "metadata": {**service["metadata"], "name": "qa-old"}}
    foreign = {**service, "metadata": {**service["metadata"], "name": "theirs"}}
    foreign["metadata"]["ownerReferences"] = [{**IDENTITY, "uid": "x", "controller": True}]
    for extra in (ours, foreign):
        world.cluster.hold(extra)
    world.watch()
    world.cluster.writes()
    await look(world)

    assert world.cluster.writes() == ["delete Service"]
    assert ref("Service", "theirs") in world.cluster.objects
    assert ref("Service", "qa-old") not in world.cluster.objects


async def test_an_object_that_changed_before_its_deletion_is_tried_again(world: World) -> None:
    await look(world)
    service = world.cluster.objects[ref("Service")]
    world.cluster.hold({**service, "metadata": {**service["metadata"], "name": "qa-old"}})
    world.watch()
    conflict = errors.ConflictError("the object has been modified", status=409)
    world.cluster.fail["delete", ref("Service", "qa-old")] = conflict
    with pytest.raises(errors.ConflictError):
        await world.reconcile(APP)

    assert ref("Service", "qa-old") in world.store.owned(APP)


async def test_a_drifted_child_is_repaired_and_told_with_its_writer(world: World) -> None:
    await look(world)
    live = world.cluster.objects[ref("Deployment")]
    live["spec"]["replicas"] = 7
    live["lastWriter"] = "kubectl-scale"
    world.cluster.hold(live)
    world.watch()
    await look(world)

    assert world.cluster.objects[ref("Deployment")]["spec"]["replicas"] == 1
    assert world.recorder.events == [
        (
            "DriftRepaired",
            "Deployment qa had been changed by kubectl-scale; it is as desired again.",
        )
    ]
    assert world.store.get(APP_KIND, APP) is not None


async def fight(world: World, rounds: int) -> None:
    """Let somebody undo each of our writes at once."""
    for number in range(rounds):
        live = world.cluster.objects[ref("Deployment")]
        live["spec"]["replicas"] = 100 + number
        live["lastWriter"] = "rival"
        world.cluster.hold(live)
        world.watch()
        await look(world)


async def test_a_child_that_others_write_as_fast_as_we_do_is_written_slowly(world: World) -> None:
    """A second operator with another default image, for example."""
    await look(world)
    with pytest.raises(errors.ContestedError, match="again and again by rival"):
        await fight(world, rounds=100)

    assert 30 <= [verb for verb, _ in world.cluster.calls].count("apply") <= 32
