"""What users do, as data: steps of actions, and what the app shows when a step is done.

Steps marked as `setup` only prepare; other scenarios have the same step, and faults go there. All
actions of a step follow each other without a pause; then the run waits until the cluster is calm.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faults.trace import Manifest

NAME = "tickets"
NEVER_READY = "example.com/never-ready:1"
"""Pods with this image stay as they are."""
GONE = "gone"
"""Goal of an app that was deleted, with all that it owned."""
PAUSED = "PausedBySpec"
"""Goal of an app that is frozen; its other conditions may speak of an older spec."""
OWNER_UID = "UID-OF-THE-APP"
"""Stands for the uid of the app `tickets` in the bodies of actions."""

_APP: Manifest = {
    "apiVersion": "dspy-operator.io/v1alpha1",
    "kind": "DSPyApp",
    "metadata": {"name": NAME},
    "spec": {
        "program": {"signature": {"inputs": [{"name": "text"}], "outputs": [{"name": "label"}]}},
        "models": [{"name": "main", "model": "practice", "endpoint": "http://lm:8080/v1"}],
        "serving": {"replicas": 0},
    },
}
_PYTHON = {"python": {"entrypoint": "shop:build"}, "source": {"configMapRef": {"name": "shop"}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One request of a user.

    Attributes:
        verb: create, patch (a merge patch) or delete.
        body: Manifest or patch.
    """

    verb: str
    kind: str
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Actions, and what each app shows when their effects are there.

    Attributes:
        goals: Reason of one of its conditions by app; GONE for none left.
        setup: Whether faults have nothing to look for here.
        back_to: Name of an earlier step whose end state this one must reach again.
    """

    name: str
    actions: tuple[Action, ...]
    goals: Mapping[str, str]
    setup: bool = False
    back_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Steps in order."""

    name: str
    steps: tuple[Step, ...]

    @property
    def disturbed(self) -> tuple[str, ...]:
        """Names of the steps that faults are injected in."""
        return tuple(step.name for step in self.steps if not step.setup)


def app(name: str = NAME, *, replicas: int = 0, **spec: object) -> Manifest:
    """Return a DSPyApp; other arguments replace parts of its spec."""
    made = copy.deepcopy(_APP)
    made["metadata"]["name"] = name
    made["spec"] |= {"serving": {"replicas": replicas}, **spec}
    return made


def create(manifest: Manifest) -> Action:
    """Create an object."""
    name = manifest["metadata"]["name"]
    return Action(verb="create", kind=manifest["kind"], name=name, body=manifest)


def patch(kind: str, name: str, body: Manifest) -> Action:
    """Change an object by a merge patch."""
    return Action(verb="patch", kind=kind, name=name, body=body)


def change(**spec: object) -> Action:
    """Change the spec of the app."""
    return patch("DSPyApp", NAME, {"spec": spec})


def delete(kind: str, name: str = NAME) -> Action:
    """Delete an object."""
    return Action(verb="delete", kind=kind, name=name, body={})


def step(name: str, *actions: Action, goal: str = "ScaledToZero", **more: Any) -> Step:  # noqa: ANN401 - fields of Step
    """Return a step of the app `tickets` alone."""
    return Step(name=name, actions=actions, goals={NAME: goal}, **more)


