"""The document that a worker serves at `STATE_PATH` to whoever holds the app's token."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a worker sees of one LM key.

    Attributes:
        model: Name of the model in `spec.models`.
        present: Whether the key's file exists and is not empty.
        fingerprint: First 12 hex digits of the key's SHA-256; empty while the key is missing.
    """

    model: str
    present: bool
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker's report of itself.

    Attributes:
        app: Name of the DSPyApp.
        config_digest: SHA-256 (hex) of the app document that this worker has loaded.
        ready: What the readiness probe answers.
        not_ready_reason: CamelCase reason while not ready; empty otherwise.
        not_ready_message: One sentence for a person while not ready; empty otherwise.
        in_flight: Requests being answered now.
        queued: Requests waiting for a slot now.
        requests: Requests accepted since the start.
        errors: Requests since the start that ended in a 5xx answer.
        credentials: One entry for each model that has a key reference.
        throttled: Whether the LM provider refuses a good part of the calls with 429 at present.
    """

    app: str
    config_digest: str
    ready: bool
    not_ready_reason: str = ""
    not_ready_message: str = ""
    in_flight: int = 0
    queued: int = 0
    requests: int = 0
    errors: int = 0
    credentials: tuple[Credential, ...] = field(default=())
    throttled: bool = False

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that goes over the wire."""
        return {"version": VERSION, **asdict(self)}


def load(document: Any) -> WorkerState:  # noqa: ANN401 - JSON from another process
    """Read a report.

    Raises:
        ValueError: The document is not a report of a known version; the message says what is off.
    """
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f"not a worker state of version {VERSION}")
    fields = {k: v for k, v in document.items() if k in WorkerState.__slots__}
    try:
        keys = tuple(Credential(**c) for c in fields.pop("credentials", ()))
        return WorkerState(**fields, credentials=keys)
    except TypeError as error:
        raise ValueError(f"not a worker state: {error}") from error
