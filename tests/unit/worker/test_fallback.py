"""Chains of models and their circuits, without a network."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from dspy import lm15

from dspy_worker.contract.app import BreakerPolicy, Model
from dspy_worker.edge import call as calls
from dspy_worker.edge import engine, fallback, keys
from dspy_worker.edge.attempts import Link
from dspy_worker.edge.call import Call
from dspy_worker.edge.guard import Guard
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.errors import DeadlineExceeded, LMCircuitOpen
from dspy_worker.testing import FakeLM

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "http://lm.example.com/v1"
REQUEST = lm15.Request(
    model="openai/main",
    messages=(lm15.Message.user("Hello"),),
    config=lm15.Config(temperature=0.1, max_tokens=10, stop=("x",)),
)
BROKEN = lm15.ServerError("broken", status=500)


class Script(FakeLM):
    """Stands in for lm15's client of either kind."""

    waits = False

    def with_key(self, key: str | None) -> Script:
        return self

    async def complete(self, request: lm15.Request) -> lm15.Response:
        if self.waits:
            await asyncio.Event().wait()
        return self.answer(request)


class ThreadScript(Script):
    def complete(self, request: lm15.Request) -> lm15.Response:  # type: ignore[override]
        return self.answer(request)


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Models:
    """A chain of models that answer from scripts."""

    def __init__(self, *scripts: list[object], **first: object) -> None:
        names = ("main", "spare", "last")[: len(scripts)]
        plain = [Model(name=name, model=name, endpoint=URL, max_retries=0) for name in names]
        self.models = [replace(plain[0], **first), *plain[1:]]
        self.metrics = Metrics("tickets")
        self.clock = Clock()
        self.guards = [Guard(model, self.metrics, self.clock) for model in self.models]
        self.scripts = [Script(script) for script in scripts]

    def links(self) -> list[Link]:
        return [
            Link(
                model=model,
                key=keys.NoKey(),
                metrics=self.metrics,
                guard=guard,
                connections=1,
                threads=1,
            )
            for model, guard in zip(self.models, self.guards, strict=True)
        ]

    def chain(self) -> fallback.AsyncChain:
        engines = [engine.AsyncEngine(link) for link in self.links()]
        for made, script in zip(engines, self.scripts, strict=True):
            made._client = script  # type: ignore[assignment]
        return fallback.AsyncChain(engines)

    def asked(self) -> list[int]:
        return [len(script.requests) for script in self.scripts]

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture(autouse=True)
def call() -> Iterator[Call]:
    made = Call(float("inf"))
    token = calls.CURRENT.set(made)
    yield made
    calls.CURRENT.reset(token)


async def test_models_are_asked_in_order_until_one_answers(call: Call) -> None:
    models = Models([BROKEN], [BROKEN], ["yes"])
    calls.CURRENT.set(call)

    answer = await models.chain().complete(REQUEST)

    assert answer.message.text == "yes"
    assert models.asked() == [1, 1, 1]
    assert call.degraded == ("fallback:last",)
    assert (call.calls, call.input_tokens) == (1, 10)


async def test_the_first_models_answer_is_not_degraded(call: Call) -> None:
    models = Models(["yes"], ["no"])
    calls.CURRENT.set(call)

    await models.chain().complete(REQUEST)

    assert (models.asked(), call.degraded) == ([1, 0], ())


def test_a_thread_falls_back_too(call: Call) -> None:
    models = Models([BROKEN], ["yes"])
    engines = [engine.Engine(link) for link in models.links()]
    scripts = [ThreadScript([BROKEN]), ThreadScript(["yes"])]
    for made, script in zip(engines, scripts, strict=True):
        made._client = script  # type: ignore[assignment]

    answer = fallback.Chain(engines).complete(REQUEST)

    assert (answer.message.text, call.degraded) == ("yes", ("fallback:spare",))


async def test_the_last_failure_goes_out() -> None:
    models = Models([BROKEN], [lm15.RateLimitError("slow", status=429)])

    with pytest.raises(lm15.RateLimitError):
        await models.chain().complete(REQUEST)


@pytest.mark.parametrize("error", [lm15.AuthError("no"), lm15.InvalidRequestError("no")])
async def test_what_another_model_would_not_mend_is_told_at_once(error: Exception) -> None:
    models = Models([error], ["yes"])

    with pytest.raises(type(error)):
        await models.chain().complete(REQUEST)

    assert models.asked() == [1, 0]


