"""A cluster in memory: what reconciliation uses of `edge.kube.Cluster`, and a recorder."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dspy_operator import errors
from dspy_operator.core import names
from dspy_operator.core.manifest import Key, Manifest, Ref, key_of, ref_of
from dspy_operator.core.render import Installation
from dspy_operator.edge.kube import Selection
from dspy_operator.edge.telemetry import Telemetry
from dspy_operator.reconcile.app import Reconciler, Tools
from dspy_operator.reconcile.children import Children
from dspy_operator.reconcile.observer import Observer
from dspy_operator.reconcile.sources import Sources
from dspy_operator.reconcile.store import APP_KIND, Store

NAMESPACE = "team"
APP = Key(NAMESPACE, "qa")
IDENTITY = {"apiVersion": "dspy-operator.io/v1alpha1", "kind": APP_KIND}
SPEC: Manifest = {
    "program": {"signature": {"inputs": [{"name": "q"}], "outputs": [{"name": "a"}]}},
    "models": [{"name": "main", "model": "m", "endpoint": "http://lm"}],
}


def app(name: str = "qa", **spec: Any) -> Manifest:  # noqa: ANN401 - JSON
    """Return a DSPyApp as a user writes it."""
    return {
        **IDENTITY,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {**copy.deepcopy(SPEC), **spec},
    }


def ref(kind: str, name: str = "qa") -> Ref:
    return Ref(kind, NAMESPACE, name)


class FakeCluster:
    """Keeps objects by reference, counts versions, and does to answers what a test tells it to.

    Attributes:
        objects: What the API server holds.
        calls: Verb and object of each request, in their order.
        fail: Errors by verb and object; they stay until the test removes them.
        admit: What an admission webhook makes of an applied object.
    """

    def __init__(self) -> None:
        self.objects: dict[Ref, Manifest] = {}
        self.calls: list[tuple[str, Ref]] = []
        self.fail: dict[tuple[str, Ref], Exception] = {}
        self.admit: Callable[[Manifest], None] = lambda _: None
        self.version = 0

    def hold(self, manifest: Manifest) -> Manifest:
        """Store an object as if somebody had written it; return it as it is now."""
        at = ref_of(manifest)
        self.version += 1
        uid = self.objects[at]["metadata"]["uid"] if at in self.objects else f"uid-{self.version}"
        live = copy.deepcopy(manifest)
        live["metadata"] |= {"uid": uid, "resourceVersion": str(self.version)}
        live["metadata"].setdefault("generation", 1)
        self.objects[at] = live
        return copy.deepcopy(live)

    async def get(self, at: Ref) -> Manifest | None:
        self._ask("get", at)
        return copy.deepcopy(self.objects.get(at))

    async def apply_new(self, desired: Manifest, *, manager: str) -> Manifest:
        at = ref_of(desired)
        self._ask("make", at)
        if at in self.objects:
            raise errors.ConflictError(f"{at} has another version", status=409)
        return self._merge(desired)

    async def apply(self, desired: Manifest, *, manager: str) -> Manifest:
        assert manager in {names.MANAGER, names.SCALE_MANAGER}
        self._ask("scale" if manager == names.SCALE_MANAGER else "apply", ref_of(desired))
        return self._merge(desired)

    def _merge(self, desired: Manifest) -> Manifest:
        at = ref_of(desired)
        merged = _merge(self.objects.get(at, {}), desired)
        self.admit(merged)
        if merged == self.objects.get(at):
            return copy.deepcopy(merged)
        return self.hold(merged)

    async def apply_status(self, live: Manifest, status: Manifest) -> Manifest:
        at = ref_of(live)
        self._ask("status", at)
        if at not in self.objects:
            raise errors.NotFoundError(f"{at} not found", status=404)
        return self.hold({**self.objects[at], "status": status})

    async def delete(self, live: Manifest) -> None:
        at = ref_of(live)
        self._ask("delete", at)
        del self.objects[at]

    def writes(self) -> list[str]:
        """Return the writes since the last question, as words."""
        found = [f"{verb} {at.kind}" for verb, at in self.calls if verb != "get"]
        self.calls.clear()
        return found

    def _ask(self, verb: str, at: Ref) -> None:
        self.calls.append((verb, at))
        if (verb, at) in self.fail:
            raise self.fail[verb, at]


class FakeRecorder:
    """Remembers Events as reason and note."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    async def warn(self, live: Manifest, reason: str, note: str) -> None:
        self.events.append((reason, note))

    async def tell(self, live: Manifest, reason: str, note: str) -> None:
        self.events.append((reason, note))


