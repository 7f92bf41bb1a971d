"""Plays one scenario, with or without a fault, and returns what was recorded."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faults import oracles
from faults.api import RESOURCES, path
from faults.injector import STALE_SECONDS, Injector
from faults.oracles import Run
from faults.plans import START, Kind, Plan, Point
from faults.process import Operator, write_kubeconfig
from faults.proxy import Proxy
from faults.scenarios import GONE, NAME, OWNER_UID, PAUSED
from faults.trace import Request, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from faults.api import Api
    from faults.observer import Observer, Scene
    from faults.scenarios import Action, Scenario, Step

STREAMS = frozenset({*RESOURCES, "configmaps/metadata"})
"""What the operator watches; its first look is over when all are open."""

CALM_SECONDS = 1.5
"""A reference's step is over when for so long nobody wrote anything in the namespace."""
SETTLED_SECONDS = 0.7
"""A step of a plan is over when the reference's state is there, and no write for so long."""
QUIET_SECONDS = 3.0
"""No write of the operator for so long at the end of a run."""
STEP_SECONDS = 45.0
SILENT_STEP_SECONDS = 150.0
_LOOK_SECONDS = 0.05
OVER = "over"
"""Step of a trace after the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all runs of a campaign share.

    Attributes:
        admin: The API server as the user sees it, who may do everything.
        upstream: The API server with the rights of the operator.
        folder: Takes kubeconfigs and logs.
    """

    admin: Api
    upstream: Api
    observer: Observer
    folder: Path


@dataclass(slots=True)
class _Levers:
    """What a fault does beside answering; see `injector.Levers`."""

    admin: Api
    proxy: Proxy
    operator: Operator

    async def crash(self) -> None:
        await self.operator.kill()
        await self.operator.start()

    async def touch(self, request: Request) -> bool:
        target = request.target
        if target.resource not in RESOURCES or not target.name:
            return False
        where = f"{path(RESOURCES[target.resource], target.namespace)}/{target.name}"
        mark = {"metadata": {"annotations": {oracles.RACE_MARK: secrets.token_hex(4)}}}
        try:
            await self.admin.merge(where, mark)
        except LookupError:
            return False
        return True

    def end_streams(self, *, broken: bool) -> None:
        self.proxy.end_streams(broken=broken)


@dataclass(slots=True)
class Player:
    """One run; use `play`."""

    stage: Stage
    scenario: Scenario
    plan: Plan | None
    wanted: Mapping[str, Mapping[str, Any]] | None
    namespace: str
    proxy: Proxy
    operator: Operator
    injector: Injector
    scene: Scene
    states: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    late: dict[str, str] = field(default_factory=dict)
    restless: str = ""

    async def run(self) -> None:
        """Play all steps; stop at the first that does not reach its state."""
        await self._ready()
        for step in self.scenario.steps:
            await self._play(step)
            if self.late:
                return
        await self._quiet()
        self.proxy.trace.step = OVER

    def record(self, seconds: float) -> Run:
        """Return what the oracles need."""
        return Run(
            plan=self.plan,
            trace=self.proxy.trace,
            states=self.states,
            history=tuple(self.scene.history),
            restless=self.restless,
            late=self.late,
            log=self.operator.log.read_text(errors="replace"),
            exits=tuple(self.operator.exits),
            fired=self.injector.fired or self.plan is None,
            hidden=self.injector.hidden,
            seconds=seconds,
        )

    async def _ready(self) -> None:
        open_streams = self.proxy.open_streams
        if not await _until(lambda: open_streams() >= STREAMS, STEP_SECONDS):
            raise TimeoutError(f"only these streams were opened: {sorted(open_streams())}")

    async def _play(self, step: Step) -> None:
        past = await self.stage.admin.version()
        self.proxy.trace.step = step.name
        self.injector.begin_step(Point(step.name, START))
        for action in step.actions:
            await self._act(action)
        await self._settle(step)
        if self.injector.travels(step.name) and not self.late:
            await self.operator.kill()
            self.injector.go_back(past)
            await self.operator.start()
            await asyncio.sleep(STALE_SECONDS)
            await self._ready()
            await self._settle(step)

    async def _act(self, action: Action) -> None:
        body = json.loads(json.dumps(action.body).replace(OWNER_UID, self._uid()))
        where = f"{path(action.kind, self.namespace)}/{action.name}"
        match action.verb:
            case "create":
                await self.stage.admin.create(body, self.namespace)
            case "patch":
                await self.stage.admin.merge(where, body)
            case _:
                await self.stage.admin.delete(action.kind, self.namespace, action.name)

    def _uid(self) -> str:
        live = self.scene.live.get(("DSPyApp", NAME))
        return "" if live is None else str(live["metadata"]["uid"])

    async def _settle(self, step: Step) -> None:
        if self.wanted is None:
            await self._settle_reference(step)
            return
        wanted = self.wanted[step.name]
        is_there = _Remembered(self.scene, lambda: self._state() == wanted)
        calm = _Calm(self._count_writes)
        seconds = _patience(self.plan)
        if not await _until(lambda: calm.seconds() > SETTLED_SECONDS and is_there(), seconds):
            said = oracles.difference(self._state(), wanted)
            self.late[step.name] = said or "the state is there, but writes go on"
        self.states[step.name] = self._state()

    async def _settle_reference(self, step: Step) -> None:
        calm = _Calm(lambda: self._count_writes() + len(self.scene.history))
        reached = await _until(
            lambda: calm.seconds() > CALM_SECONDS and _shows(self.scene, step.goals), STEP_SECONDS
        )
        self.states[step.name] = self._state()
        if not reached:
            self.late[step.name] = f"goal {dict(step.goals)} not reached: {self._state()}"
        elif step.back_to:
            said = oracles.difference(self._state(), self.states[step.back_to])
            self.late |= {step.name: f"not as after {step.back_to}: {said}"} if said else {}

    async def _quiet(self) -> None:
        calm = _Calm(self._count_writes)
        if not await _until(lambda: calm.seconds() > QUIET_SECONDS, STEP_SECONDS):
            last = next(r for r in reversed(self.proxy.trace.requests) if r.is_write)
            self.restless = f"{last.verb} {last.target}"

    def _count_writes(self) -> int:
        return sum(request.is_write for request in self.proxy.trace.requests)

    def _state(self) -> dict[str, Any]:
        return oracles.state(self.scene.live, self.namespace)


