"""Gather, decide, act for one DSPyApp.

Level-triggered: a key says only which app to look at. Effects come first and the status last, and
every effect is idempotent, so a crash between two of them costs a repetition and nothing else.
"""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from dspy_operator import errors
from dspy_operator.core import app as app_spec
from dspy_operator.core import conditions, names, plan, render, status, world
from dspy_operator.core.manifest import Key, Ref, key_of
from dspy_operator.core.render import Setting, scaling
from dspy_operator.edge import projection
from dspy_operator.reconcile.doubts import Doubts
from dspy_operator.reconcile.readings import Readings
from dspy_operator.reconcile.store import APP_KIND
from dspy_operator.reconcile.throttle import Throttle
from dspy_worker import contract

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspy_operator.core.app import App
    from dspy_operator.core.conditions import Verdict
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.plan import Plan
    from dspy_operator.core.render import Installation
    from dspy_operator.core.world import Rollout
    from dspy_operator.edge.kube import Cluster
    from dspy_operator.edge.recorder import Recorder
    from dspy_operator.edge.telemetry import Telemetry
    from dspy_operator.edge.workers import Reports
    from dspy_operator.reconcile.children import Children
    from dspy_operator.reconcile.observer import Observer
    from dspy_operator.reconcile.optional import OptionalKinds
    from dspy_operator.reconcile.readings import Reading
    from dspy_operator.reconcile.sources import Sources
    from dspy_operator.reconcile.store import Store

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a reconciliation reads and writes through."""

    cluster: Cluster
    store: Store
    sources: Sources
    reports: Reports
    children: Children
    recorder: Recorder
    telemetry: Telemetry
    optional: OptionalKinds
    installation: Installation
    observer: Observer | None
    is_busy: Callable[[], bool]
    later: Callable[[Key], None]
    default_image: str


class Reconciler:
    """Makes the cluster equal to one app's spec, and its status equal to the cluster."""

    def __init__(self, tools: Tools) -> None:
        """Use these tools."""
        self._tools = tools
        self._readings = Readings(tools.default_image)
        self._outdated: dict[Key, float] = {}
        self._throttle = Throttle()
        self._put_off: dict[Key, int] = {}
        self._rolled_out: dict[Key, str] = {}
        self._doubts = Doubts(tools.cluster, tools.store)

    async def __call__(self, key: Key) -> float | None:
        """Look at one app; return the seconds after which to look again, or None.

        Raises:
            OperatorError: It did not work; the queue decides when to try again.
        """
        live = self._tools.store.get(APP_KIND, key)
        if live is None or app_spec.is_going(live):
            self._outdated.pop(key, None)
            self._throttle.forget(key)
            self._put_off.pop(key, None)
            self._rolled_out.pop(key, None)
            if self._tools.observer is not None:
                self._tools.observer.forget(key)
            self._doubts.forget(key)
            self._tools.telemetry.remove_app(key.namespace, key.name)
            return None
        paused = app_spec.paused_seconds(live, datetime.now(UTC))
        if paused > 0:
            await self._say_paused(live)
            return paused if math.isfinite(paused) else None
        try:
            reading = self._readings.read(live)
        except errors.SpecError as error:
            await self._report(live, conditions.of_error(error), None, self._running(key))
            return None
        return await self._converge(live, reading)

    async def _converge(self, live: Manifest, reading: Reading) -> float | None:
        app = reading.app
        try:
            source = await self._source_digest(app)
            owned = self._tools.store.owned(key_of(live))
            held = self._held_seconds(app, owned)
            setting = self._setting(app, owned, source, throttled=held > 0)
            steps = plan.plan(
                render.children(app, setting),
                owned,
                keep=reading.belonging,
                uid=app.uid,
                scaling=app.scaling,
            )
            children = await self._act(live, app, owned, steps)
        except (errors.RefusedError, errors.ForbiddenError, errors.NameTakenError) as error:
            await self._report(live, conditions.of_error(error), app, self._running(key_of(live)))
            raise
        if children is None:
            return None
        missing = render.missing_kinds(reading.belonging, setting.served)
        seen = self._observe(app, children, setting, missing)
        again = await self._report(live, conditions.of_world(app, seen), app, seen.rollout)
        return _soonest(again, held or None)

    async def _source_digest(self, app: App) -> str | None:
        if app.source is None:
            return ""
        return await self._tools.sources.digest(Key(app.namespace, app.source))

    def _held_seconds(self, app: App, owned: Mapping[Ref, Manifest]) -> float:
        """Return for how long no pod is added, because the LM provider throttles."""
        if app.scaling is None or not app.scaling.holds:
            return 0.0
        key = Key(app.namespace, app.name)
        autoscaler = owned.get(Ref(app.scaling.kind, *_parts(key)))
        uids = (pod["metadata"]["uid"] for pod in self._tools.store.pods(key))
        return self._throttle.hold(
            key,
            [self._tools.reports[uid] for uid in uids if uid in self._tools.reports],
            held_before=autoscaler is not None and scaling.is_held(autoscaler),
            now=time.monotonic(),
        )

    def _setting(
        self, app: App, owned: Mapping[Ref, Manifest], source: str | None, *, throttled: bool
    ) -> Setting:
        return Setting(
            token=_token(app, owned),
            source_digest=source,
            installation=self._tools.installation,
            served=self._tools.optional.served,
            pod_metrics=self._tools.optional.pod_metrics,
            throttled=throttled,
            old_scaler=scaling.has_old_scaler(app, owned),
        )

    async def _act(
        self, live: Manifest, app: App, owned: Mapping[Ref, Manifest], steps: Plan
    ) -> Mapping[Ref, Manifest] | None:
        """Return the children as they are now; None where our view of the app was behind."""
        if self._tools.observer is not None:
            pending = self._tools.telemetry.pending_changes.labels(app.namespace, app.name)
            pending.set(self._tools.observer.note(key_of(live), steps))
            return owned
        missing = any(step.live is None for step in steps.applies)
        writes = bool(steps.applies or steps.deletes)
        if writes and await self._doubts.are_justified(live, missing=missing):
            return None
        applied = await self._tools.children.perform(
            live, steps, established=status.is_established(live)
        )
        return {**owned, **applied}

    def _observe(
        self,
        app: App,
        children: Mapping[Ref, Manifest],
        setting: Setting,
        kinds_missing: tuple[str, ...],
    ) -> world.World:
        key = Key(app.namespace, app.name)
        deployment = children.get(Ref("Deployment", *_parts(key)))
        kind = "" if app.scaling is None else app.scaling.kind
        autoscaler = children.get(Ref(kind, *_parts(key)))
        rollout = None if deployment is None else world.rollout(deployment)
        if rollout is not None and rollout.completed:
            self._rolled_out[key] = rollout.template
        return world.World(
            rollout=rollout,
            pods=world.pods(app, self._tools.store.pods(key), self._tools.reports),
            source_missing=app.source if setting.source_digest is None else None,
            autoscaler=None if autoscaler is None else world.autoscaler(autoscaler),
            held=setting.throttled,
            kinds_missing=kinds_missing,
            rolled_out_template=self._rolled_out.get(key, ""),
        )

    def _running(self, key: Key) -> Rollout | None:
        """Return the numbers of the pods that run on, whatever is wrong with the spec."""
        deployment = self._tools.store.get("Deployment", key)
        return None if deployment is None else world.rollout(deployment)

    async def _report(
        self, live: Manifest, verdict: Verdict, app: App | None, rollout: Rollout | None
    ) -> float | None:
        new = status.render(live, verdict, app, rollout, _now())
        old = live.get("status", {})
        change = status.change(
            old, new, settled=verdict.settled, outdated_seconds=self._outdated_seconds(live, new)
        )
        self._gauge(live, new)
        if self._tools.observer is not None:
            return None
        if change.write and verdict.trouble is None and self._puts_off(live):
            self._tools.later(key_of(live))
            return None
        if change.write:
            await self._write(live, new)
        if verdict.trouble is not None and verdict.trouble.reason != status.reason(live):
            await self._tools.recorder.warn(live, verdict.trouble.reason, verdict.trouble.message)
        return change.look_again_after

    def _puts_off(self, live: Manifest) -> bool:
        """Let the children of other apps go first, once for each spec.

        A status of an old generation says that nothing is known of the present one yet.
        """
        key, generation = key_of(live), live["metadata"]["generation"]
        seen = live.get("status", {}).get("observedGeneration")
        known = seen == generation or self._put_off.get(key) == generation
        if known or not self._tools.is_busy():
            return False
        self._put_off[key] = generation
        return True

    async def _write(self, live: Manifest, new: Manifest) -> None:
        if await self._doubts.are_justified(live, missing=False):
            return
        try:
            answer = await self._tools.cluster.apply_status(live, new)
        except errors.NotFoundError:
            # An event stream lost its deletion. The garbage collector would go on deleting what we
            # go on making.
            self._tools.store.forget(APP_KIND, key_of(live))
            return
        self._outdated.pop(key_of(live), None)
        # An answer may bring a spec that we have not looked at; the event of it is then no news.
        is_ours = answer["metadata"]["generation"] == live["metadata"]["generation"]
        take = self._tools.store.learn if is_ours else self._tools.store.put
        take(APP_KIND, projection.trim(answer))

    def _outdated_seconds(self, live: Manifest, new: Manifest) -> float:
        """Return for how long the written numbers have been wrong."""
        key, now = key_of(live), time.monotonic()
        if status.same_counts(live.get("status", {}), new):
            self._outdated.pop(key, None)
            return 0.0
        return now - self._outdated.setdefault(key, now)

    async def _say_paused(self, live: Manifest) -> None:
        new = status.paused(live, _now())
        if new is not None and self._tools.observer is None:
            await self._write(live, new)
        self._gauge(live, live.get("status", {}))

    def _gauge(self, live: Manifest, new: Manifest) -> None:
        metadata = live["metadata"]
        gauge = self._tools.telemetry.app_ready.labels(metadata["namespace"], metadata["name"])
        gauge.set(1 if status.is_ready({"status": new}) else 0)


def _parts(key: Key) -> tuple[str, str]:
    return key.namespace, key.name


def _soonest(*waits: float | None) -> float | None:
    return min((wait for wait in waits if wait is not None), default=None)


def _token(app: App, owned: Mapping[Ref, Manifest]) -> str:
    """Return the token in use; a new one only where there is none, for pods have read it."""
    name = names.ops_config_map(app.name)
    present = owned.get(Ref("ConfigMap", app.namespace, name), {})
    token: str = present.get("data", {}).get(contract.OPS_TOKEN_FILE, "")
    return token or secrets.token_urlsafe(32)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
