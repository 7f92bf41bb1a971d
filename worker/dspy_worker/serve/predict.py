"""One prediction: a slot, the program, a checked answer."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydantic

from dspy_worker.core import ids
from dspy_worker.edge import call as calls
from dspy_worker.errors import LMAnswerUnusable, ProgramRaised, WorkerError
from dspy_worker.serve import failures, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspy_worker.edge.call import Call
    from dspy_worker.edge.telemetry import Metrics
    from dspy_worker.serve.admission import Admission
    from dspy_worker.serve.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What it takes to predict."""

    program: Program
    admission: Admission
    metrics: Metrics

    async def predict(
        self,
        inputs: pydantic.BaseModel,
        call: Call,
        *,
        patient: bool = False,
        started: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Answer one request, once there is a slot for it.

        Args:
            inputs: The checked inputs.
            call: Deadline and usage of this prediction.
            patient: Whether it may wait even if the queue is full.
            started: Called when it has a slot.

        Raises:
            WorkerError: There is no answer; the message is for the client.
        """
        began = time.monotonic()
        async with self.admission.slot(patient=patient) as waited:
            started()
            prediction = await self._ask(schema.values(inputs), call)
        seconds = time.monotonic() - began
        self.metrics.overhead(max(0.0, seconds - waited - call.lm_seconds))
        if call.degraded:
            self.metrics.degraded(calls.FALLBACK)
        return {
            "prediction": prediction,
            "id": new_id(),
            "usage": {
                "inputTokens": call.input_tokens,
                "outputTokens": call.output_tokens,
                "calls": call.calls,
            },
            "durationMs": round(seconds * 1000, 3),
            **degraded(call),
        }

    async def _ask(self, values: Mapping[str, Any], call: Call) -> dict[str, Any]:
        token = calls.CURRENT.set(call)
        try:
            answer = await self.program.run(values)
        except WorkerError:
            raise
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise ProgramRaised("The program was cancelled from inside.") from error
        except (Exception, SystemExit) as error:
            # An exit that nobody catches would end the worker and the requests of others with it.
            raise failures.explain(error) from error
        finally:
            calls.CURRENT.reset(token)
        return self._checked(answer)

    def _checked(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer as JSON values, by field."""
        try:
            checked = self.program.schema.outputs.model_validate(answer)
            return checked.model_dump(mode="json", warnings=False)
        except Exception as error:  # users' types validate and serialize with users' code
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> WorkerError:
        names: list[str] = []
        if isinstance(error, pydantic.ValidationError):
            names = [str(d["loc"][0]) for d in error.errors(include_input=False) if d["loc"]]
        which = ", ".join(dict.fromkeys(names)) or "the outputs"
        if self.program.kind in {"Predict", "ChainOfThought", "ReAct"}:
            return LMAnswerUnusable(f"The language model's answer does not fit: {which}.")
        return ProgramRaised(f"The program's answer lacks or has a wrong value for: {which}.")


def degraded(call: Call) -> dict[str, Any]:
    """Return what an answer says of being worse than usual: nothing if it is not."""
    return {"degraded": list(call.degraded)} if call.degraded else {}


def _is_cancelled() -> bool:
    """Return whether this task is to end, and not only something that the program awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def new_id() -> str:
    """Return a new name for a request or prediction."""
    return ids.uuid7(time.time_ns() // 1_000_000, random.getrandbits(ids.RANDOM_BITS))
