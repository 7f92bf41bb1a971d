"""The one seam that every call of a language model passes, as DSPy's pair of engines.

DSPy gives an engine a request and wants a response; everything else about the call is decided
here: the connection and its limit, the key, timeouts, repeated attempts and the counting. DSPy's
own retries and caches stay off. Errors leave as those of `dspy.lm15`, so that programs see DSPy's
usual exceptions; a missing key leaves as `LMCredentialsMissing`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dspy
from dspy import lm15

from dspy_worker.edge import fallback, transport
from dspy_worker.edge.abilities import Abilities
from dspy_worker.edge.attempts import Link, Tries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dspy_worker.contract.app import Model
    from dspy_worker.edge.listener import Answer

PROVIDER = "openai-chat"
PLACEHOLDER_KEY = "EMPTY"
"""What is sent to an endpoint without keys: lm15 insists on one, and would search for it."""


class _Client:
    """lm15's client of the endpoint; made again, on the same connections, for another key."""

    def __init__(self, link: Link, router: Any, limits: transport.Limits) -> None:  # noqa: ANN401 - lm15 has two kinds
        stock = router.lm(f"{PROVIDER}:{link.model.model}")
        self.connections = transport.like(stock.transport, link.model.endpoint, limits)
        self._made: tuple[str | None, Any] = (None, self._make(stock, PLACEHOLDER_KEY))
        self._lock = threading.Lock()

    def with_key(self, key: str | None) -> Any:  # noqa: ANN401 - lm15 has two kinds
        """Return the client that sends this key."""
        made = self._made
        if made[0] != key:
            with self._lock:
                made = self._made = (key, self._make(made[1], key or PLACEHOLDER_KEY))
        return made[1]

    def _make(self, client: Any, key: str) -> Any:  # noqa: ANN401 - lm15 has two kinds
        return replace(client, api_key=key, transport=self.connections)


