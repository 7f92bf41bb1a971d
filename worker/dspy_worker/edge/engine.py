"""The one seam that every call of a language model passes, as DSPy's pair of engines.

DSPy gives an engine a request and wants a response; everything else about the call is decided
here: the connection and its limit, the key, timeouts, repeated attempts and the counting. DSPy's
own retries and caches stay off. Errors leave as those of `dspy.lm15`, so that programs see DSPy's
usual exceptions; a missing key leaves as `LMCredentialsMissing`.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dspy
from dspy import lm15

from dspy_worker.core import backoff
from dspy_worker.edge import call as calls
from dspy_worker.edge import transport
from dspy_worker.errors import DeadlineExceeded, LMCredentialsMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspy_worker.contract.app import Model
    from dspy_worker.edge.keys import Key
    from dspy_worker.edge.telemetry import Metrics

PROVIDER = "openai-chat"
PLACEHOLDER_KEY = "EMPTY"
"""What is sent to an endpoint without keys: lm15 insists on one, and would search for it."""
TRANSIENT = (lm15.RateLimitError, lm15.TimeoutError, lm15.ServerError, lm15.TransportError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How to reach one model.

    Attributes:
        model: The model of the document.
        key: Where its key comes from.
        metrics: Where calls are counted.
        connections: Most connections of the event loop at the same time.
        threads: Most connections of threads; a thread whose client has left keeps its own until
            the LM has answered, so there are as many as threads and not as slots.
    """

    model: Model
    key: Key
    metrics: Metrics
    connections: int
    threads: int

    def secret(self, *, now: bool = False) -> str | None:
        """Return the key, or None for an endpoint without keys.

        Raises:
            LMCredentialsMissing: The model needs a key and there is none.
        """
        key = self.key.read(now=now)
        if key is None and self.model.key_secret:
            raise LMCredentialsMissing(
                f"the key of model {self.model.name!r} is missing or empty", retry_after=5
            )
        return key


class _Tries:
    """The attempts of one call: counts them and decides after each failure."""

    __slots__ = ("_attempt", "_call", "_link", "_rejected", "_since")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._call = calls.current()
        self._attempt = 0
        self._rejected = False
        self._since = 0.0

    def begin(self) -> None:
        """Note that an attempt starts.

        Raises:
            DeadlineExceeded: Nobody waits for the answer any more.
        """
        if not self._call.remaining():
            raise DeadlineExceeded("the request's time was over before the LM could be asked")
        self._since = time.monotonic()
        self._call.began()

    def end(self, outcome: str) -> None:
        """Note that an attempt is over, whatever came of it."""
        self._call.ended()
        seconds = time.monotonic() - self._since
        self._link.metrics.lm_attempt(self._link.model.name, outcome, seconds)

    def succeeded(self, usage: lm15.Usage) -> None:
        """Count what the answer cost."""
        self._call.used(usage)
        self._link.metrics.lm_tokens(
            self._link.model.name, usage.input_tokens or 0, usage.output_tokens or 0
        )

    def pause(self, error: lm15.LM15Error, sent: str | None) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            error: Why the last attempt failed.
            sent: The key that was sent with it.

        Raises:
            LM15Error: The given error, when no further attempt is to be made.
        """
        if isinstance(error, lm15.AuthError) and self._key_changed(sent):
            return 0.0
        self._attempt += 1
        hint = getattr(error, "retry_after", None)
        wait = backoff.delay(self._attempt, jitter=random.random(), retry_after=hint)  # noqa: S311 - spreads load, guards nothing
        if not isinstance(error, TRANSIENT) or not backoff.worth_it(
            self._attempt,
            self._link.model.max_retries,
            wait=wait,
            remaining=self._call.remaining(),
        ):
            raise error
        self._link.metrics.lm_retry(self._link.model.name)
        return wait

    def _key_changed(self, sent: str | None) -> bool:
        if self._rejected:
            return False
        self._rejected = True
        return self._link.secret(now=True) != sent


class _Client:
    """lm15's client of the endpoint; made again, on the same connections, for another key."""

    def __init__(self, link: Link, router: Any, connections: int) -> None:  # noqa: ANN401 - lm15 has two kinds
        stock = router.lm(f"{PROVIDER}:{link.model.model}")
        self.connections = transport.like(
            stock.transport,
            link.model.endpoint,
            seconds=float(link.model.timeout_seconds),
            connections=connections,
        )
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


