"""A chain of models as one engine: the next one is asked when the one before it cannot answer.

Each model keeps its own engine with its own attempts, key, circuit and counting; here is only the
order. What the models of the chain get is the same request but for the parameters that they have
set for themselves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspy import lm15

from dspy_worker.edge import call as calls
from dspy_worker.edge.abilities import Abilities
from dspy_worker.edge.attempts import TRANSIENT
from dspy_worker.errors import LMCircuitOpen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dspy_worker.contract.app import Model
    from dspy_worker.edge.call import Call
    from dspy_worker.edge.engine import AsyncEngine, Engine

_ASK_ANOTHER = (*TRANSIENT, LMCircuitOpen)
"""Failures after which another model may answer."""


class Chain(Abilities):
    """Asks models in order, from a thread."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Keep the engines, at least one, the preferred one first; raises what `_own` raises."""
        self._first, *others = engines
        self._others = [(engine, _own(engine.model)) for engine in others]

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the answer of the first model that has one; raises what `Engine.complete` does."""
        call = calls.current()
        try:
            return self._first.complete(request)
        except _ASK_ANOTHER as error:
            last: Exception = error
        for engine, own in self._others:
            _check_time(call, last)
            try:
                response = engine.complete(_with(own, request))
            except _ASK_ANOTHER as error:
                last = error
            else:
                call.degrade(f"{calls.FALLBACK}:{engine.model.name}")
                return response
        raise last

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        """Return the whole answer as the events of a stream."""
        return iter(lm15.response_to_events(self.complete(request)))


class AsyncChain(Abilities):
    """Asks models in order, from the event loop."""

    def __init__(self, engines: Sequence[AsyncEngine]) -> None:
        """Keep the engines, at least one, the preferred one first; raises what `_own` raises."""
        self._first, *others = engines
        self._others = [(engine, _own(engine.model)) for engine in others]

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the answer of the first model that has one; raises what `Engine.complete` does."""
        call = calls.current()
        try:
            return await self._first.complete(request)
        except _ASK_ANOTHER as error:
            last: Exception = error
        for engine, own in self._others:
            _check_time(call, last)
            try:
                response = await engine.complete(_with(own, request))
            except _ASK_ANOTHER as error:
                last = error
            else:
                call.degrade(f"{calls.FALLBACK}:{engine.model.name}")
                return response
        raise last

    async def stream(self, request: lm15.Request) -> Any:  # noqa: ANN401 - an asynchronous generator
        """Yield the whole answer as the events of a stream."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Close the connections of all models."""
        for engine in (self._first, *(engine for engine, _ in self._others)):
            await engine.aclose()


def _check_time(call: Call, last: Exception) -> None:
    """Raise the last error when nobody waits for the answer of another model."""
    if not call.remaining():
        raise last


def _own(model: Model) -> dict[str, Any]:
    """Return the parameters that a model has set for itself.

    Raises:
        ValueError: One of them is out of its range.
    """
    named = {"temperature": model.temperature, "max_tokens": model.max_tokens}
    found = {name: value for name, value in named.items() if value is not None}
    lm15.Config(**found)
    return found


def _with(own: dict[str, Any], request: lm15.Request) -> lm15.Request:
    """Return the request that was made for the first model, as a fallback gets it."""
    return replace(request, config=replace(request.config, **own)) if own else request
