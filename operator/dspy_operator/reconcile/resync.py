"""Every ten minutes: fresh lists of everything, compared with what we know, and a look at all apps.

The cure for whatever an event stream lost, deletions that kopf swallowed in a 410 above all.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from dspy_operator import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspy_operator.edge.watch import ListWatch
    from dspy_operator.reconcile.optional import OptionalKinds
    from dspy_operator.reconcile.queue import Queue
    from dspy_operator.reconcile.store import Store

_log = structlog.get_logger(__name__)

PERIOD_SECONDS: Final = 600.0
_SPREAD_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 2.0


async def run(
    lists: Sequence[ListWatch],
    apps: Sequence[ListWatch],
    optional: OptionalKinds,
    leading: asyncio.Event,
    store: Store,
    queue: Queue,
) -> None:
    """List the apps until that works, wait to lead, open the queue, then resync for ever.

    The queue opens only when every kind was listed once: before that a child that exists would
    look missing, and a restart would write.

    Args:
        lists: The watches of children, pods and sources; they run by themselves.
        apps: Lists of the apps; kopf watches these.
        optional: The kinds of other projects; they run by themselves, too.
        leading: Set once this process leads; until then it only keeps up.
        store: What is known.
        queue: Opened when everything is known.
    """
    for each in apps:
        while not await _list(each):  # noqa: ASYNC110 - a retry, no event tells
            await asyncio.sleep(_RETRY_SECONDS)
    for each in lists:
        await each.listed.wait()
    await optional.looked.wait()
    await leading.wait()
    for key in store.apps():
        queue.add(key)
    queue.open()
    _log.info("synced", apps=len(store.apps()), objects=store.count())
    while True:
        await asyncio.sleep(PERIOD_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load
        await resync([*apps, *lists, *optional.lists], store, queue)


async def resync(lists: Sequence[ListWatch], store: Store, queue: Queue) -> None:
    """List everything again and ask for a look at every app, spread over half a minute."""
    for each in lists:
        await _list(each)
    for key in store.apps():
        queue.add(key, after=random.uniform(0, _SPREAD_SECONDS))  # noqa: S311 - spreads load


async def _list(each: ListWatch) -> bool:
    try:
        await each.list_once()
    except errors.ClusterError as error:
        _log.warning("list failed", kind=each.selection.kind, error=str(error))
        return False
    return True
