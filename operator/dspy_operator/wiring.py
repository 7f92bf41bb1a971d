"""Puts the parts together: which watch feeds what, and who hears of whom."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dspy_operator.core import manifest, names
from dspy_operator.core.manifest import Key
from dspy_operator.core.render import Installation
from dspy_operator.edge import errorlines, health, kube, session, telemetry, watch, workers
from dspy_operator.edge.kube import Selection
from dspy_operator.edge.limiter import Bucket
from dspy_operator.edge.recorder import Recorder
from dspy_operator.reconcile import resync
from dspy_operator.reconcile.app import Reconciler, Tools
from dspy_operator.reconcile.children import Children
from dspy_operator.reconcile.leader import Alone, Elected
from dspy_operator.reconcile.optional import OptionalKinds
from dspy_operator.reconcile.queue import Queue
from dspy_operator.reconcile.sources import Sources
from dspy_operator.reconcile.store import APP_KIND, Store
from dspy_worker import contract

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import aiohttp

    from dspy_operator.core.manifest import Ref
    from dspy_operator.edge.credentials import Connection
    from dspy_operator.edge.watch import ListWatch, Sink
    from dspy_operator.reconcile.observer import Observer

OWNED_KINDS: Final = (
    "Deployment",
    "Service",
    "ConfigMap",
    "ServiceAccount",
    "Pod",
    "HorizontalPodAutoscaler",
    "Ingress",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
)
_RUNNING: Final = "Running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What whoever starts an operator may choose.

    Attributes:
        namespaces: Namespaces to serve; empty for all.
        worker_image: Image of apps that name none.
        identity: Name of this process, for Events and among the holders of the Lease.
        rate: Requests per second to the API server in the long run.
        burst: Requests that may go beyond that at once.
        installation: What apps are told about their surroundings.
        lease: The Lease that this process has to hold; None where it is the only one.
        observer: Hears what would be written; then nothing is.
    """

    namespaces: Sequence[str]
    worker_image: str
    identity: str
    rate: float
    burst: int
    installation: Installation = field(default_factory=Installation)
    lease: Ref | None = None
    observer: Observer | None = None


