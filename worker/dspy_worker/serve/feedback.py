"""Takes what clients say about predictions: checks, counts and notes it.

Nothing is looked up: the prediction's name tells that it is one of this app, and its variant. So
any pod takes feedback, also while the store is away and before the prediction has reached it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache
from prometheus_client import Counter, Histogram

from dspy_worker.core.answer import FeedbackRecord
from dspy_worker.edge import clock
from dspy_worker.errors import FeedbackInvalid, PredictionUnknown
from dspy_worker.serve import failures, opinion, schema

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from dspy_worker.core.predictionid import PredictionId
    from dspy_worker.edge.call import Origin
    from dspy_worker.serve.opinion import Feedback
    from dspy_worker.serve.predict import Service
    from dspy_worker.serve.seal import Seal

FEEDBACK = "dspy_feedback_total"
SCORE = "dspy_feedback_score"
REMEMBERED = 10_000
"""Feedback that a worker knows to have counted."""
_SCORE_BUCKETS = (0.0, 0.25, 0.5, 0.75, 1.0)
_ID_DIGITS = 32


class Tally:
    """Counts feedback by variant; what is sent again is counted once."""

    def __init__(self, app: str, registry: CollectorRegistry) -> None:
        """Create the metrics."""
        self._app = app
        self._feedback = Counter(
            FEEDBACK,
            "Scores, labels, corrections and comments on predictions of a variant.",
            ["app", "variant", "kind"],
            registry=registry,
        )
        self._scores = Histogram(
            SCORE,
            "Scores of a variant's predictions, from 0 to 1.",
            ["app", "variant"],
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self._counted: LRUCache[str, frozenset[str]] = LRUCache(REMEMBERED)

    def count(self, record: FeedbackRecord) -> None:
        """Count what is new in a piece of feedback."""
        said = frozenset(kind for kind in opinion.KINDS if getattr(record, kind) is not None)
        known = self._counted.get(record.id, frozenset())
        self._counted[record.id] = said | known
        for kind in said - known:
            self._feedback.labels(self._app, record.variant, kind).inc()
        if record.score is not None and "score" not in known:
            self._scores.labels(self._app, record.variant).observe(record.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where clients hand in their feedback.

    Attributes:
        service: What made the predictions.
        seal: Knows their names.
        tally: Counts.
    """

    service: Service
    seal: Seal
    tally: Tally

    def take(self, text: bytes, origin: Origin) -> dict[str, Any]:
        """Count and note the feedback in a request's body; return the answer.

        Raises:
            WorkerError: It is no feedback on a prediction of this app.
        """
        said = schema.read(self.service.program.schema.feedback, text, FeedbackInvalid)
        found = self.seal.read(said.prediction_id)
        if found is None:
            raise PredictionUnknown("The predictionId is not one that this app has given.")
        record = self._record(said, found, origin)
        self.tally.count(record)
        self.service.notebook.note_feedback(record)
        return {
            "id": record.id,
            "predictionId": record.prediction_id,
            "variant": record.variant,
            "stored": self.service.notebook.takes,
        }

    def _record(self, said: Feedback, found: PredictionId, origin: Origin) -> FeedbackRecord:
        try:
            correction = opinion.corrected(said)
        except Exception as error:  # users' types serialize with users' code
            raise failures.explain(error) from error
        return FeedbackRecord(
            id=name(said),
            prediction_id=said.prediction_id,
            unix_ms=clock.unix_ms(),
            app=self.service.label.app,
            variant=found.variant,
            tenant=origin.tenant,
            subject=origin.subject,
            score=said.score,
            label=said.label,
            correction=correction,
            comment=said.comment,
            source=said.source,
        )


def name(said: Feedback) -> str:
    """Return the name of a piece of feedback: the same for what replaces it, and for nothing else.

    Clients number their feedback as they like, so their ids alone could meet.
    """
    parts = "\n".join((said.prediction_id, said.source, said.id or ""))
    return hashlib.sha256(parts.encode()).hexdigest()[:_ID_DIGITS]
