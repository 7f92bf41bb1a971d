"""What happens to apps under GitOps: by people, autoscalers, drift and commits."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cluster import kubelet
from tests.cluster.argo_world import Manifest, Platform, example
from tests.cluster.operator_world import until

BROKEN = "example.com/worker:broken"
MESSAGE = "No module named 'shop'."
PLAYS = {BROKEN: kubelet.ended(78, json.dumps({"reason": "ImportFailed", "message": MESSAGE}))}
HPA = {"minReplicas": 2, "maxReplicas": 10, "cpuPercent": 70}
WAIT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One thing that happens to one app.

    Attributes:
        tell: Plays it, waits until all is well again, and asserts what is to be seen on the way.
        specs: How often the app's spec changes for it. Any other change would be somebody's doing.
        edits: How often a person edits what lies in Git. Nothing else may make an app OutOfSync.
        autoscaled: Whether the app has an autoscaler.
    """

    tell: Callable[[Platform, str], None]
    specs: int = 0
    edits: int = 0
    autoscaled: bool = False

    def app(self, name: str) -> Manifest:
        """Return an app for it."""
        return example(name, autoscaling=HPA) if self.autoscaled else example(name)


def wait(true: Callable[[], Any], what: str) -> None:
    until(true, what, WAIT_SECONDS)


def replicas(platform: Platform, kind: str, name: str) -> tuple[int, int]:
    """Return how many pods an object asks for, and how many of them are ready."""
    live = platform.get(kind, name)
    wanted = live["spec"] if kind == "deployment" else live["status"]
    count = wanted["replicas" if kind == "deployment" else "wantedReplicas"]
    return count, live["status"].get("readyReplicas", 0)


def is_ready(platform: Platform, name: str, count: int) -> bool:
    """Tell whether Deployment and DSPyApp agree on a number of ready pods."""
    both = [replicas(platform, kind, name) for kind in ("deployment", "dspyapp")]
    return both == [(count, count)] * 2


def scaled_by_hand(platform: Platform, name: str) -> None:
    """`spec.serving.replicas` is not in Git, so it belongs to whoever scales."""
    for count in (3, 1):
        platform.kubectl("scale", f"dspyapp/{name}", f"--replicas={count}")
        wait(lambda n=count: is_ready(platform, name, n), f"{count} pods")  # type: ignore[misc]
    platform.await_state("apps", "Healthy")


def scaled_by_an_autoscaler(platform: Platform, name: str) -> None:
    """An autoscaler writes the Deployment's number as `kubectl scale` does."""
    for count in (4, 2):
        platform.kubectl("scale", f"deployment/{name}", f"--replicas={count}")
        wait(lambda n=count: is_ready(platform, name, n), f"{count} pods")  # type: ignore[misc]
    platform.await_state("apps", "Healthy")


def a_child_drifts(platform: Platform, name: str) -> None:
    platform.kubectl("delete", "service", name)
    platform.patch("configmap", f"{name}-config", {"data": {"app.json": "{}"}})
    text = lambda: platform.get("configmap", f"{name}-config")["data"]["app.json"]  # noqa: E731
    wait(lambda: text() != "{}", "the ConfigMap to be repaired")
    listed = lambda: platform.kubectl("get", "services", "--output=name")  # noqa: E731
    wait(lambda: f"service/{name}\n" in listed(), "the Service to come back")
    platform.await_state("apps", "Healthy")


def the_app_drifts(platform: Platform, name: str) -> None:
    """A person edits what lies in Git, and Argo CD undoes it."""
    committed = platform.repository.read(name)["spec"]["models"][0]["model"]
    models = [{"name": "main", "model": "other", "endpoint": "http://lm:8080/v1"}]
    platform.patch("dspyapp", name, {"spec": {"models": models}})
    model = lambda: platform.get("dspyapp", name)["spec"]["models"][0]["model"]  # noqa: E731
    wait(lambda: model() == committed, "Argo CD to heal the app")
    platform.await_state("apps", "Healthy")


def the_program_changes(platform: Platform, name: str) -> None:
    changed = platform.repository.read(name)
    outputs = changed["spec"]["program"]["signature"]["outputs"]
    outputs[0]["name"] = "topic" if outputs[0]["name"] == "label" else "label"
    digest = platform.get("dspyapp", name)["status"]["configDigest"]
    revision = platform.push(f"Change the program of {name}", changed)
    wait(lambda: platform.get("dspyapp", name)["status"]["configDigest"] != digest, "the change")
    platform.await_state("apps", "Healthy", revision)


def the_program_fails(platform: Platform, name: str) -> None:
    good = platform.repository.read(name)
    bad = {**good, "spec": {**good["spec"], "image": BROKEN}}
    platform.await_state("apps", "Degraded", platform.push(f"Break {name}", bad))
    status, message = platform.health(name)
    assert status == "Degraded"
    assert message.startswith(f"ProgramFailed: {MESSAGE}")
    platform.await_state("apps", "Healthy", platform.push(f"Mend {name}", good))


def the_spec_is_invalid(platform: Platform, name: str) -> None:
    good = platform.repository.read(name)
    bad = platform.repository.read(name)
    bad["spec"]["program"]["signature"]["outputs"] = [{"name": "a", "type": "Adress"}]
    platform.await_state("apps", "Degraded", platform.push(f"Misspell a type of {name}", bad))
    status, message = platform.health(name)
    assert status == "Degraded"
    assert message.startswith("InvalidSpec: ")
    assert "'Adress' is unknown" in message
    platform.await_state("apps", "Healthy", platform.push(f"Mend {name}", good))


def paused_for_a_while(platform: Platform, name: str) -> None:
    good = platform.repository.read(name)
    held = {**good, "spec": {**good["spec"], "paused": True}}
    platform.await_state("apps", "Suspended", platform.push(f"Pause {name}", held))
    assert platform.health(name)[0] == "Suspended"
    platform.await_state("apps", "Healthy", platform.push(f"Resume {name}", good))


def removed_and_brought_back(platform: Platform, name: str) -> None:
    good = platform.repository.read(name)
    platform.repository.remove(name)
    platform.await_state("apps", "Healthy", platform.push(f"Remove {name}"))
    names = lambda: platform.kubectl("get", "deployments,services", "--output=name")  # noqa: E731
    wait(lambda: f"/{name}\n" not in names(), "the children to go with the app")
    platform.await_state("apps", "Healthy", platform.push(f"Bring {name} back", good))
    wait(lambda: f"deployment.apps/{name}\n" in names(), "the children to come back")
    platform.await_state("apps", "Healthy")


STORIES = (
    Story(tell=scaled_by_hand, specs=2),
    Story(tell=scaled_by_an_autoscaler, autoscaled=True),
    Story(tell=a_child_drifts),
    Story(tell=the_app_drifts, specs=2, edits=1),
    Story(tell=the_program_changes, specs=1),
    Story(tell=the_program_fails, specs=2),
    Story(tell=the_spec_is_invalid, specs=2),
    Story(tell=paused_for_a_while, specs=2),
    Story(tell=removed_and_brought_back, specs=1),
)
