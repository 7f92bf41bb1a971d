"""One prediction: a slot, the program, a checked answer."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pydantic

from dspy_worker.cache.shelf import NoShelf
from dspy_worker.contract import money
from dspy_worker.core import ids
from dspy_worker.core.answer import Record
from dspy_worker.edge import call as calls
from dspy_worker.edge import clock
from dspy_worker.errors import DeadlineExceeded, LMAnswerUnusable, ProgramRaised, WorkerError
from dspy_worker.serve import failures, schema
from dspy_worker.store.notebook import NoNotebook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dspy_worker.cache.shelf import Shelf
    from dspy_worker.core.answer import Answer, Kept
    from dspy_worker.edge.call import Call
    from dspy_worker.edge.telemetry import Metrics
    from dspy_worker.serve.admission import Admission
    from dspy_worker.serve.program import Program
    from dspy_worker.store.notebook import Notebook

CLIENT_GONE = "ClientGone"
"""Reason in metrics and records where nobody waited for the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What the predictions of a worker have in common.

    Attributes:
        app: NAMESPACE/NAME of the app.
        variant: Which prompts answer.
    """

    app: str
    variant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What it takes to predict.

    Attributes:
        program: What answers.
        admission: Slots for it.
        metrics: Where is counted.
        label: What predictions are noted under.
        shelf: Keeps answers.
        notebook: Notes predictions.
        may_ask: Raises a WorkerError where the program cannot be asked at all.
        name: Returns a new name for a prediction.
    """

    program: Program
    admission: Admission
    metrics: Metrics
    label: Label = field(default_factory=lambda: Label(app="", variant=""))
    shelf: Shelf = field(default_factory=NoShelf)
    notebook: Notebook = field(default_factory=NoNotebook)
    may_ask: Callable[[], None] = field(default_factory=lambda: lambda: None)
    name: Callable[[], str] = field(default_factory=lambda: new_id)

    async def predict(
        self,
        inputs: pydantic.BaseModel,
        call: Call,
        *,
        patient: bool = False,
        started: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Answer one request, from what is kept or once there is a slot for it.

        Args:
            inputs: The checked inputs.
            call: Deadline and usage of this prediction.
            patient: Whether it may wait even if the queue is full.
            started: Called once when it has a slot, or an answer without one.

        Raises:
            WorkerError: There is no answer; the message is for the client.
        """
        began = time.monotonic()
        values = schema.values(inputs)

        async def ask() -> dict[str, Any]:
            self.may_ask()
            async with self.admission.slot(patient=patient) as waited:
                call.waited += waited
                begin()
                return await self._ask(values, call)

        begin = functools.cache(started)
        plain = _plain(inputs)
        try:
            answer = await self.shelf.answer(plain, call, ask)
        except WorkerError as error:
            self._note(plain, None, call, began, error=error.reason)
            raise
        except asyncio.CancelledError:
            late = time.monotonic() >= call.deadline
            reason = DeadlineExceeded.reason if late else CLIENT_GONE
            self._note(plain, None, call, began, error=reason)
            raise
        begin()
        return self._told(answer, call, began, self._note(plain, answer, call, began))

    def recall(self, inputs: pydantic.BaseModel, call: Call) -> dict[str, Any] | None:
        """Answer one request at once if a good answer is at hand; no task is needed for that."""
        began = time.monotonic()
        plain = _plain(inputs)
        answer = self.shelf.recall(plain, call)
        if answer is None:
            return None
        return self._told(answer, call, began, self._note(plain, answer, call, began))

    def check(self, items: Iterable[pydantic.BaseModel], call: Call, *, queue: bool) -> None:
        """Refuse at once what would be refused later, unless an answer is at hand.

        Args:
            items: The checked inputs.
            call: The request's call.
            queue: Whether a full queue is a reason, too.

        Raises:
            WorkerError: Nothing can be asked now.
        """
        try:
            self.may_ask()
            if queue:
                self.admission.check()
        except WorkerError:
            if not any(self.shelf.holds(_plain(item), call) for item in items):
                raise

    def _told(self, answer: Answer, call: Call, began: float, name: str) -> dict[str, Any]:
        """Count an answer and return it as clients get it."""
        seconds = time.monotonic() - began
        self.metrics.overhead(max(0.0, seconds - call.waited - call.lm_seconds))
        for kind in kinds(call.degraded):
            self.metrics.degraded(kind)
        return {
            "prediction": answer.prediction,
            "id": name,
            "usage": usage([call]),
            "durationMs": round(seconds * 1000, 3),
            **degraded(call),
            **_cached(answer.kept),
        }

    def _note(
        self,
        inputs: Callable[[], Mapping[str, Any]],
        answer: Answer | None,
        call: Call,
        began: float,
        *,
        error: str = "",
    ) -> str:
        """Note a prediction before anybody hears of it; return its name."""
        name = self.name()
        if self.notebook.takes:
            record = Record(
                id=name,
                unix_ms=clock.unix_ms(),
                app=self.label.app,
                variant=self.label.variant,
                request_id=call.origin.request_id,
                tenant=call.origin.tenant,
                subject=call.origin.subject,
                inputs=inputs(),
                prediction=answer.prediction if answer else None,
                error=error,
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                calls=call.calls,
                cost_nanos=call.cost,
                duration_ms=round((time.monotonic() - began) * 1000, 3),
                cached=answer.kept.level if answer and answer.kept else "",
                degraded=call.degraded,
            )
            self.notebook.note(record)
        return name

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


def _plain(inputs: pydantic.BaseModel) -> Callable[[], Mapping[str, Any]]:
    """Return what gives the inputs as JSON values; they are made once, if at all."""
    made: list[Mapping[str, Any]] = []

    def plain() -> Mapping[str, Any]:
        # functools.cache would take longer to wrap this than this takes.
        if not made:
            made.append(inputs.model_dump(mode="json"))
        return made[0]

    return plain


def kinds(reasons: Iterable[str]) -> list[str]:
    """Return each kind of reason once, such as "fallback" of "fallback:NAME"."""
    return list(dict.fromkeys(reason.partition(":")[0] for reason in reasons))


def usage(calls: Sequence[Call]) -> dict[str, Any]:
    """Return what answers cost; the money is left out where its amount is not known."""
    costs = [call.cost for call in calls]
    known = [cost for cost in costs if cost is not None]
    return {
        "inputTokens": sum(call.input_tokens for call in calls),
        "outputTokens": sum(call.output_tokens for call in calls),
        "calls": sum(call.calls for call in calls),
        **({"costUsd": money.dollars(sum(known))} if len(known) == len(costs) else {}),
    }


def _cached(kept: Kept | None) -> dict[str, Any]:
    """Return what an answer says of not having been made for this request."""
    if kept is None:
        return {}
    return {"cached": {"level": kept.level, "ageSeconds": round(kept.age_seconds, 3)}}


def degraded(call: Call) -> dict[str, Any]:
    """Return what an answer says of being worse than usual: nothing if it is not."""
    return {"degraded": list(call.degraded)} if call.degraded else {}


def _is_cancelled() -> bool:
    """Return whether this task is to end, and not only something that the program awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def new_id() -> str:
    """Return a new name for a request or prediction."""
    return ids.uuid7(clock.unix_ms(), random.getrandbits(ids.RANDOM_BITS))
