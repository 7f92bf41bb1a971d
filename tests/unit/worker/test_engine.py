"""The engine pair: keys, attempts, deadlines and counting, without a network."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from dspy import lm15

from dspy_worker.contract.app import Model
from dspy_worker.edge import call as calls
from dspy_worker.edge import engine, keys, transport
from dspy_worker.edge.attempts import Link
from dspy_worker.edge.call import Call
from dspy_worker.edge.guard import Guard
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.errors import DeadlineExceeded, LMCredentialsMissing
from dspy_worker.testing import FakeLM

if TYPE_CHECKING:
    from pathlib import Path

MODEL = Model(name="main", model="m", endpoint="http://lm.example.com/v1", key_secret="k")
REQUEST = lm15.Request(model="openai/m", messages=(lm15.Message.user("Hello"),))


class FakeKey:
    """A key that changes when somebody looks closely."""

    where = "nowhere"

    def __init__(self, *values: str | None) -> None:
        self.values = list(values)

    def read(self, *, now: bool = False) -> str | None:
        if now and len(self.values) > 1:
            self.values.pop(0)
        return self.values[0]


class Client:
    """Stands in for lm15's client; keeps the keys that were sent."""

    def __init__(self, fake: FakeLM) -> None:
        self.fake, self.sent = fake, []

    def with_key(self, key: str | None) -> Client:
        self.sent.append(key)
        return self

    async def complete(self, request: lm15.Request) -> lm15.Response:
        return self.fake.answer(request)