async def test_no_fallback_is_asked_when_nobody_waits_any_more(call: Call) -> None:
    def leave(_: lm15.Request) -> str:
        call.given_up = True
        raise BROKEN

    models = Models([leave], ["yes"])
    calls.CURRENT.set(call)

    with pytest.raises(lm15.ServerError):
        await models.chain().complete(REQUEST)
    with pytest.raises(DeadlineExceeded):
        await models.chain().complete(REQUEST)

    assert models.asked() == [1, 0]


async def test_a_fallback_gets_its_own_parameters_and_the_rest_of_the_request() -> None:
    models = Models([BROKEN], [BROKEN], ["yes"])
    models.models[1] = replace(models.models[1], temperature=0.9, max_tokens=99)

    await models.chain().complete(REQUEST)

    sent = [script.requests[0] for script in models.scripts]
    assert [request.model for request in sent] == ["main", "spare", "last"]
    configs = [(r.config.temperature, r.config.max_tokens, r.config.stop) for r in sent]
    assert configs == [(0.1, 10, ("x",)), (0.9, 99, ("x",)), (0.1, 10, ("x",))]


def test_parameters_that_no_model_takes_are_refused_at_the_start() -> None:
    models = Models(["yes"], ["yes"])
    models.models[1] = replace(models.models[1], temperature=3.0)

    with pytest.raises(ValueError, match="temperature"):
        models.chain()


QUICK = BreakerPolicy(minimum_calls=2, open_seconds=4)


async def test_an_open_circuit_goes_to_the_fallback_without_a_call() -> None:
    models = Models([BROKEN], ["yes"], breaker=QUICK)
    chain = models.chain()

    for _ in range(5):
        await chain.complete(REQUEST)

    assert models.asked() == [2, 5]
    assert models.count("dspy_lm_circuit_open", model="main") == 1
    assert models.count("dspy_lm_circuit_opened_total", model="main") == 1
    assert models.count("dspy_lm_circuit_open", model="spare") == 0


async def test_an_open_circuit_without_a_fallback_says_when_to_come_back() -> None:
    models = Models([BROKEN], breaker=replace(QUICK, minimum_calls=1))
    chain = models.chain()
    with pytest.raises(lm15.ServerError):
        await chain.complete(REQUEST)

    with pytest.raises(LMCircuitOpen) as caught:
        await chain.complete(REQUEST)

    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 4
    assert models.asked() == [1]


async def test_a_failed_attempt_is_not_repeated_once_the_circuit_is_open() -> None:
    models = Models([BROKEN], breaker=replace(QUICK, minimum_calls=1), max_retries=5)

    with pytest.raises(lm15.ServerError):
        await models.chain().complete(REQUEST)

    assert models.asked() == [1]
    assert models.count("dspy_lm_retries_refused_total", model="main") == 0


@pytest.mark.parametrize(
    "error",
    [
        lm15.InvalidRequestError("no", status=400),
        lm15.AuthError("no", status=401),
        lm15.InvalidRequestError("never sent"),
    ],
)
async def test_what_does_not_speak_of_the_endpoint_opens_no_circuit(error: Exception) -> None:
    models = Models([error], breaker=replace(QUICK, minimum_calls=1))
    chain = models.chain()

    for _ in range(3):
        with pytest.raises(type(error)):
            await chain.complete(REQUEST)

    assert models.asked() == [3]


async def test_a_cancelled_probe_gives_its_place_back() -> None:
    models = Models([BROKEN, "yes"], breaker=replace(QUICK, minimum_calls=1))
    chain = models.chain()
    with pytest.raises(lm15.ServerError):
        await chain.complete(REQUEST)
    models.clock.now += 4
    models.scripts[0].waits = True
    probes = [asyncio.create_task(chain.complete(REQUEST)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(LMCircuitOpen):
        await chain.complete(REQUEST)

    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    models.scripts[0].waits = False
    for _ in range(2):
        await chain.complete(REQUEST)

    assert not models.guards[0].is_open()


def test_a_model_without_a_fallback_needs_no_chain() -> None:
    lm = engine.language_model(*Models(["yes"]).links())

    assert isinstance(lm.engine, engine.Engine)
