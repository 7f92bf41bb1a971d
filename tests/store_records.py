"""Predictions and feedback for tests of the store."""

from __future__ import annotations

from dataclasses import replace

from dspy_worker.core.answer import FeedbackRecord, Record

NOON_MS = 1_763_726_400_123

RECORD = Record(
    id="p-0",
    unix_ms=NOON_MS,
    app="default/tickets",
    variant="0123456789ab",
    request_id="r-0",
    tenant="acme",
    subject="customer-7",
    inputs={"text": "I was charged twice", "count": 3, "urgent": True},
    prediction={"label": "billing", "parts": ["a", {"b": None}]},
    error="",
    input_tokens=10,
    output_tokens=5,
    calls=1,
    cost_nanos=2_500,
    duration_ms=12.5,
    cached="",
    degraded=(),
)

FEEDBACK = FeedbackRecord(
    id="f-0",
    prediction_id="p-0",
    unix_ms=NOON_MS + 1000,
    app="default/tickets",
    variant="0123456789ab",
    tenant="acme",
    subject="customer-7",
    score=0.5,
    label="wrong",
    correction={"label": "account"},
    comment='not \\ "that"\nat all\tno',
    source="user",
)


def record(number: int, **changes: object) -> Record:
    """Return the prediction of a number; each is a second younger than the one before."""
    changes.setdefault("unix_ms", NOON_MS + 1000 * number)
    return replace(RECORD, id=f"p-{number}", **changes)  # type: ignore[arg-type]


def feedback(number: int, about: int, **changes: object) -> FeedbackRecord:
    """Return the feedback of a number about the prediction of a number."""
    named = {"id": f"f-{number}", "prediction_id": f"p-{about}", **changes}
    return replace(FEEDBACK, **named)  # type: ignore[arg-type]
