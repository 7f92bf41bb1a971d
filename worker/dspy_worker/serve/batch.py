"""Many predictions in one request: checked as a whole, answered one by one, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dspy_worker.core import limiter, problem
from dspy_worker.edge.call import Call
from dspy_worker.errors import WorkerError
from dspy_worker.serve import predict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pydantic

    from dspy_worker.serve.predict import Service


_TOLD = ("id", "prediction", "degraded", "cached")
"""What an item tells of its prediction; usage and time are told of the batch."""


class Batch:
    """The predictions of one batch request.

    Attributes:
        given_up: Whether nobody waits for the rest.
    """

    def __init__(
        self, service: Service, items: Sequence[pydantic.BaseModel], request: Call
    ) -> None:
        """Start nothing yet; `request` has the deadline and the origin of all items."""
        self._service = service
        self._items = items
        self._calls = [Call(request.deadline, request.origin) for _ in items]
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

    def usage(self) -> dict[str, Any]:
        """Return what all items together have cost."""
        return predict.usage(self._calls)

    def degraded(self) -> list[str]:
        """Return why answers are worse than usual."""
        return [reason for result in self._results for reason in result.get("degraded", ())]

    async def _work(self, todo: Iterator[tuple[int, pydantic.BaseModel]]) -> None:
        for index, inputs in todo:
            self._results[index] = await self._one(inputs, self._calls[index])

    async def _one(self, inputs: pydantic.BaseModel, call: Call) -> dict[str, Any]:
        try:
            found = await self._service.predict(inputs, call, patient=True)
        except WorkerError as error:
            self._service.metrics.error(error.reason)
            return {"problem": problem.document(error)}
        return {name: found[name] for name in _TOLD if name in found}
