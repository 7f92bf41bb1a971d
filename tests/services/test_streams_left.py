"""Clients that leave their streams cost the worker nothing in the end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests import worker_process

if TYPE_CHECKING:
    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

STREAMS, AT_ONCE = 1000, 50
PROGRAM = {
    "signature": {
        "instructions": "Label it.\n- animal: zebra\n- tool: saw",
        "inputs": [{"name": "text"}],
        "outputs": [{"name": "label", "type": "Literal['animal', 'tool']"}, {"name": "remark"}],
    }
}


async def open_and_leave(client: httpx.AsyncClient, worker: Worker, gate: asyncio.Semaphore) -> int:
    """Read the beginning of a stream and close it; return how much was read."""
    body = {"inputs": {"text": "A zebra."}}
    url = f"{worker.url}/v1/predict/stream"
    async with gate, client.stream("POST", url, json=body) as response:
        assert response.status_code == 200
        async for text in response.aiter_text():
            if "event: token" in text:
                return len(text)
    return 0


async def leave_many(worker: Worker) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        leave = (open_and_leave(client, worker, gate) for _ in range(STREAMS))
        read = await asyncio.gather(*leave)
    assert all(read), "each stream was open when its client left"


def rest(worker: Worker, lm: PracticeLM) -> None:
    """Wait until nothing is under way any more, in the worker and in the LM."""
    deadline = time.monotonic() + 20
    while worker.state()["in_flight"] or lm.stats()["in_flight"]:
        assert time.monotonic() < deadline, (worker.state(), lm.stats())
        time.sleep(0.05)


def memory(worker: Worker) -> float:
    """Return the resident memory in MiB."""
    text = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def sockets(worker: Worker) -> int:
    folder = Path(f"/proc/{worker.process.pid}/fd")
    return sum(fd.readlink().name.startswith("socket") for fd in folder.iterdir())


@pytest.mark.timeout(300)
async def test_a_thousand_streams_left_leave_nothing_behind(lm: PracticeLM, tmp_path: Path) -> None:
    limits = {"concurrency": 64, "queueSize": 64, "timeoutSeconds": 30, "drainSeconds": 40}
    described = worker_process.document(lm.url, PROGRAM, **limits)
    lm.faults(kind="slow_stream", ms=50)
    with worker_process.running(tmp_path, described) as worker:
        await leave_many(worker)  # buffers and pools have their size from now on
        rest(worker, lm)
        before = memory(worker), sockets(worker)

        await leave_many(worker)
        rest(worker, lm)

        assert lm.stats()["aborted"] == 2 * STREAMS
        grown, left = memory(worker) - before[0], sockets(worker) - before[1]
        assert left <= 2, "connections of the clients and of the LM are closed"
        assert grown < 4, f"memory grew by {grown:.1f} MiB from the first thousand to the second"
        lm.reset()
        assert worker.predict(text="A zebra.").json()["prediction"]["label"] == "animal"
