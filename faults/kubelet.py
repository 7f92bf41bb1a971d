"""A fake kubelet: pods without a node become ready, as far as the API can tell."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from faults.api import path
from faults.scenarios import NEVER_READY

if TYPE_CHECKING:
    from faults.api import Api
    from faults.trace import Observation

_READY: dict[str, Any] = {
    "phase": "Running",
    "conditions": [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")],
}


class FakeKubelet:
    """Hears of pods from the observer and patches their status as a user of its own.

    Pods get no address, so the operator does not ask their workers for a report.
    """

    def __init__(self, api: Api) -> None:
        """Write through `api`."""
        self._api = api
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, seen: Observation) -> None:
        """Make a new pod ready."""
        pod = seen.live
        if seen.kind != "Pod" or seen.type == "DELETED" or "deletionTimestamp" in pod["metadata"]:
            return
        image = pod["spec"]["containers"][0]["image"]
        if pod["status"].get("phase") == "Running" or image == NEVER_READY:
            return
        task = asyncio.create_task(self._serve(pod["metadata"]["namespace"], seen.name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, namespace: str, name: str) -> None:
        with contextlib.suppress(LookupError):  # its ReplicaSet has just deleted it
            await self._api.merge(f"{path('Pod', namespace)}/{name}/status", {"status": _READY})
