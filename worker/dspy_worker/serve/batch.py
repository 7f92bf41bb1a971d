"""Many predictions in one request: checked as a whole, answered one by one, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dspy_worker.core import limiter, problem
from dspy_worker.edge.call import Call
from dspy_worker.errors import WorkerError
from dspy_worker.serve.predict import degraded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pydantic

    from dspy_worker.serve.predict import Service


class Batch:
    """The predictions of one batch request.

    Attributes:
        given_up: Whether nobody waits for the rest.
    """

    def __init__(
        self, service: Service, items: Sequence[pydantic.BaseModel], deadline: float
    ) -> None:
        """Start nothing yet; `deadline` is a moment of `time.monotonic`."""
        self._service = service
        self._items = items
        self._calls = [Call(deadline) for _ in items]
        self._results: list[dict[str, Any]] = [{} for _ in items]

    async def run(self) -> list[dict[str, Any]]:
        """Return an answer or a problem for each item.

        Raises:
            QueueFull: The queue was full before the first item.
        """
        self._service.admission.check()
        todo = iter(enumerate(self._items))
        fan_out = limiter.fan_out(self._service.admission.limits, len(self._items))
        async with asyncio.TaskGroup() as group:
            for _ in range(fan_out):
                group.create_task(self._work(todo))
        return self._results

    def give_up(self) -> None:
        """Let threads of this batch ask no more."""
        for call in self._calls:
            call.given_up = True

    def usage(self) -> dict[str, int]:
        """Return what all items together have cost."""
        return {
            "inputTokens": sum(call.input_tokens for call in self._calls),
            "outputTokens": sum(call.output_tokens for call in self._calls),
            "calls": sum(call.calls for call in self._calls),
        }

    def is_degraded(self) -> bool:
        """Return whether any answer is worse than usual."""
        return any("degraded" in result for result in self._results)

    async def _work(self, todo: Iterator[tuple[int, pydantic.BaseModel]]) -> None:
        for index, inputs in todo:
            self._results[index] = await self._one(inputs, self._calls[index])

    async def _one(self, inputs: pydantic.BaseModel, call: Call) -> dict[str, Any]:
        try:
            found = await self._service.predict(inputs, call, patient=True)
        except WorkerError as error:
            self._service.metrics.error(error.reason)
            return {"problem": problem.document(error)}
        return {"id": found["id"], "prediction": found["prediction"], **degraded(call)}