class _Calm:
    """How long a number has not changed; it must be looked at often."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._last = count()
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the number was last seen to change."""
        now = self._count()
        if now != self._last:
            self._last, self._since = now, time.monotonic()
        return time.monotonic() - self._since


class _Remembered:
    """An answer about a scene, worked out anew only when something has happened there."""

    def __init__(self, scene: Scene, ask: Callable[[], bool]) -> None:
        self._scene = scene
        self._ask = ask
        self._seen = -1
        self._answer = False

    def __call__(self) -> bool:
        if len(self._scene.history) != self._seen:
            self._seen = len(self._scene.history)
            self._answer = self._ask()
        return self._answer


async def play(
    stage: Stage,
    scenario: Scenario,
    plan: Plan | None = None,
    wanted: Mapping[str, Mapping[str, Any]] | None = None,
) -> Run:
    """Play a scenario in a namespace, behind a proxy and with an operator of its own.

    Args:
        stage: What all runs share.
        scenario: What users do.
        plan: The fault; None for an undisturbed run.
        wanted: The states that each step must reach; None for an undisturbed run, which tells them.
    """
    player = _prepare(stage, scenario, plan, wanted)
    operator, proxy, namespace = player.operator, player.proxy, player.namespace
    started = time.monotonic()
    await stage.admin.create_namespace(namespace)
    write_kubeconfig(operator.kubeconfig, await proxy.start(player.injector))
    try:
        await operator.start()
        await player.run()
    finally:
        await operator.kill()
        await proxy.stop()
        await stage.admin.delete_namespace(namespace)
        stage.observer.forget(namespace)
    return player.record(time.monotonic() - started)


def _prepare(
    stage: Stage,
    scenario: Scenario,
    plan: Plan | None,
    wanted: Mapping[str, Mapping[str, Any]] | None,
) -> Player:
    """Make all parts of a run; nothing is started yet."""
    namespace = f"faults-{secrets.token_hex(4)}"
    proxy = Proxy(stage.upstream, stage.admin, Trace())
    operator = Operator(
        kubeconfig=stage.folder / f"{namespace}.kubeconfig",
        namespace=namespace,
        log=stage.folder / f"{namespace}.log",
    )
    return Player(
        stage=stage,
        scenario=scenario,
        plan=plan,
        wanted=wanted,
        namespace=namespace,
        proxy=proxy,
        operator=operator,
        injector=Injector(plan, _Levers(stage.admin, proxy, operator)),
        scene=stage.observer.scene(namespace),
    )


async def _until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


def _patience(plan: Plan | None) -> float:
    silent = plan is not None and plan.kind is Kind.SILENT
    return SILENT_STEP_SECONDS if silent else STEP_SECONDS


def _shows(scene: Scene, goals: Mapping[str, str]) -> bool:
    """Tell whether each app shows what its step is about."""
    return all(_reached(scene, name, goal) for name, goal in goals.items())


def _reached(scene: Scene, name: str, goal: str) -> bool:
    live = scene.live.get(("DSPyApp", name))
    if goal == GONE:
        labels = (m["metadata"].get("labels", {}) for m in scene.live.values())
        return live is None and all(each.get(oracles.APP_LABEL) != name for each in labels)
    status = {} if live is None else live.get("status", {})
    reasons = {c["reason"] for c in status.get("conditions", ())}
    is_current = live is not None and (
        goal == PAUSED or status.get("observedGeneration") == live["metadata"]["generation"]
    )
    return goal in reasons and is_current
