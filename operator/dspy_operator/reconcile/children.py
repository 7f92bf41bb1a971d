"""Performs a plan: applies and deletes children, and learns from the answers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog

from dspy_operator import errors
from dspy_operator.core import manifest, match, names
from dspy_operator.core.manifest import Ref, ref_of
from dspy_operator.core.render import OPTIONAL_KINDS
from dspy_operator.edge import projection
from dspy_operator.edge.limiter import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.plan import Apply, Plan
    from dspy_operator.edge.kube import Cluster
    from dspy_operator.edge.recorder import Recorder
    from dspy_operator.edge.telemetry import Telemetry
    from dspy_operator.reconcile.store import Store

_log = structlog.get_logger(__name__)

_REMEMBERED: Final = 4096
_WRITES_AT_ONCE: Final = 30
_WRITES_PER_SECOND: Final = 0.5
"""How often one child is written in the long run, against others that undo each write at once."""

_POD_MAKERS: Final = frozenset({"Deployment"})
_SCALERS: Final = frozenset({"HorizontalPodAutoscaler", "ScaledObject"})


class Children:
    """The writes of one app's plan, in order."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        recorder: Recorder,
        telemetry: Telemetry,
    ) -> None:
        """Write through `cluster` and keep the answers in `store`."""
        self._cluster = cluster
        self._store = store
        self._recorder = recorder
        self._telemetry = telemetry
        self._stubborn: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def perform(self, app: Manifest, plan: Plan, *, established: bool) -> dict[Ref, Manifest]:
        """Apply what is missing or different, then delete what is no longer wanted.

        Args:
            app: The DSPyApp as it is.
            plan: What to do.
            established: Whether the children of this spec were there before, so that a missing
                one is drift.

        Returns:
            The applied children as they are now.

        Raises:
            OperatorError: A write failed; those before it stand.
        """
        applied: dict[Ref, Manifest] = {}
        for batch in _batches(plan.applies):
            steps = [step for step in batch if not self._is_stubborn(step)]
            writes = [self._perform(app, step, established=established) for step in steps]
            answers = await asyncio.gather(*writes, return_exceptions=True)
            for step, answer in zip(steps, answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                applied[ref_of(step.desired)] = answer
        for live in plan.deletes:
            await self._delete(live)
        return applied

    async def _delete(self, live: Manifest) -> None:
        """Delete; one that somebody's finalizer holds counts as there until it is gone."""
        lingering = await self._cluster.delete(live)
        if lingering is None:
            self._store.drop(live["kind"], live)
        else:
            self._store.learn(live["kind"], projection.of_kind(live["kind"])(lingering))

    async def _perform(self, app: Manifest, step: Apply, *, established: bool) -> Manifest:
        answer = await self._apply(app, step)
        drifted = step.repair or (established and _is_lost(step))
        if drifted and not match.differs(step.desired, answer):
            await self._announce(app, step)
        return answer

    async def _apply(self, app: Manifest, step: Apply) -> Manifest:
        if step.live is None:
            answer = await self._create(app, step.desired)
            if step.replicas is not None:
                answer = await self._hold_replicas(answer, step.replicas)
        else:
            self._pace(step.live)
            if step.replicas is not None:
                await self._hand_over(ref_of(step.desired), step.replicas)
            answer = await self._cluster.apply(step.desired, manager=names.MANAGER)
        answer = projection.of_kind(step.desired["kind"])(answer)
        self._store.learn(step.desired["kind"], answer)
        if match.differs(step.desired, answer):
            self._note_stubborn(step.desired, answer)
        return answer

    async def _hand_over(self, ref: Ref, replicas: int) -> None:
        """Let a second manager own the replicas, so that they stay when our apply drops them.

        Server-side apply removes a field when its last owner leaves it out, and a Deployment
        without `replicas` falls back to 1.
        """
        live = await self._cluster.get(ref)
        if live is not None:
            await self._hold_replicas(live, replicas)

    async def _hold_replicas(self, live: Manifest, replicas: int) -> Manifest:
        """Apply the number alone; the version is a precondition.

        An autoscaler may be at work already, and its number must not be overwritten by ours.
        """
        metadata = {n: live["metadata"][n] for n in ("name", "namespace", "uid", "resourceVersion")}
        identity = {n: live[n] for n in ("apiVersion", "kind")}
        wanted = {**identity, "metadata": metadata, "spec": {"replicas": replicas}}
        return await self._cluster.apply(wanted, manager=names.SCALE_MANAGER)

    async def _create(self, app: Manifest, desired: Manifest) -> Manifest:
        """Make a child; an object of somebody else that has its name is not taken over."""
        try:
            return await self._cluster.apply_new(desired, manager=names.MANAGER)
        except errors.ConflictError:
            await self._refuse_stranger(app, desired)
            return await self._cluster.apply(desired, manager=names.MANAGER)

    async def _refuse_stranger(self, app: Manifest, desired: Manifest) -> None:
        ref = ref_of(desired)
        live = await self._cluster.get(ref)
        if live is not None and names.controller_uid(live) != app["metadata"]["uid"]:
            raise errors.NameTakenError(
                f"{ref} exists already and does not belong to this app: delete it, or rename one."
            )

    def _pace(self, live: Manifest) -> None:
        uid = live["metadata"]["uid"]
        bucket = self._buckets.setdefault(
            uid, Bucket(rate=_WRITES_PER_SECOND, burst=_WRITES_AT_ONCE)
        )
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if not bucket.try_take():
            who = live.get(projection.WRITER, "somebody")
            raise errors.ContestedError(f"{ref_of(live)} is changed again and again by {who}.")

    def _is_stubborn(self, step: Apply) -> bool:
        """Tell a child that came back different from our last apply and has not changed since.

        An admission webhook or an unknown default may rewrite a field. Applying again would
        write the same for ever.
        """
        if step.live is None:
            return False
        known = self._stubborn.get(step.live["metadata"]["uid"])
        return known == (_stamp(step.desired), _content(step.live))

    def _note_stubborn(self, desired: Manifest, answer: Manifest) -> None:
        _log.warning("the API server changed what was applied", object=str(ref_of(desired)))
        self._stubborn[answer["metadata"]["uid"]] = _stamp(desired), _content(answer)
        while len(self._stubborn) > _REMEMBERED:
            self._stubborn.popitem(last=False)

    async def _announce(self, app: Manifest, step: Apply) -> None:
        kind = step.desired["kind"]
        self._telemetry.drift_repaired.labels(kind).inc()
        who = (step.live or {}).get(projection.WRITER, "")
        what = "was missing" if step.live is None else "had been changed"
        by = f" by {who}" if who else ""
        note = f"{ref_of(step.desired)} {what}{by}; it is as desired again."
        _log.info("drift repaired", app=app["metadata"]["name"], note=note)
        await self._recorder.tell(app, "DriftRepaired", note)


def _is_lost(step: Apply) -> bool:
    """Tell a child that somebody deleted from one that could not be made until now."""
    return step.live is None and step.desired["kind"] not in _SCALERS | OPTIONAL_KINDS


def _batches(steps: Sequence[Apply]) -> Iterator[list[Apply]]:
    """Yield what pods need first, all at once, then what makes pods, then what scales them.

    The writes of one batch wait for the API server together; one by one they would take as many
    round trips as there are children.
    """
    yield [step for step in steps if step.desired["kind"] not in _POD_MAKERS | _SCALERS]
    yield [step for step in steps if step.desired["kind"] in _POD_MAKERS]
    yield [step for step in steps if step.desired["kind"] in _SCALERS]


def _stamp(desired: Manifest) -> str:
    return manifest.annotation(desired, names.APPLIED)


def _content(live: Manifest) -> str:
    """Return a hash of what people can change: no status, no versions."""
    metadata = live["metadata"]
    kept = {name: metadata.get(name) for name in ("labels", "annotations", "ownerReferences")}
    rest = {k: v for k, v in live.items() if k not in {"metadata", "status", projection.WRITER}}
    return manifest.digest([kept, rest])
