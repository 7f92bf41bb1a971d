"""Remembers whose LM provider throttles, so that an autoscaler is not switched to and fro."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspy_operator.core.manifest import Key
    from dspy_worker.contract.state import WorkerState

HOLD_SECONDS: Final = 60.0
"""How long a hold outlasts the last report of throttling."""


class Throttle:
    """Until when the scale-up of each app is held."""

    def __init__(self) -> None:
        """Start without any hold."""
        self._until: dict[Key, float] = {}
        self._known: set[Key] = set()

    def hold(
        self, app: Key, reports: Iterable[WorkerState], *, held_before: bool, now: float
    ) -> float:
        """Return for how many seconds the scale-up is held from now on; 0 where it is not.

        Args:
            app: The app.
            reports: Reports of its workers; half of them have to complain.
            held_before: Whether the live autoscaler is held; after a restart of ours it stays so
                until the workers have had time to report.
            now: Seconds of a monotonic clock.
        """
        told = [report.throttled for report in reports]
        first_look = app not in self._known
        self._known.add(app)
        if (told and 2 * sum(told) >= len(told)) or (first_look and held_before):
            self._until[app] = now + HOLD_SECONDS
        left = self._until.get(app, now) - now
        if left <= 0:
            self._until.pop(app, None)
        return max(0.0, left)

    def forget(self, app: Key) -> None:
        """Forget an app that is gone."""
        self._until.pop(app, None)
        self._known.discard(app)
