"""`dspy-worker cache bench`: what each level does on a trace of questions."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from dspy_worker.cache.disk import Disk
from dspy_worker.cache.memory import Memory
from dspy_worker.cache.metrics import CacheMetrics
from dspy_worker.cache.place import Place
from dspy_worker.cache.shared import Shared
from dspy_worker.contract import app
from dspy_worker.core.cachekey import KeyMaker
from dspy_worker.core.shelflife import Found, ShelfLife
from dspy_worker.edge.redis_link import RedisLink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dspy_worker.edge.keys import Key

_LIFE = ShelfLife(ttl_seconds=3600, stale_seconds=0)
_DISK_BYTES = 256 << 20
_SEED = 7
_DOCUMENT = {
    "apiVersion": app.API_VERSION,
    "kind": app.KIND,
    "metadata": {"name": "bench", "namespace": "bench"},
    "spec": {
        "program": {"signature": {"inputs": [{"name": "text"}], "outputs": [{"name": "label"}]}},
        "models": [{"name": "main", "model": "m", "endpoint": "http://127.0.0.1:1/v1"}],
        "cache": {},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes in bytes."""

    answer_bytes: int
    memory_bytes: int


@dataclass(slots=True)
class _Tally:
    """What one level did; times in seconds."""

    times: list[float] = field(default_factory=list)
    cpu: float = 0.0
    hits: int = 0


def read(path: Path) -> list[str]:
    """Return the questions of a file, one a line, in their order."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line]


def zipf(lookups: int, different: int) -> list[str]:
    """Return questions of which the n-th most popular is asked 1/n as often as the first."""
    chance = random.Random(_SEED)  # noqa: S311 - the same trace each time
    names = [f"question {n}" for n in range(different)]
    weights = [1 / (n + 1) for n in range(different)]
    return chance.choices(names, weights, k=lookups)


def run(questions: Sequence[str], plan: Plan, url: Key) -> str:
    """Measure, and return a table in Markdown."""
    maker = KeyMaker(app.load(_DOCUMENT), variant="bench", dspy_version="0")
    began = time.process_time()
    places = [Place("bench", "-", "0", maker.key("", {"text": text})) for text in questions]
    keys = time.process_time() - began
    tallies = asyncio.run(_levels(places, plan, url))
    micros = keys / max(1, len(questions)) * 1e6
    text = (
        f"{len(questions)} look-ups of {len(set(questions))} questions; each that is not there is "
        f"stored with {plan.answer_bytes} bytes. Making a key takes {micros:.1f} us of CPU."
    )
    head = ["| level | hit rate | CPU per look-up | p50 | p99 |", "|---|---:|---:|---:|---:|"]
    lines = [text, "", *head, *(_row(name, tally) for name, tally in tallies.items())]
    return "\n".join(lines)


async def _levels(places: Sequence[Place], plan: Plan, url: Key) -> dict[str, _Tally]:
    metrics = CacheMetrics(CollectorRegistry())
    found: dict[str, _Tally] = {}
    memory = Memory(plan.memory_bytes, 0.0, time.monotonic)

    async def get(place: Place) -> Found | None:
        return memory.get(place.name)

    async def put(place: Place, answer: Found) -> None:
        memory.put(place.name, answer)

    found["memory"] = await _play(places, plan, get, put)
    if url.read() is not None:
        found |= await _redis(places, plan, url, metrics)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder), _DISK_BYTES, _LIFE, metrics)
        await disk.start()
        found["disk"] = await _play(places, plan, disk.get, disk.put)
        await disk.stop()
    return found


async def _redis(
    places: Sequence[Place], plan: Plan, url: Key, metrics: CacheMetrics
) -> dict[str, _Tally]:
    link = RedisLink(url)
    await link.start()
    shared = Shared(link, "bench/bench", _LIFE, metrics)
    try:
        if not link.is_there:
            return {}

        async def get(place: Place) -> Found | None:
            look = await shared.look(place)
            if look.lease:
                await look.lease.release()
            return look.found

        await shared.remove("", "")
        tally = await _play(places, plan, get, shared.put)
        await shared.remove("", "")
        return {"redis": tally}
    finally:
        await link.stop()


async def _play(
    places: Sequence[Place],
    plan: Plan,
    get: Callable[[Place], Awaitable[Any]],
    put: Callable[[Place, Found], Awaitable[None]],
) -> _Tally:
    """Look each question up, and store what is not there; only looking up is timed."""
    body = b'{"label":"' + b"x" * (plan.answer_bytes - 12) + b'"}'
    tally = _Tally()
    for place in places:
        wall, cpu = time.perf_counter(), time.process_time()
        answer = await get(place)
        tally.cpu += time.process_time() - cpu
        tally.times.append(time.perf_counter() - wall)
        if answer is not None:
            tally.hits += 1
        else:
            await put(place, Found(level="", body=body, age_seconds=0.0, ttl_seconds=3600.0))
    return tally


def _row(name: str, tally: _Tally) -> str:
    times = sorted(tally.times)
    count = len(times)
    p50, p99 = times[count // 2] * 1e6, times[min(count - 1, count * 99 // 100)] * 1e6
    cpu = tally.cpu / count * 1e6
    return f"| {name} | {tally.hits / count:.1%} | {cpu:.1f} us | {p50:.1f} us | {p99:.1f} us |"