class _Base:
    """What both engines tell DSPy about the endpoint."""

    supports_function_calling = True
    supports_reasoning = False
    supports_response_schema = False
    supported_params = frozenset({"temperature", "max_tokens", "top_p", "stop", "seed", "tools"})

    def __init__(self, link: Link) -> None:
        self._link = link

    def _routed(self, request: lm15.Request) -> lm15.Request:
        return replace(request, model=self._link.model.model)


class Engine(_Base):
    """Calls the language model from a thread."""

    def __init__(self, link: Link) -> None:
        """Prepare the connections; none is opened yet."""
        super().__init__(link)
        self._client = _Client(link, lm15.LMRouter(_config(link)), link.threads)

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the LM's answer.

        Raises:
            LM15Error: There is no answer, and trying again did not help or was not allowed.
            LMCredentialsMissing: The model's key is missing.
            DeadlineExceeded: Nobody waits for the answer any more.
        """
        tries, routed = _Tries(self._link), self._routed(request)
        while True:
            key = self._link.secret()
            try:
                response = self._attempt(tries, key, routed)
            except lm15.LM15Error as error:
                time.sleep(tries.pause(error, key))
            else:
                tries.succeeded(response.usage)
                return response

    def _attempt(self, tries: _Tries, key: str | None, request: lm15.Request) -> lm15.Response:
        tries.begin()
        outcome = "cancelled"
        try:
            response: lm15.Response = self._client.with_key(key).complete(request)
            outcome = "ok"
        except lm15.LM15Error as error:
            outcome = error.code
            raise
        finally:
            tries.end(outcome)
        return response

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        """Return the whole answer as the events of a stream."""
        return iter(lm15.response_to_events(self.complete(request)))


class AsyncEngine(_Base):
    """Calls the language model from the event loop."""

    def __init__(self, link: Link) -> None:
        """Prepare the connections; none is opened yet."""
        super().__init__(link)
        self._client = _Client(link, lm15.AsyncLMRouter(_config(link)), link.connections)

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the LM's answer; raises what `Engine.complete` raises."""
        tries, routed = _Tries(self._link), self._routed(request)
        while True:
            key = self._link.secret()
            try:
                response = await self._attempt(tries, key, routed)
            except lm15.LM15Error as error:
                await asyncio.sleep(tries.pause(error, key))
            else:
                tries.succeeded(response.usage)
                return response

    async def _attempt(
        self, tries: _Tries, key: str | None, request: lm15.Request
    ) -> lm15.Response:
        tries.begin()
        outcome = "cancelled"
        try:
            response = await self._within_timeout(key, request)
            outcome = "ok"
        except lm15.LM15Error as error:
            outcome = error.code
            raise
        finally:
            tries.end(outcome)
        return response

    async def _within_timeout(self, key: str | None, request: lm15.Request) -> lm15.Response:
        """Bound the whole attempt; the transport bounds only the wait for the next byte."""
        seconds = self._link.model.timeout_seconds
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                response: lm15.Response = await self._client.with_key(key).complete(request)
        except TimeoutError as error:
            if timeout.expired():
                raise lm15.TimeoutError(f"no answer within {seconds} s") from error
            raise
        return response

    async def stream(self, request: lm15.Request) -> Any:  # noqa: ANN401 - an asynchronous generator
        """Yield the whole answer as the events of a stream."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.connections.aclose()


def language_model(link: Link) -> dspy.LM:
    """Return a model for DSPy that asks through our engines.

    Raises:
        dspy.LMError: DSPy refuses the model's parameters.
    """
    model = link.model
    return dspy.LM(
        f"openai/{model.model}",
        engine=Engine(link),
        async_engine=AsyncEngine(link),
        temperature=model.temperature,
        max_tokens=model.max_tokens,
        cache=False,
        num_retries=0,
    )


def _config(link: Link) -> lm15.RouterConfig:
    return lm15.RouterConfig(
        api_keys={PROVIDER: PLACEHOLDER_KEY}, base_urls={PROVIDER: link.model.endpoint}
    )