def config_map(name: str, **data: str) -> Manifest:
    """Return a user's ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def leftover() -> Manifest:
    """Return a ConfigMap as an older version of the operator might have left it behind."""
    made = config_map("tickets-leftover", old="yes")
    made["metadata"]["labels"] = {
        "dspy-operator.io/app": NAME,
        "app.kubernetes.io/managed-by": "dspy-operator",
    }
    made["metadata"]["ownerReferences"] = [
        {
            "apiVersion": _APP["apiVersion"],
            "kind": _APP["kind"],
            "name": NAME,
            "uid": OWNER_UID,
            "controller": True,
        }
    ]
    return made


_PREPARED = step("prepare", create(app()), setup=True)
_SERVED = step("prepare", create(app(replicas=2)), goal="Serving", setup=True)
_OTHER_PROGRAM = {"signature": {"instructions": "Be brief."}}
_BROKEN = {"signature": {"outputs": [{"name": "label", "type": "Adress"}]}}
_IMAGE = "example.com/worker:2"
_AUTOSCALING = {
    "replicas": None,
    "autoscaling": {"minReplicas": 2, "maxReplicas": 4, "cpuPercent": 50},
}
_INGRESS, _POLICY = {"host": "tickets.example.com"}, {"from": ["ingress"]}
_EDIT = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}


def _scenario(name: str, *steps: Step) -> Scenario:
    return Scenario(name=name, steps=steps)


ALL: tuple[Scenario, ...] = (
    _scenario("create", step("create", create(app()))),
    _scenario("serve", step("create", create(app(replicas=2)), goal="Serving")),
    _scenario(
        "stuck",
        step("create", create(app(replicas=1, image=NEVER_READY)), goal="PodsStarting"),
        step("heal", change(image=_IMAGE), goal="Serving"),
    ),
    _scenario(
        "change",
        _SERVED,
        step("program", change(program=_OTHER_PROGRAM), goal="Serving"),
        step("image", change(image=_IMAGE), goal="Serving"),
    ),
    _scenario(
        "scale",
        _PREPARED,
        step("up", change(serving={"replicas": 2}), goal="Serving"),
        step("down", change(serving={"replicas": 0}), back_to="prepare"),
    ),
    _scenario(
        "repair",
        _PREPARED,
        step("edit", patch("Deployment", NAME, _EDIT), back_to="prepare"),
        step("delete", delete("Service"), back_to="prepare"),
        step("token", delete("ConfigMap", "tickets-ops"), back_to="prepare"),
        step("unlabel", patch("Service", NAME, {"metadata": {"labels": {
            "dspy-operator.io/app": None}}}), back_to="prepare"),
    ),
    _scenario(
        "pause",
        _PREPARED,
        step("pause", change(paused=True), goal=PAUSED),
        step("edit", patch("Deployment", NAME, _EDIT), change(image=_IMAGE), goal=PAUSED),
        step("resume", change(paused=False)),
    ),
    _scenario(
        "delete",
        _PREPARED,
        step("delete", delete("DSPyApp"), goal=GONE),
        step("again", create(app()), back_to="prepare"),
    ),
    _scenario(
        "replace",
        _PREPARED,
        step("replace", delete("DSPyApp"), create(app(image=_IMAGE))),
    ),
    _scenario(
        "source",
        step("missing", create(app(program=_PYTHON)), goal="SourceMissing"),
        step("arrives", create(config_map("shop", **{"shop.py": "one = 1"}))),
        step("changes", patch("ConfigMap", "shop", {"data": {"shop.py": "two = 2"}})),
        step("leaves", delete("ConfigMap", "shop"), goal="SourceMissing"),
    ),
    _scenario(
        "options",
        _PREPARED,
        step("on", change(network={"ingress": _INGRESS, "policy": _POLICY})),
        step("off", change(network={"ingress": None, "policy": None}), back_to="prepare"),
    ),
    _scenario(
        "autoscale",
        _SERVED,
        step("hand over", change(serving=_AUTOSCALING), goal="FailedGetResourceMetric"),
        step(
            "take back", change(serving={"replicas": 2, "autoscaling": None}), goal="Serving",
            back_to="prepare",
        ),
    ),
    _scenario(
        "prune", _PREPARED, step("leftover", create(leftover()), back_to="prepare")
    ),
    _scenario(
        "flip",
        _PREPARED,
        step("image", change(image=_IMAGE), change(image=None), back_to="prepare"),
        step("pause", change(paused=True), change(paused=False), back_to="prepare"),
        step(
            "child",
            patch("Service", NAME, {"metadata": {"annotations": {"a": "1"}}}),
            patch("Service", NAME, {"metadata": {"annotations": {"a": None}}}),
            back_to="prepare",
        ),
        step("flash", delete("DSPyApp"), create(app()), delete("DSPyApp"), goal=GONE),
    ),
    _scenario(
        "refused",
        _PREPARED,
        step("break", change(program=_BROKEN), goal="InvalidSpec"),
        step("heal", change(program=_APP["spec"]["program"])),
    ),
    _scenario(
        "two",
        Step(
            name="create",
            actions=(create(app()), create(app("second"))),
            goals={NAME: "ScaledToZero", "second": "ScaledToZero"},
        ),
        Step(
            name="delete",
            actions=(delete("DSPyApp", "second"), change(image=_IMAGE)),
            goals={NAME: "ScaledToZero", "second": GONE},
        ),
    ),
)  # fmt: skip
BY_NAME = {scenario.name: scenario for scenario in ALL}
