"""The attempts of one call of a language model: when to try again, and what is counted."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy import lm15

from dspy_worker.core import backoff
from dspy_worker.edge import call as calls
from dspy_worker.errors import DeadlineExceeded, LMCredentialsMissing

if TYPE_CHECKING:
    from dspy_worker.contract.app import Model
    from dspy_worker.core.breaker import Permit
    from dspy_worker.edge.guard import Guard
    from dspy_worker.edge.keys import Key
    from dspy_worker.edge.listener import Answer
    from dspy_worker.edge.telemetry import Metrics
    from dspy_worker.edge.till import Deposit, Till

TRANSIENT = (lm15.RateLimitError, lm15.TimeoutError, lm15.ServerError, lm15.TransportError)
"""Failures that may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How to reach one model.

    Attributes:
        model: The model of the document.
        key: Where its key comes from.
        metrics: Where calls are counted.
        guard: Circuit and retry budget; the engines of one model share it.
        connections: Most connections of the event loop at the same time.
        threads: Most connections of threads; a thread whose client has left keeps its own until
            the LM has answered, so there are as many as threads and not as slots.
        till: Where its calls are paid; None where nobody counts money.
    """

    model: Model
    key: Key
    metrics: Metrics
    guard: Guard
    connections: int
    threads: int
    till: Till | None = None

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


class Tries:
    """The attempts of one call: counts them and decides after each failure."""

    __slots__ = ("_attempt", "_call", "_deposit", "_link", "_permit", "_rejected", "_since")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._call = calls.current()
        self._attempt = 0
        self._rejected = False
        self._since = 0.0
        self._permit: Permit | None = None
        self._deposit: Deposit | None = None

    def begin(self) -> None:
        """Ask for leave to start an attempt; `pay` or `pay_in_thread` has to follow.

        Raises:
            DeadlineExceeded: Nobody waits for the answer any more.
            LMCircuitOpen: The model gets no calls at present.
        """
        if not self._call.remaining():
            raise DeadlineExceeded("the request's time was over before the LM could be asked")
        self._permit = self._link.guard.enter(first=not (self._attempt or self._rejected))

    async def pay(self, request: lm15.Request, *, heed_soft: bool) -> None:
        """Set aside what the attempt may cost, and start it; raises what `Till.take` raises."""
        if self._link.till is not None:
            try:
                self._deposit = await self._link.till.take(request, self._call, heed_soft=heed_soft)
            except BaseException as error:
                self._tell_guard(error, 0.0)
                raise
        self._start()

    def pay_in_thread(self, request: lm15.Request, *, heed_soft: bool) -> None:
        """Set aside what the attempt may cost, and start it; raises what `Till.take` raises."""
        if self._link.till is not None:
            try:
                self._deposit = self._link.till.take_in_thread(
                    request, self._call, heed_soft=heed_soft
                )
            except BaseException as error:
                self._tell_guard(error, 0.0)
                raise
        self._start()

    def _start(self) -> None:
        self._since = time.monotonic()
        self._call.began()

    def listen(self) -> Answer | None:
        """Return who hears this attempt's answer while it arrives, if anybody does."""
        listener = self._call.listener
        return None if listener is None else listener.answer()

    def end(self, error: BaseException | None, usage: lm15.Usage | None = None) -> None:
        """Note that an attempt is over.

        Args:
            error: Why there is no answer, if there is none.
            usage: What the LM counted for the answer.
        """
        self._call.ended()
        seconds = time.monotonic() - self._since
        self._link.metrics.lm_attempt(self._link.model.name, _outcome(error), seconds)
        self._tell_guard(error, seconds)
        if self._link.till is not None:
            deposit, self._deposit = self._deposit, None
            self._link.till.settle(deposit, error, usage)

    def _tell_guard(self, error: BaseException | None, seconds: float) -> None:
        permit, self._permit = self._permit, None
        if permit is None:
            return
        failed = isinstance(error, TRANSIENT)
        # A refusal is an answer: the endpoint works. Other errors never came to it.
        came = isinstance(error, lm15.LM15Error) and error.status
        if error is None or failed or came:
            self._link.guard.settle(permit, failed=failed, seconds=seconds)
        else:
            self._link.guard.withdraw(permit)

    def succeeded(self, usage: lm15.Usage) -> None:
        """Count what the answer cost."""
        till = self._link.till
        self._call.used(usage, None if till is None else till.answered(usage))
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
        if not self._link.guard.may_repeat():
            raise error
        self._link.metrics.lm_retry(self._link.model.name)
        return wait

    def _key_changed(self, sent: str | None) -> bool:
        if self._rejected:
            return False
        self._rejected = True
        return self._link.secret(now=True) != sent


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    return error.code if isinstance(error, lm15.LM15Error) else "cancelled"
