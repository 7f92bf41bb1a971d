"""A chain of models as one engine: the next one is asked when the one before it cannot answer.

Each model keeps its own engine with its own attempts, key, circuit and counting; here is only the
order. What the models of the chain get is the same request but for the parameters that they have
set for themselves.

A budget may want another order: its cheaper model first, with that one's fallbacks, and then the
usual models, which have to fit into the budget too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dspy import lm15

from dspy_worker.edge import call as calls
from dspy_worker.edge.abilities import Abilities
from dspy_worker.edge.attempts import TRANSIENT
from dspy_worker.edge.till import CheaperWanted
from dspy_worker.errors import BudgetExhausted, LMCircuitOpen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dspy_worker.contract.app import Model
    from dspy_worker.edge.call import Call
    from dspy_worker.edge.engine import AsyncEngine, Engine

E = TypeVar("E", bound="Engine | AsyncEngine")

_ASK_ANOTHER = (*TRANSIENT, LMCircuitOpen, BudgetExhausted, CheaperWanted)
"""Failures after which another model may answer."""


class _Routes(Generic[E]):
    """The orders in which models may be asked."""

    def __init__(self, usual: Sequence[E], cheaper: Mapping[str, Sequence[E]]) -> None:
        """Keep the orders; raises what `_own` raises."""
        self.usual: list[E] = list(usual)
        self.cheaper: dict[str, list[E]] = {name: list(order) for name, order in cheaper.items()}
        found: list[E] = [*usual, *(engine for order in cheaper.values() for engine in order)]
        self.engines: list[E] = list(dict.fromkeys(found))
        # The first model's parameters are in the request as it comes.
        self.own: dict[E, dict[str, Any]] = {
            engine: _own(engine.model) for engine in self.engines[1:]
        }


class _Way(Generic[E]):
    """The way of one request along the models.

    Attributes:
        engine: What is asked now.
    """

    def __init__(self, routes: _Routes[E]) -> None:
        self._routes: _Routes[E] = routes
        self._call: Call = calls.current()
        self.engine: E = routes.usual[0]
        self._left: list[E] = routes.usual[1:]
        self._tried: list[E] = []
        self._cheap: E | None = None
        self._budget = ""
        self._last: Exception | None = None

    @property
    def heeds_soft(self) -> bool:
        """Whether a budget may still ask for another order."""
        return bool(self._routes.cheaper) and not self._budget

    def request(self, request: lm15.Request) -> lm15.Request:
        """Return the request that was made for the first model, as this one gets it."""
        own = self._routes.own.get(self.engine)
        return replace(request, config=replace(request.config, **own)) if own else request

    def failed(self, error: Exception) -> None:
        """Go on to the next model.

        Raises:
            Exception: The last error, when there is none or nobody waits for its answer.
        """
        if not isinstance(error, CheaperWanted):
            self._tried.append(self.engine)
            self._note(error)
        if isinstance(error, CheaperWanted | BudgetExhausted) and self.heeds_soft:
            self._turn(error.budget)
        if not self._left or not self._call.remaining():
            raise self._last or error
        self.engine = self._left.pop(0)

    def answered(self) -> None:
        """Note what the answer is worth."""
        if self.engine is self._routes.usual[0]:
            return
        if self._budget:
            self._call.degrade(f"{calls.BUDGET}:{self._budget}")
        if self.engine is not self._cheap:
            self._call.degrade(f"{calls.FALLBACK}:{self.engine.model.name}")

    def _turn(self, budget: str) -> None:
        """Ask the cheaper model of a budget first, if it has one."""
        order = self._routes.cheaper.get(budget)
        if order is not None:
            self._budget, self._cheap = budget, order[0]
            wanted = dict.fromkeys((*order, *self._routes.usual))
            self._left = [engine for engine in wanted if engine not in self._tried]

    def _note(self, error: Exception) -> None:
        """Keep the error to tell: that a fallback is too dear is no news about the first model."""
        if self._last is None or not isinstance(error, BudgetExhausted):
            self._last = error


class Chain(Abilities):
    """Asks models in order, from a thread."""

    def __init__(
        self, engines: Sequence[Engine], cheaper: Mapping[str, Sequence[Engine]] | None = None
    ) -> None:
        """Keep the engines; raises what `_own` raises.

        Args:
            engines: At least one, the preferred one first.
            cheaper: Those that are to be asked first when a budget says so, by its name.
        """
        self._routes: _Routes[Engine] = _Routes(engines, cheaper or {})

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the answer of the first model that has one; raises what `Engine.complete` does."""
        way = _Way(self._routes)
        while True:
            try:
                response = way.engine.complete(way.request(request), heed_soft=way.heeds_soft)
            except _ASK_ANOTHER as error:
                way.failed(error)
            else:
                way.answered()
                return response

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        """Return the whole answer as the events of a stream."""
        return iter(lm15.response_to_events(self.complete(request)))


class AsyncChain(Abilities):
    """Asks models in order, from the event loop."""

    def __init__(
        self,
        engines: Sequence[AsyncEngine],
        cheaper: Mapping[str, Sequence[AsyncEngine]] | None = None,
    ) -> None:
        """Keep the engines; the same as `Chain`."""
        self._routes: _Routes[AsyncEngine] = _Routes(engines, cheaper or {})

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the answer of the first model that has one; raises what `Engine.complete` does."""
        way = _Way(self._routes)
        while True:
            try:
                response = await way.engine.complete(way.request(request), heed_soft=way.heeds_soft)
            except _ASK_ANOTHER as error:
                way.failed(error)
            else:
                way.answered()
                return response

    async def stream(self, request: lm15.Request) -> Any:  # noqa: ANN401 - an asynchronous generator
        """Yield the whole answer as the events of a stream."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Close the connections of all models."""
        for engine in self._routes.engines:
            await engine.aclose()


def _own(model: Model) -> dict[str, Any]:
    """Return the parameters that a model has set for itself.

    Raises:
        ValueError: One of them is out of its range.
    """
    named = {"temperature": model.temperature, "max_tokens": model.max_tokens}
    found = {name: value for name, value in named.items() if value is not None}
    lm15.Config(**found)
    return found