class Machine:
    """One operator without kopf.

    Attributes:
        store: What is known of the cluster.
        queue: The keys to look at.
        leader: Tells whether this process may write.
        health: Signs of life.
        telemetry: Metrics.
    """

    def __init__(self, connection: Connection, choices: Choices) -> None:
        """Wire everything; nothing runs before `start`."""
        self._connection = connection
        self._namespaces = choices.namespaces or ("",)
        self.telemetry = telemetry.Telemetry()
        self._session = session.open_session(connection, self.telemetry)
        bucket = Bucket(rate=choices.rate, burst=choices.burst)
        self.leader = self._make_leader(choices)
        self._cluster = kube.Cluster(
            self._session, connection.server, bucket, may_write=self.leader.may_write
        )
        self.queue = Queue(self._reconcile, self.telemetry)
        self.store = Store(self.queue.add, self.queue.add_minor)
        self.health = health.Health(longest=self.queue.longest, is_ready=self._missing)
        self._sources = Sources(self._cluster, self._source_changed)
        self._poller = workers.Poller(self._targets, self.queue.add, self.telemetry)
        self._optional = OptionalKinds(
            self._cluster, self._owned_lists, self._forget_kind, self._look_at_all
        )
        self._reconciler = self._make_reconciler(choices)
        self._apps = self._lists(APP_KIND, "", self.store)
        self._watches = [
            *(each for kind in OWNED_KINDS for each in self._owned_lists(kind)),
            *self._lists("ConfigMap", names.FOREIGN, self._sources, metadata_only=True),
        ]

    def start(self, count: int) -> list[asyncio.Task[None]]:
        """Start all tasks, with `count` workers; none of them ends by itself."""
        parts = [
            health.watch_loop(self.health, self.telemetry),
            resync.run(
                self._watches,
                self._apps,
                self._optional,
                self.leader.leading,
                self.store,
                self.queue,
            ),
            self.leader.run(),
            self._optional.run(),
            self._poller.run(),
            *(each.run() for each in self._watches),
            *(self.queue.run_worker() for _ in range(count)),
        ]
        return [asyncio.create_task(part) for part in parts]

    async def wait_for_apps(self) -> None:
        """Wait until the apps could be listed, so that their kind exists and we may read it."""
        for each in self._apps:
            await each.listed.wait()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def open_kopf_session(self) -> aiohttp.ClientSession:
        """Open a session for kopf, whose lists and watches count as signs of life.

        The first one is given now: kopf looks for the kinds once, and where discovery lags behind
        the API it finds none and watches nothing. Without its signs the liveness probe then fails.
        """

        def beat(plural: str) -> None:
            self.health.beat(f"kopf/{plural}")

        beat(kube.RESOURCES[APP_KIND].plural)
        more = (errorlines.as_expired,)
        return session.open_session(self._connection, self.telemetry, watching=beat, more=more)

    async def _reconcile(self, key: Key) -> float | None:
        return await self._reconciler(key)

    def _make_leader(self, choices: Choices) -> Alone | Elected:
        """Give the lease a limiter of its own: its renewal must not wait behind other requests."""
        if choices.lease is None:
            return Alone()
        leases = kube.Cluster(self._session, self._connection.server, Bucket(rate=5, burst=10))
        return Elected(leases, choices.lease, choices.identity, gauge=self.telemetry.leader.set)

    def _make_reconciler(self, choices: Choices) -> Reconciler:
        recorder = Recorder(self._cluster, instance=choices.identity)
        tools = Tools(
            cluster=self._cluster,
            store=self.store,
            sources=self._sources,
            reports=self._poller.reports,
            children=Children(self._cluster, self.store, recorder, self.telemetry),
            recorder=recorder,
            telemetry=self.telemetry,
            optional=self._optional,
            installation=choices.installation,
            observer=choices.observer,
            is_busy=self.queue.is_busy,
            later=self.queue.add_minor,
            default_image=choices.worker_image,
        )
        return Reconciler(tools)

    def _owned_lists(self, kind: str) -> list[ListWatch]:
        return self._lists(kind, names.SELECTOR, self.store)

    def _forget_kind(self, kind: str) -> None:
        self.store.forget_kind(kind)
        self.health.forget(kind)

    def _look_at_all(self) -> None:
        for key in self.store.apps():
            self.queue.add(key)

    def _lists(
        self, kind: str, labels: str, sink: Sink, *, metadata_only: bool = False
    ) -> list[ListWatch]:
        return [
            watch.ListWatch(
                self._cluster,
                Selection(
                    kind=kind, namespace=namespace, labels=labels, metadata_only=metadata_only
                ),
                sink,
                telemetry=self.telemetry,
                beat=(lambda _: None) if kind == APP_KIND else self.health.beat,
            )
            for namespace in self._namespaces
        ]

    def _missing(self) -> str:
        waiting = [w.selection.kind for w in [*self._apps, *self._watches] if not w.listed.is_set()]
        if not self._optional.looked.is_set():
            waiting.append("the optional kinds")
        if waiting:
            return f"not listed yet: {', '.join(waiting)}"
        if not self.leader.leading.is_set():
            return ""  # a standby that knows everything is as ready as it can be
        return "" if self.queue.drained.is_set() else "the first look at all apps is not done"

    def _source_changed(self, source: Key) -> None:
        for app in self.store.users_of(source):
            self.queue.add(app)

    def _targets(self) -> Iterator[workers.Target]:
        """Yield the workers that can be asked."""
        for app in self.store.apps():
            pods = self.store.pods(app)
            token = self._ops_token(app) if pods else ""
            if not token:
                continue
            scaled = self.store.get("HorizontalPodAutoscaler", app) is not None
            for pod in pods:
                status = pod["status"]
                if status.get("phase") == _RUNNING and status.get("podIP"):
                    yield workers.Target(
                        uid=pod["metadata"]["uid"],
                        app=app,
                        address=status["podIP"],
                        token=token,
                        ready=_is_ready(pod),
                        scaled=scaled,
                    )

    def _ops_token(self, app: Key) -> str:
        name = names.ops_config_map(app.name)
        live = self.store.get("ConfigMap", Key(app.namespace, name)) or {}
        token: str = live.get("data", {}).get(contract.OPS_TOKEN_FILE, "")
        return token


def _is_ready(pod: manifest.Manifest) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
