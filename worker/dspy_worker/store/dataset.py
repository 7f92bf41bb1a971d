"""Stored predictions as a data set: one example of JSON for each line.

Where somebody said what would have been right, that is the output. Subjects and tenants stay
behind: an example is about a question, not about who asked it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspy_worker.core import search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dspy_worker.core.answer import FeedbackRecord
    from dspy_worker.core.search import Query, Stored
    from dspy_worker.store.database import Library


async def examples(library: Library, query: Query) -> AsyncIterator[dict[str, Any]]:
    """Yield what a query finds as examples, the newest first.

    Raises:
        StoreError: The database cannot be asked.
    """
    query = replace(query, limit=search.MOST_ROWS, cursor="")
    while True:
        page = await library.search(query)
        said = await library.feedback([stored.record.id for stored in page.found])
        for stored in page.found:
            found = example(stored, [f for f in said if f.prediction_id == stored.record.id])
            if found is not None:
                yield found
        if not page.cursor:
            return
        query = replace(query, cursor=page.cursor)


def example(stored: Stored, said: Sequence[FeedbackRecord]) -> dict[str, Any] | None:
    """Return a prediction as an example; None where there are no outputs.

    Args:
        stored: The prediction.
        said: Its feedback, the oldest first: what was said last wins, field by field.
    """
    outputs = dict(stored.record.prediction or {})
    corrections = [f.correction for f in said if f.correction]
    for correction in corrections:
        outputs |= correction
    if not outputs:
        return None
    record = stored.record
    labels = [f.label for f in said if f.label is not None]
    return {
        "inputs": record.inputs,
        "outputs": outputs,
        "metadata": {
            "id": record.id,
            "unixMs": record.unix_ms,
            "app": record.app,
            "variant": record.variant,
            "score": stored.score,
            "label": labels[-1] if labels else None,
            "corrected": bool(corrections),
            "degraded": list(record.degraded),
        },
    }
