"""Parts of a worker with a life of their own: connections, writers, sweepers."""

from __future__ import annotations

from typing import Protocol


class Companion(Protocol):
    """Runs beside the ports, from before the first request until after the last answer.

    They stop in the opposite order, so that each may use until its end what started before it.
    """

    @property
    def name(self) -> str:
        """What `/v1/health` calls it, such as "redis"; several parts may share a name."""

    def trouble(self) -> str:
        """Return in one sentence what does not work, without an address; empty if all does."""

    async def start(self) -> None:
        """Begin; what is not reachable yet is tried again later and holds nothing up."""

    async def stop(self) -> None:
        """Finish what must not be lost, within a few seconds."""