@dataclass
class FakeOptional:
    """What the cluster serves beyond Kubernetes' own kinds."""

    served: frozenset[str] = frozenset()
    pod_metrics: bool = False


@dataclass
class World:
    """A reconciler with everything around it; `woken` are the keys that the store asked for."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    recorder: FakeRecorder = field(default_factory=FakeRecorder)
    woken: list[Key] = field(default_factory=list)
    telemetry: Telemetry = field(default_factory=Telemetry)
    optional: FakeOptional = field(default_factory=FakeOptional)
    observer: Observer | None = None
    busy: bool = False
    put_off: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.woken.append)
        self.sources = Sources(self.cluster, self._source_changed)  # type: ignore[arg-type]
        self.children = Children(
            self.cluster,  # type: ignore[arg-type]
            self.store,
            self.recorder,  # type: ignore[arg-type]
            self.telemetry,
        )
        self.reconcile = Reconciler(
            Tools(
                cluster=self.cluster,  # type: ignore[arg-type]
                store=self.store,
                sources=self.sources,
                reports={},
                children=self.children,
                recorder=self.recorder,  # type: ignore[arg-type]
                telemetry=self.telemetry,
                optional=self.optional,  # type: ignore[arg-type]
                installation=Installation(),
                observer=self.observer,
                is_busy=lambda: self.busy,
                later=self.put_off.append,
                default_image="worker:1",
            )
        )

    def user_applies(self, manifest: Manifest) -> Manifest:
        """Write a DSPyApp as a user and let the watch bring it."""
        at = ref_of(manifest)
        old = self.cluster.objects.get(at, {"metadata": {"generation": 0}, "status": {}})
        made = {**manifest, "status": old["status"]}
        made["metadata"] = {
            **manifest["metadata"],
            "generation": old["metadata"]["generation"] + 1,
        }
        live = self.cluster.hold(made)
        self.store.put(APP_KIND, live)
        return live

    def watch(self) -> None:
        """Bring everything that the cluster holds to the store, as the watches do."""
        for at, live in self.cluster.objects.items():
            self.store.put(at.kind, copy.deepcopy(live))
            if at.kind == "ConfigMap":
                self.sources.put(at.kind, live)

    def somebody_deletes(self, at: Ref, *, seen: bool = True) -> None:
        """Delete an object; `seen` tells whether an event of it arrives."""
        live = self.cluster.objects.pop(at)
        self.cluster.version += 1
        live["metadata"]["resourceVersion"] = str(self.cluster.version)
        if seen:
            self.store.drop(at.kind, live)

    def condition(self, kind: str = "Ready") -> Manifest:
        """Return a condition of the app as the cluster holds it; empty where it is absent."""
        status = self.cluster.objects[ref(APP_KIND)]["status"]
        found: list[Manifest] = [c for c in status["conditions"] if c["type"] == kind]
        return found[0] if found else {}

    def _source_changed(self, key: Key) -> None:
        self.woken.extend(self.store.users_of(key))


class FakeList:
    """A ListWatch that lists what a cluster holds of one kind."""

    def __init__(self, world: World, kind: str) -> None:
        self.selection = Selection(kind=kind)
        self.fail: list[Exception] = []
        self._world = world

    async def list_once(self) -> str:
        if self.fail:
            raise self.fail.pop(0)
        found = list(self._of_kind())
        for live in found:
            self._world.store.put(self.selection.kind, live)
        version = str(self._world.cluster.version)
        self._world.store.retain(self.selection, frozenset(map(key_of, found)), version)
        return version

    def _of_kind(self) -> Iterator[Manifest]:
        kept = self._world.cluster.objects.items()
        return (copy.deepcopy(live) for at, live in kept if at.kind == self.selection.kind)


def _merge(live: Manifest, desired: Manifest) -> Manifest:
    """Merge as server-side apply does with mappings; lists are replaced, which is enough here."""
    merged = copy.deepcopy(live)
    for name, value in desired.items():
        inner = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if inner else copy.deepcopy(value)
    return merged
