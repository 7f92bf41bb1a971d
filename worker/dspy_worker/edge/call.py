"""What one request has asked of the language model so far, and until when it may ask more.

The request's handler opens a `Call`; the engines below DSPy find it in a context variable. Tasks
inherit it; `dspy.Parallel` starts bare threads and gives them only DSPy's settings, so it is one of
those too.
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dspy

if TYPE_CHECKING:
    from dspy.lm15 import Usage

    from dspy_worker.edge.listener import Listener

FALLBACK = "fallback"
"""Why an answer is degraded: another model gave it than the one that was wanted."""
BUDGET = "budget"
"""Why an answer is degraded: a budget wanted a cheaper model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asks, and how; from the request's headers.

    Attributes:
        request_id: Name of the request in answers and logs.
        tenant: On whose account it is; empty where nobody is named. Answers are not shared between
            tenants.
        subject: Whom it is about, so that what was stored of them can be erased; may be empty.
        fresh: Whether a kept answer is not wanted.
        keep: Whether the answer may be kept.
    """

    request_id: str = ""
    tenant: str = ""
    subject: str = ""
    fresh: bool = False
    keep: bool = True


NOBODY = Origin()


class Call:
    """Deadline and LM usage of one request; times are those of `time.monotonic`.

    Attributes:
        deadline: Moment after which nobody waits for the answer.
        given_up: Whether the client has gone; threads look at it before they ask again.
        calls: Answers that the LM gave.
        input_tokens: Tokens of the prompts, as the LM counted them.
        output_tokens: Tokens of the answers, as the LM counted them.
        cost_nanos: Price of the answers whose price is known, in billionths of a US dollar.
        unpriced: Answers whose price nobody knows.
        lm_seconds: Time during which at least one LM call was under way.
        degraded: What made the answer worse than usual, such as "fallback:NAME".
        headers: What the answer's headers say beside the usual.
        listener: Hears the answers while they arrive; None where nobody listens.
        origin: Who asks.
        waited: Seconds that the request waited for a slot or for another request's answer.
    """

    __slots__ = (
        "_lock",
        "_open",
        "_since",
        "calls",
        "cost_nanos",
        "deadline",
        "degraded",
        "given_up",
        "headers",
        "input_tokens",
        "listener",
        "lm_seconds",
        "origin",
        "output_tokens",
        "unpriced",
        "waited",
    )

    def __init__(self, deadline: float, origin: Origin = NOBODY) -> None:
        """Begin with nothing asked."""
        self.deadline = deadline
        self.origin = origin
        self.waited = 0.0
        self.given_up = False
        self.calls = self.input_tokens = self.output_tokens = 0
        self.cost_nanos = self.unpriced = 0
        self.lm_seconds = 0.0
        self.degraded: tuple[str, ...] = ()
        self.headers: dict[str, str] = {}
        self.listener: Listener | None = None
        self._open = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def remaining(self) -> float:
        """Return the seconds until the deadline, or 0 when nobody waits any more."""
        return 0.0 if self.given_up else max(0.0, self.deadline - time.monotonic())

    def began(self) -> None:
        """Note that an LM call is under way; calls side by side count once as time."""
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._since = time.monotonic()

    def ended(self) -> None:
        """Note that an LM call is over."""
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self.lm_seconds += time.monotonic() - self._since

    def used(self, usage: Usage, nanos: int | None = None) -> None:
        """Add what one answer cost; its price may be unknown."""
        with self._lock:
            self.calls += 1
            self.input_tokens += usage.input_tokens or 0
            self.output_tokens += usage.output_tokens or 0
            self.cost_nanos += nanos or 0
            self.unpriced += nanos is None

    @property
    def cost(self) -> int | None:
        """Price of all answers in billionths of a US dollar; None where nobody knows it."""
        return None if self.unpriced else self.cost_nanos

    def degrade(self, how: str) -> None:
        """Note why the answer is worse than usual, such as "fallback:NAME"."""
        with self._lock:
            self.degraded = tuple(dict.fromkeys((*self.degraded, how)))


SETTING = "dspy_worker_call"
"""Name under which `dspy.context` carries the call."""
CURRENT: ContextVar[Call | None] = ContextVar("dspy_worker_call", default=None)


def current() -> Call:
    """Return the running request's call; outside of requests, one without a deadline."""
    return CURRENT.get() or dspy.settings.get(SETTING) or Call(deadline=float("inf"))
