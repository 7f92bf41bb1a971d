"""What an operator that only observes would write: for a look before an upgrade.

It runs beside the operator that acts, with other code or other flags, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from dspy_operator.core import match
from dspy_operator.core.manifest import ref_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspy_operator.core.manifest import Key
    from dspy_operator.core.plan import Apply, Plan

_log = structlog.get_logger(__name__)


class Observer:
    """The pending changes of all apps."""

    def __init__(self) -> None:
        """Start with no app."""
        self._changes: dict[Key, tuple[str, ...]] = {}

    def note(self, app: Key, plan: Plan) -> int:
        """Keep what a plan would do, and log it where it is news; return the number of changes."""
        changes = tuple(_words(plan))
        if self._changes.get(app, ()) != changes:
            _log.info("would change", app=str(app), changes=changes)
        self._changes[app] = changes
        return len(changes)

    def forget(self, app: Key) -> None:
        """Forget an app that is gone."""
        self._changes.pop(app, None)

    def document(self) -> dict[str, Any]:
        """Return the changes of each app that has any, as JSON."""
        return {"apps": {str(app): list(c) for app, c in sorted(self._changes.items()) if c}}


def _words(plan: Plan) -> Iterator[str]:
    yield from (_step(step) for step in plan.applies)
    yield from (f"delete {ref_of(live)}" for live in plan.deletes)


def _step(step: Apply) -> str:
    if step.live is None:
        return f"create {ref_of(step.desired)}"
    paths = ", ".join(sorted(match.differences(step.desired, step.live)))
    return f"change {ref_of(step.desired)}: {paths}"