def asking(
    *answers: object, key: FakeKey | None = None, **model: object
) -> tuple[engine.AsyncEngine, Client, Metrics]:
    metrics = Metrics("tickets")
    described = replace(MODEL, **model)
    link = Link(
        model=described,
        key=key or FakeKey("secret"),
        metrics=metrics,
        guard=Guard(described, metrics),
        connections=4,
        threads=4,
    )
    made = engine.AsyncEngine(link)
    client = Client(FakeLM(answers))
    made._client = client
    return made, client, metrics


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Do not wait; tell how long the wait would have been."""
    found: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        found.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return found


def count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_an_answer_is_counted_with_its_tokens() -> None:
    made, client, metrics = asking("yes")
    call = Call(float("inf"))
    calls.CURRENT.set(call)

    answer = await made.complete(REQUEST)

    assert answer.message.text == "yes"
    assert (call.calls, call.input_tokens, call.output_tokens) == (1, 10, 5)
    assert count(metrics, "dspy_lm_calls_total", model="main", outcome="ok") == 1
    assert client.fake.requests[0].model == "m", "the provider's name of the model"


@pytest.mark.parametrize(
    "error",
    [
        lm15.RateLimitError("slow down"),
        lm15.ServerError("broken"),
        lm15.TimeoutError("late"),
        lm15.TransportError("gone"),
    ],
)
async def test_what_may_pass_is_tried_again(error: Exception, pauses: list[float]) -> None:
    made, _, metrics = asking(error, error, "yes", max_retries=2)

    answer = await made.complete(REQUEST)

    assert (answer.message.text, len(pauses)) == ("yes", 2)
    assert count(metrics, "dspy_lm_retries_total", model="main") == 2


async def test_retries_end(pauses: list[float]) -> None:
    made, client, _ = asking(lm15.ServerError("broken"), max_retries=2)

    with pytest.raises(lm15.ServerError):
        await made.complete(REQUEST)

    assert len(client.fake.requests) == 3


@pytest.mark.parametrize("error", [lm15.InvalidRequestError("no"), lm15.ContextLengthError("long")])
async def test_what_will_not_pass_is_not_tried_again(error: Exception) -> None:
    made, client, _ = asking(error)

    with pytest.raises(type(error)):
        await made.complete(REQUEST)

    assert len(client.fake.requests) == 1


async def test_the_servers_wish_is_obeyed(pauses: list[float]) -> None:
    made, _, _ = asking(lm15.RateLimitError("slow", retry_after=17.0), "yes")

    await made.complete(REQUEST)

    assert pauses == [17.0]


async def test_no_retry_that_would_begin_after_the_deadline(pauses: list[float]) -> None:
    made, client, _ = asking(lm15.RateLimitError("slow", retry_after=17.0), "yes")
    calls.CURRENT.set(Call(asyncio.get_running_loop().time() + 5))

    with pytest.raises(lm15.RateLimitError):
        await made.complete(REQUEST)

    assert (len(client.fake.requests), pauses) == (1, [])


async def test_nobody_is_asked_for_a_client_that_has_gone() -> None:
    made, client, _ = asking("yes")
    call = Call(float("inf"))
    call.given_up = True
    calls.CURRENT.set(call)

    with pytest.raises(DeadlineExceeded):
        await made.complete(REQUEST)

    assert client.fake.requests == []


async def test_a_refused_key_is_looked_up_at_once_and_a_new_one_tried() -> None:
    made, client, _ = asking(lm15.AuthError("no"), "yes", key=FakeKey("old", "new"), max_retries=0)

    answer = await made.complete(REQUEST)

    assert (answer.message.text, client.sent) == ("yes", ["old", "new"])


async def test_a_refused_key_that_has_not_changed_is_not_tried_again() -> None:
    made, client, _ = asking(lm15.AuthError("no"))

    with pytest.raises(lm15.AuthError):
        await made.complete(REQUEST)

    assert client.sent == ["secret"]


async def test_two_changed_keys_are_not_tried_for_ever() -> None:
    made, client, _ = asking(lm15.AuthError("no"), key=FakeKey("a", "b", "c"))

    with pytest.raises(lm15.AuthError):
        await made.complete(REQUEST)

    assert client.sent == ["a", "b"]


async def test_a_missing_key_asks_nobody() -> None:
    made, client, _ = asking("yes", key=FakeKey(None))

    with pytest.raises(LMCredentialsMissing, match="the key of model 'main' is missing"):
        await made.complete(REQUEST)

    assert client.sent == []


async def test_an_endpoint_without_keys_is_asked_without() -> None:
    made, client, _ = asking("yes", key=FakeKey(None), key_secret=None)

    await made.complete(REQUEST)

    assert client.sent == [None]


def test_calls_side_by_side_count_once_as_time() -> None:
    call = Call(float("inf"))

    for step in (call.began, call.began, call.ended, call.ended):
        step()

    assert call.lm_seconds < 0.1
    assert call._open == 0


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "main" / "key"
    path.parent.mkdir()
    path.write_text("first\n")
    return path


def test_a_key_file_is_read_again_after_a_second(key_file: Path) -> None:
    clock = Clock()
    key = keys.FileKey(key_file, clock)

    seen = [key.read()]
    key_file.write_text("second")
    seen.append(key.read())
    clock.now = 1.0
    seen.append(key.read())

    assert seen == ["first", "first", "second"]


def test_a_key_file_can_be_read_at_once(key_file: Path) -> None:
    key = keys.FileKey(key_file, Clock())
    key.read()
    key_file.write_text("other")

    assert key.read(now=True) == "other"


@pytest.mark.parametrize("content", ["", "  \n", "two\nlines", "k\u00e4y"])
def test_what_cannot_be_a_key_is_a_missing_key(key_file: Path, content: str) -> None:
    key_file.write_text(content)

    assert keys.FileKey(key_file).read() is None


def test_a_key_that_vanishes_is_missing(key_file: Path) -> None:
    clock = Clock()
    key = keys.FileKey(key_file, clock)
    key.read()
    key_file.unlink()
    clock.now = 2.0

    assert key.read() is None


def test_a_key_comes_from_its_file_then_from_the_environment(key_file: Path) -> None:
    folder = key_file.parent.parent
    environ = {"DSPY_KEY_BIG_MODEL": "from-env"}
    big = replace(MODEL, name="big-model")

    assert keys.find(MODEL, folder, {}).read() == "first"
    assert keys.find(big, None, environ).read() == "from-env"
    assert keys.find(replace(big, key_secret=None), None, {}).read() is None


def test_only_the_fingerprint_of_a_key_is_told(key_file: Path) -> None:
    told = keys.credential("main", keys.FileKey(key_file))

    assert told.present
    assert len(told.fingerprint) == 12
    assert "first" not in str(told)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"http_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": ".example.com"}, None),
        ({"https_proxy": "http://proxy:3128"}, None),
        ({"all_proxy": "http://proxy:3128"}, "http://proxy:3128"),
    ],
)
def test_the_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert transport.proxy("http://lm.example.com/v1") == expected


def test_the_pair_can_be_made_for_dspy(tmp_path: Path) -> None:
    metrics = Metrics("tickets")
    link = Link(
        model=MODEL,
        key=FakeKey("k"),
        metrics=metrics,
        guard=Guard(MODEL, metrics),
        connections=7,
        threads=7,
    )

    lm = engine.language_model(link)

    assert lm.num_retries == 0
    assert not lm.cache
    assert "secret" not in repr(lm)
