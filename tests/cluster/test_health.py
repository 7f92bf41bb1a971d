"""What Argo CD and kstatus make of an app, at each version of it that the API server ever had.

The stories are real: operator, API server and controllers. With RECORD_STATUSES=1 in the
environment the versions are kept in tests/records, where the unit tests read them.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import kstatus
from tests.cluster import kubelet
from tests.cluster.kubelet import Kubelet
from tests.cluster.operator_world import World, app, until
from tests.cluster.watching import Watch

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(180)]

RECORDS = Path(__file__).parents[1] / "records" / "dspyapps.jsonl"
UNKNOWN_TYPE = {
    "signature": {"inputs": [{"name": "q"}], "outputs": [{"name": "a", "type": "Adress"}]}
}
PYTHON = {"python": {"entrypoint": "shop:build"}, "source": {"configMapRef": {"name": "shop"}}}


BROKEN = "example.com/worker:broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a story plays."""

    world: World
    kubelet: Kubelet

    def apply(self, reason: str, kind: str = "Ready", **spec: object) -> None:
        self.world.apply(app(**spec))
        self.world.wait_reason(reason, kind=kind, seconds=30)


def creation_and_scaling(stage: Stage) -> None:
    stage.apply("Serving")
    for count in (4, 1, 0):
        stage.apply("Serving" if count else "ScaledToZero", serving={"replicas": count})


def a_missing_image(stage: Stage) -> None:
    stage.kubelet.plays[BROKEN] = kubelet.waiting("ImagePullBackOff", "Back-off pulling it")
    stage.apply("ImagePullFailed", image=BROKEN)
    stage.kubelet.plays[BROKEN] = kubelet.waiting("InvalidImageName", "cannot parse it")
    stage.world.wait_reason("ImagePullFailed", kind="Stalled")
    stage.apply("Serving")


def a_program_that_fails(stage: Stage) -> None:
    said = json.dumps({"reason": "ImportFailed", "message": "No module named 'shop'."})
    stage.kubelet.plays[BROKEN] = kubelet.ended(78, said)
    stage.apply("ProgramFailed", kind="Stalled", image=BROKEN)
    del stage.kubelet.plays[BROKEN]
    stage.world.wait_reason("Serving")


def a_worker_that_crashes(stage: Stage) -> None:
    stage.kubelet.plays[BROKEN] = kubelet.ended(137, "")
    stage.apply("WorkerCrashing", image=BROKEN)
    del stage.kubelet.plays[BROKEN]
    stage.world.wait_reason("Serving")


def a_failed_change_beside_pods_that_serve(stage: Stage) -> None:
    stage.apply("Serving")
    said = json.dumps({"reason": "ImportFailed", "message": "No module named 'shop'."})
    stage.kubelet.plays[BROKEN] = kubelet.ended(78, said)
    stage.apply("ProgramFailed", kind="Stalled", image=BROKEN)
    stage.apply("Serving")


def an_invalid_spec(stage: Stage) -> None:
    stage.apply("InvalidSpec", kind="Stalled", program=UNKNOWN_TYPE)
    stage.apply("Serving")


def a_missing_source(stage: Stage) -> None:
    stage.apply("SourceMissing", program=PYTHON)
    stage.world.kubectl("create", "configmap", "shop", "--from-literal=shop.py=one = 1")
    stage.world.wait_reason("Serving")


def a_pause(stage: Stage) -> None:
    stage.apply("Serving")
    stage.world.apply(app(paused=True))
    shown = lambda: json.dumps(stage.world.get("dspyapp", "tickets")["status"])  # noqa: E731
    until(lambda: "Paused" in shown(), "Paused")
    stage.world.apply(app(paused=True, image="example.com/other:1"))
    stage.apply("Serving", image="example.com/other:1")


def a_pause_with_an_end(stage: Stage) -> None:
    stage.apply("Serving")
    end = (datetime.now(UTC) + timedelta(seconds=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    stage.world.apply(app(paused=True, pausedUntil=end))
    stage.world.wait_reason("Serving")


def a_deletion(stage: Stage) -> None:
    """A finalizer of somebody else makes the object stay for a moment."""
    stage.apply("Serving")
    world = stage.world
    world.patch("dspyapp", "tickets", {"metadata": {"finalizers": ["example.com/hold"]}})
    world.kubectl("delete", "dspyapp", "tickets", "--wait=false")
    world.patch("dspyapp", "tickets", {"metadata": {"finalizers": None}})
    until(lambda: not world.kubectl("get", "dspyapps", "--output=name"), "it to be gone")


STORIES: list[tuple[Callable[[Stage], None], list[str]]] = [
    (creation_and_scaling, ["Progressing", "Healthy"]),
    (a_missing_image, ["Progressing", "Degraded", "Healthy"]),
    (a_program_that_fails, ["Progressing", "Degraded", "Healthy"]),
    (a_worker_that_crashes, ["Progressing", "Healthy"]),
    (a_failed_change_beside_pods_that_serve, ["Progressing", "Degraded", "Healthy"]),
    (an_invalid_spec, ["Progressing", "Degraded", "Healthy"]),
    (a_missing_source, ["Progressing", "Healthy"]),
    (a_pause, ["Progressing", "Healthy", "Suspended"]),
    (a_pause_with_an_end, ["Progressing", "Healthy", "Suspended"]),
    (a_deletion, ["Progressing", "Healthy"]),
]


@pytest.mark.parametrize(("story", "seen"), STORIES, ids=lambda x: getattr(x, "__name__", ""))
def test_argo_cd_and_kstatus_agree_at_each_moment(
    world: World, tmp_path: Path, story: Callable[[Stage], None], seen: list[str]
) -> None:
    what = ("dspyapps", f"--namespace={world.namespace}")
    with (
        Kubelet(world.access, world.namespace) as pods,
        Watch(world.access, tmp_path / "watch", *what) as watch,
    ):
        story(Stage(world=world, kubelet=pods))
        versions = watch.objects()

    keep(story.__name__, versions)
    assert len(versions) > 3
    said = [kstatus.health(v)[0] for v in versions]
    assert said == [kstatus.expected_health(v) for v in versions]
    assert sorted(set(said)) == sorted(seen)


def keep(story: str, versions: list[dict[str, Any]]) -> None:
    """Replace a story's versions in the records, where that is wished."""
    if not os.environ.get("RECORD_STATUSES"):
        return
    old = RECORDS.read_text(encoding="utf-8").splitlines() if RECORDS.exists() else []
    kept = [line for line in old if json.loads(line)["story"] != story]
    new = [json.dumps({"story": story, "object": trimmed(v)}) for v in versions]
    RECORDS.write_text("\n".join([*kept, *new]) + "\n", encoding="utf-8")


def trimmed(version: dict[str, Any]) -> dict[str, Any]:
    """Leave out what neither reads."""
    known = ("name", "generation", "deletionTimestamp")
    return {
        "metadata": {k: v for k, v in version["metadata"].items() if k in known},
        "spec": {k: v for k, v in version["spec"].items() if k in {"paused", "serving"}},
        "status": version.get("status", {}),
    }
