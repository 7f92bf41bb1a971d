"""Whether this worker can answer, and what it tells the operator about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspy_worker.contract.state import Credential, WorkerState
from dspy_worker.edge import keys
from dspy_worker.errors import LMCredentialsMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.edge.companion import Companion
    from dspy_worker.edge.guard import Guard
    from dspy_worker.edge.keys import Key
    from dspy_worker.serve.admission import Admission


@dataclass(slots=True, kw_only=True)
class Health:
    """What changes while the worker serves.

    Attributes:
        document: The app.
        keys: Where the key of each model comes from, by the model's name.
        admission: Slots and queue.
        throttled: Tells whether the LM provider throttles this worker at present.
        guards: Circuits of the models that the program may ask, by the model's name.
        companions: Other parts that may fail while the worker serves.
        draining: Whether the worker is stopping.
        requests: Requests accepted since the start.
        errors: Requests since the start that ended in a 5xx answer.
    """

    document: AppDocument
    keys: Mapping[str, Key]
    admission: Admission
    throttled: Callable[[], bool]
    guards: Mapping[str, Guard] = field(default_factory=dict)
    companions: Sequence[Companion] = ()
    draining: bool = False
    requests: int = field(default=0)
    errors: int = field(default=0)

    def obstacle(self) -> tuple[str, str]:
        """Return reason and message of why the worker is not ready; both empty if it is."""
        if self.draining:
            return "Draining", "The worker is stopping."
        missing = [c.model for c in self._credentials() if not c.present]
        if missing:
            where = self.keys[missing[0]].where
            return "LMCredentialsMissing", f"The key of model {missing[0]!r} is not in {where}."
        return "", ""

    def check_keys(self) -> None:
        """Refuse before a slot is taken; a client learns the reason, the place stays inside.

        Raises:
            LMCredentialsMissing: A model's key is missing.
        """
        for model in self.document.models:
            if model.key_secret and self.keys[model.name].read() is None:
                raise LMCredentialsMissing(
                    f"The key of model {model.name!r} is missing.", retry_after=5
                )

    def state(self) -> WorkerState:
        """Return the report that the operator reads."""
        reason, message = self.obstacle()
        return WorkerState(
            app=self.document.name,
            config_digest=self.document.digest,
            ready=not reason,
            not_ready_reason=reason,
            not_ready_message=message,
            in_flight=self.admission.running,
            queued=self.admission.waiting,
            requests=self.requests,
            errors=self.errors,
            credentials=self._credentials(),
            throttled=self.throttled(),
        )

    def components(self) -> dict[str, Any]:
        """Return what anybody may know of what this worker depends on."""
        troubles = {f"lm/{name}": self._trouble(name) for name in self.guards}
        for part in self.companions:
            troubles[part.name] = troubles.get(part.name) or part.trouble()
        return {
            "status": "degraded" if any(troubles.values()) else "ok",
            "components": [
                {
                    "name": name,
                    "state": "failing" if trouble else "ok",
                    "detail": trouble or "It works.",
                }
                for name, trouble in troubles.items()
            ],
        }

    def _trouble(self, model: str) -> str:
        missing = [c.model for c in self._credentials() if not c.present]
        if model in missing:
            return "Its key is missing."
        if self.guards[model].is_open():
            return "It has failed too often and gets no calls, or only probes."
        return ""

    def _credentials(self) -> tuple[Credential, ...]:
        return tuple(
            keys.credential(model.name, self.keys[model.name])
            for model in self.document.models
            if model.key_secret
        )
