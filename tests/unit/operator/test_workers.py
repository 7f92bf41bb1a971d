"""Polls of workers' reports, against a worker of our own that answers what a test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from dspy_operator.core.manifest import Key
from dspy_operator.edge import workers
from dspy_operator.edge.telemetry import Telemetry
from dspy_worker.contract.state import WorkerState


class Worker:
    """A worker that reports what a test tells it to."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.report: dict[str, Any] = {}
        self.chunks: list[bytes] = []

    async def state(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers["Authorization"])
        if request.headers["Authorization"] == "Bearer silent":
            await asyncio.sleep(1)
        if self.chunks:
            return await self.in_pieces(request)
        known = {"app": "qa", "config_digest": "x", "ready": True, **self.report}
        return web.json_response(WorkerState(**known).dump())

    async def in_pieces(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        for chunk in self.chunks:
            await stream.write(chunk)
            await asyncio.sleep(0.02)
        return stream


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    made = Worker()
    app = web.Application()
    app.router.add_get("/state", made.state)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr("dspy_worker.contract.OPS_PORT", runner.addresses[0][1])
    yield made
    await runner.cleanup()


async def test_a_worker_is_asked_with_its_token_and_only_news_are_told(worker: Worker) -> None:
    told: list[Key] = []
    app = Key("t", "qa")
    targets = [workers.Target(uid="p", app=app, address="127.0.0.1", token="s3cret", ready=True)]
    poller = workers.Poller(lambda: targets, told.append, Telemetry())
    async with aiohttp.ClientSession() as opened:
        await poller.round(opened, 0)
        await poller.round(opened, 20)
        assert worker.tokens == ["Bearer s3cret"], "a ready worker is asked every 30 s"
        worker.report = {"requests": 2}
        await poller.round(opened, 40)
        assert told == [app], "numbers are no news"
        worker.report = {"ready": False}
        await poller.round(opened, 80)
        assert told == [app] * 2
        targets.clear()
        await poller.round(opened, 81)

    assert poller.reports == {}


def target(uid: str = "p", token: str = "s3cret", *, ready: bool = True) -> workers.Target:
    return workers.Target(
        uid=uid, app=Key("t", "qa"), address="127.0.0.1", token=token, ready=ready
    )


async def test_a_report_may_come_in_several_packets(worker: Worker) -> None:
    text = json.dumps(WorkerState(app="qa", config_digest="x", ready=True).dump()).encode()
    worker.chunks = [text[:10], text[10:40], text[40:]]
    poller = workers.Poller(lambda: [target()], lambda _: None, Telemetry())
    async with aiohttp.ClientSession() as opened:
        await poller.round(opened, 0)

    assert poller.reports["p"].ready


async def test_a_pod_that_becomes_unready_is_asked_in_the_next_round(worker: Worker) -> None:
    targets = [target()]
    poller = workers.Poller(lambda: targets, lambda _: None, Telemetry())
    async with aiohttp.ClientSession() as opened:
        await poller.round(opened, 0)
        targets[0] = target(ready=False)
        await poller.round(opened, 3)
        await poller.round(opened, 6)

    assert len(worker.tokens) == 2


async def test_dead_pods_take_no_time_from_others(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_TIMEOUT_SECONDS", 0.3)
    targets = [target(f"dead-{n}", "silent") for n in range(16)] + [target("alive")]
    poller = workers.Poller(lambda: targets, lambda _: None, Telemetry())
    async with workers._open_session() as opened:
        await poller.round(opened, 0)

    assert set(poller.reports) == {"alive"}


async def test_an_answer_that_is_meant_to_harm_is_an_error_of_one_poll(worker: Worker) -> None:
    deep = "[" * 1000 + "]" * 1000
    text = f'{{"version":1,"app":"qa","ready":true,"config_digest":{deep}}}'
    worker.chunks = [text.encode()]
    poller = workers.Poller(lambda: [target()], lambda _: None, Telemetry())
    async with aiohttp.ClientSession() as opened:
        for now in (0, 100):
            await poller.round(opened, now)

    worker.chunks = [b" " * 100_000]
    async with aiohttp.ClientSession() as opened:
        await poller.round(opened, 200)