class _Base(Abilities):
    """What both engines know of the endpoint."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def model(self) -> Model:
        """The model that is asked."""
        return self._link.model

    def _routed(self, request: lm15.Request) -> lm15.Request:
        config = request.config
        if config.max_tokens is None and self._link.model.max_tokens is not None:
            # A program may have taken the limit out; the model has it all the same.
            config = replace(config, max_tokens=self._link.model.max_tokens)
        return replace(request, model=self._link.model.model, config=config)


class Engine(_Base):
    """Calls the language model from a thread."""

    def __init__(self, link: Link) -> None:
        """Prepare the connections; none is opened yet."""
        super().__init__(link)
        seconds = float(link.model.timeout_seconds)
        limits = transport.Limits(connections=link.threads, connect=seconds, wait=seconds)
        self._client = _Client(link, lm15.LMRouter(_config(link)), limits)

    def complete(self, request: lm15.Request, *, heed_soft: bool = False) -> lm15.Response:
        """Return the LM's answer.

        Args:
            request: What is asked.
            heed_soft: Whether a budget may ask for its cheaper model instead.

        Raises:
            LM15Error: There is no answer, and trying again did not help or was not allowed.
            LMCredentialsMissing: The model's key is missing.
            LMCircuitOpen: The model gets no calls at present.
            BudgetExhausted: What it may cost does not fit into a budget.
            BudgetUnavailable: Nobody knows whether it fits.
            CheaperWanted: A budget asks for its cheaper model; only with `heed_soft`.
            DeadlineExceeded: Nobody waits for the answer any more.
        """
        tries, routed = Tries(self._link), self._routed(request)
        while True:
            key = self._link.secret()
            try:
                response = self._attempt(tries, key, routed, heed_soft=heed_soft)
            except lm15.LM15Error as error:
                time.sleep(tries.pause(error, key))
            else:
                tries.succeeded(response.usage)
                return response

    def _attempt(
        self, tries: Tries, key: str | None, request: lm15.Request, *, heed_soft: bool
    ) -> lm15.Response:
        tries.begin()
        tries.pay_in_thread(request, heed_soft=heed_soft)
        failure: BaseException | None = None
        response: lm15.Response | None = None
        try:
            response = _ask(self._client.with_key(key), request, tries.listen())
        except BaseException as error:
            failure = error
            raise
        finally:
            tries.end(failure, None if response is None else response.usage)
        return response

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        """Return the whole answer as the events of a stream."""
        return iter(lm15.response_to_events(self.complete(request)))


class AsyncEngine(_Base):
    """Calls the language model from the event loop."""

    def __init__(self, link: Link) -> None:
        """Prepare the connections; none is opened yet."""
        super().__init__(link)
        seconds = float(link.model.timeout_seconds)
        limits = transport.Limits(connections=link.connections, connect=seconds, wait=None)
        self._client = _Client(link, lm15.AsyncLMRouter(_config(link)), limits)

    async def complete(self, request: lm15.Request, *, heed_soft: bool = False) -> lm15.Response:
        """Return the LM's answer; raises what `Engine.complete` raises."""
        tries, routed = Tries(self._link), self._routed(request)
        while True:
            key = self._link.secret()
            try:
                response = await self._attempt(tries, key, routed, heed_soft=heed_soft)
            except lm15.LM15Error as error:
                await asyncio.sleep(tries.pause(error, key))
            else:
                tries.succeeded(response.usage)
                return response

    async def _attempt(
        self, tries: Tries, key: str | None, request: lm15.Request, *, heed_soft: bool
    ) -> lm15.Response:
        tries.begin()
        await tries.pay(request, heed_soft=heed_soft)
        failure: BaseException | None = None
        response: lm15.Response | None = None
        try:
            response = await self._within_timeout(key, request, tries.listen())
        except BaseException as error:
            failure = error
            raise
        finally:
            tries.end(failure, None if response is None else response.usage)
        return response

    async def _within_timeout(
        self, key: str | None, request: lm15.Request, heard: Answer | None
    ) -> lm15.Response:
        """Bound the whole attempt; the transport could bound only the wait for the next byte."""
        seconds = self._link.model.timeout_seconds
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                return await _ask_async(self._client.with_key(key), request, heard)
        except TimeoutError as error:
            if timeout.expired():
                raise lm15.TimeoutError(f"no answer within {seconds} s") from error
            raise

    async def stream(self, request: lm15.Request) -> Any:  # noqa: ANN401 - an asynchronous generator
        """Yield the whole answer as the events of a stream."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.connections.aclose()


def _ask(client: Any, request: lm15.Request, heard: Answer | None) -> lm15.Response:  # noqa: ANN401 - lm15 has two kinds
    """Return an answer; let somebody hear it while it arrives."""
    if heard is None:
        whole: lm15.Response = client.complete(request)
        return whole
    with lm15.ResponseStream(client.stream(request), request) as stream:
        for text in stream:
            heard.hear(text)
        heard.end()
        return stream.response


async def _ask_async(client: Any, request: lm15.Request, heard: Answer | None) -> lm15.Response:  # noqa: ANN401 - lm15 has two kinds
    """Return an answer; let somebody hear it while it arrives."""
    if heard is None:
        whole: lm15.Response = await client.complete(request)
        return whole
    async with lm15.AsyncResponseStream(client.stream(request), request) as stream:
        async for text in stream:
            heard.hear(text)
        heard.end()
        return await stream.response()


def language_model(
    link: Link, *others: Link, cheaper: Mapping[str, Sequence[Link]] | None = None
) -> dspy.LM:
    """Return a model for DSPy that asks through our engines.

    Args:
        link: The model to ask.
        others: The models to ask when it cannot answer, in this order.
        cheaper: The models to ask first when a budget says so, by its name.

    Raises:
        dspy.LMError: DSPy refuses the model's parameters.
    """
    model = link.model
    engine, async_engine = _pair((link, *others), cheaper or {})
    return dspy.LM(
        f"openai/{model.model}",
        engine=engine,
        async_engine=async_engine,
        temperature=model.temperature,
        max_tokens=model.max_tokens,
        cache=False,
        num_retries=0,
    )


def _pair(
    links: Sequence[Link], cheaper: Mapping[str, Sequence[Link]]
) -> tuple[Abilities, Abilities]:
    if len(links) == 1 and not cheaper:
        return Engine(links[0]), AsyncEngine(links[0])
    everyone = [*links, *(link for order in cheaper.values() for link in order)]
    named = {link.model.name: link for link in everyone}
    made = {name: Engine(link) for name, link in named.items()}
    waiting = {name: AsyncEngine(link) for name, link in named.items()}
    orders = {budget: [link.model.name for link in order] for budget, order in cheaper.items()}
    usual = [link.model.name for link in links]
    return (
        fallback.Chain(
            [made[name] for name in usual],
            {budget: [made[name] for name in order] for budget, order in orders.items()},
        ),
        fallback.AsyncChain(
            [waiting[name] for name in usual],
            {budget: [waiting[name] for name in order] for budget, order in orders.items()},
        ),
    )


def _config(link: Link) -> lm15.RouterConfig:
    return lm15.RouterConfig(
        api_keys={PROVIDER: PLACEHOLDER_KEY}, base_urls={PROVIDER: link.model.endpoint}
    )
