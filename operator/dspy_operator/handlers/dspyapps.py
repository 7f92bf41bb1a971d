"""kopf watches the DSPyApps. Its handlers put what they see into the store and do nothing else.

kopf is the edge here, not the controller: no create, update or delete handlers, no daemons, no
timers, no index, so that it writes neither annotations nor finalizers on the users' objects.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import kopf

from dspy_operator.edge import projection
from dspy_operator.reconcile.store import APP_KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import aiohttp

    from dspy_operator.edge.credentials import Connection
    from dspy_operator.edge.watch import Sink

_IDENTITY = "dspy-operator"
_GROUP, _VERSION, _PLURAL = "dspy-operator.io", "v1alpha1", "dspyapps"


class EndlessBackoffs:
    """Delays between kopf's retries: they never end, so an outage does not end the process."""

    def __iter__(self) -> Iterator[float]:
        """Yield seconds; each request takes a fresh iterator."""
        delay = 0.5
        while True:
            yield delay * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries
            delay = min(5.0, delay * 2)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no former state: nothing here asks for differences, and it halves the CPU per event."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:  # noqa: ANN401, ARG002 - kopf's types
        return {}

    def fetch(self, *, body: Any) -> Any:  # noqa: ANN401, ARG002 - kopf's types
        return {}

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:  # noqa: ANN401 - kopf's types
        """Store nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers: there are none that take more than one call."""

    def fetch(self, *, key: Any, body: Any) -> Any:  # noqa: ANN401, ARG002 - kopf's types
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:  # noqa: ANN401 - kopf's types
        """Store nothing."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:  # noqa: ANN401 - kopf's types
        """Purge nothing."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:  # noqa: ANN401 - kopf's types
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:  # noqa: ANN401 - kopf's types
        return essence


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings for a quiet, patient edge."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.watching.chunk_size = 250
    chosen.watching.inactivity_timeout = 70
    # A new watch request every three minutes is the sign of life that the liveness probe sees.
    chosen.watching.server_timeout = 180
    chosen.queueing.idle_timeout = 0.1
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = EndlessBackoffs()
    chosen.process.ultimate_exiting_timeout = 25
    chosen.execution.max_workers = 1
    chosen.persistence.diffbase_storage = _NoDiffBase()
    chosen.persistence.progress_storage = _NoProgress()
    return chosen


def registry(
    sink: Sink,
    connection: Connection,
    open_session: Callable[[], aiohttp.ClientSession],
) -> kopf.OperatorRegistry:
    """Return a registry of its own, so that several operators fit into one process.

    Args:
        sink: Where observed apps go.
        connection: Where the API server is.
        open_session: Opens a session for kopf, which closes it.
    """
    own = kopf.OperatorRegistry()

    @kopf.on.login(registry=own)
    async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf's arguments
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=open_session())

    @kopf.on.event(_GROUP, _VERSION, _PLURAL, registry=own)
    async def seen(event: Any, **_: Any) -> None:  # noqa: ANN401 - kopf's arguments
        live = projection.trim(dict(event["object"]))
        if event["type"] == "DELETED":
            sink.drop(APP_KIND, live)
        else:
            sink.put(APP_KIND, live)

    return own


async def watch(
    own: kopf.OperatorRegistry,
    namespaces: Iterable[str],
    *,
    stop: asyncio.Event,
    started: Callable[[], None],
) -> None:
    """Run kopf until `stop` is set or it fails.

    Args:
        own: The registry.
        namespaces: Namespaces to watch; none for all.
        stop: Ends it.
        started: Called when kopf has taken SIGTERM and SIGINT, so that they can be taken back.
    """
    chosen = tuple(namespaces)
    ours = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=own,
        settings=settings(),
        standalone=True,
        clusterwide=not chosen,
        namespaces=chosen,
        stop_flag=stop,
        # kopf would make one from the user's name, and user 65532 has none in the image.
        identity=_IDENTITY,  # type: ignore[arg-type]  # kopf wants a private NewType of str
    )
    started()
    await kopf.run_tasks(tasks, ignored=ours)
