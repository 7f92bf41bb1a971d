"""A worker that answers very many requests: does its memory stay where it is?

One worker with everything on is asked distinct questions of 4 kB, so that each one is a miss, is
kept, noted, written to PostgreSQL and charged to a budget. The LM takes no time. The cache gets the
least memory that it can have, and is full before the first comparison. Nothing is asserted: the
slope is for people to judge.

BENCH_SOAK_REQUESTS says how many requests; the default is that of the figures that we tell.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.machine import LOAD_CORE, SERVER_CORE, Target
from bench.servers import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUESTS = 100_000
MARKS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the requests after which is looked."""
COMPARED_FROM = 0.25
CLIENTS = 32
QUESTION_BYTES = 4096
FIRST_SECONDS = 1
CACHE = "dspy_cache_bytes"
SPOOL = "dspy_store_spool_bytes"
LOST = "dspy_store_lost_total"
COMMAND = Path(sys.executable).with_name("dspy-worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is seen after some requests; `spooled` is what PostgreSQL has not got yet."""

    requests: int
    failed: int
    memory_mib: float
    cache_mib: float
    spooled_mib: float
    lost: float


def run() -> str:
    """Measure, and return the table in Markdown."""
    machine.check()
    wanted = int(os.environ.get("BENCH_SOAK_REQUESTS", f"{REQUESTS}"))
    with machine.everybody_on(LOAD_CORE), _subject() as (pid, ops, target):
        samples = _soak(wanted, target, lambda: _look(pid, ops))
    return report(wanted, samples)


def report(wanted: int, samples: list[Sample]) -> str:
    """Return the table and how fast memory has grown."""
    head = (
        f"# A long run\n\n{wanted:,} requests with {QUESTION_BYTES} bytes of input each, no two of "
        f"them equal, {CLIENTS} clients, LM without latency; one worker with everything on."
    )
    lines = [
        "| requests | resident memory | answers kept in memory | journal | failed | lost |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.requests:,} | {one.memory_mib:.1f} MiB | {one.cache_mib:.2f} MiB "
        f"| {one.spooled_mib:.1f} MiB | {one.failed} | {one.lost:.0f} |"
        for one in samples
    ]
    told = (
        f"Slope from {COMPARED_FROM:.0%} of the requests on: {slope(samples, wanted):+.2f} MiB per "
        "100,000 requests."
    )
    return "\n\n".join([head, "\n".join(lines), told])


def slope(samples: list[Sample], wanted: int) -> float:
    """Return by how many MiB 100,000 requests raise the memory, as a line through the samples."""
    later = [one for one in samples if one.requests >= COMPARED_FROM * wanted]
    line = statistics.linear_regression(
        [one.requests for one in later], [one.memory_mib for one in later]
    )
    return 100_000 * line.slope


def _soak(wanted: int, target: Target, look: Callable[[], Sample]) -> list[Sample]:
    """Ask in pieces, each about as long as it takes to the next mark."""
    machine.ask(target, "Are you there?")
    samples, asked, failed, seconds = [look()], 1, 0, 0.0
    for mark in MARKS:
        while asked < mark * wanted:
            left = (mark * wanted - asked) * seconds / asked if seconds else FIRST_SECONDS
            load = machine.load(target, CLIENTS, max(1, round(left)))
            asked, failed = asked + load.completed, failed + load.failed
            seconds += load.seconds
        samples.append(dataclasses.replace(look(), requests=asked, failed=failed))
        print(f"{asked:,} requests, {samples[-1].memory_mib:.1f} MiB", flush=True)
    return samples


def _look(pid: int, ops: str) -> Sample:
    with urllib.request.urlopen(f"{ops}/metrics", timeout=30) as response:  # noqa: S310 - loopback
        lines = response.read().decode().splitlines()
    sums = dict.fromkeys((CACHE, SPOOL, LOST), 0.0)
    for line in lines:
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        if name in sums and "disk" not in labels:
            sums[name] += float(value)
    return Sample(
        requests=1,
        failed=0,
        memory_mib=machine.memory_mib(pid),
        cache_mib=sums[CACHE] / (1 << 20),
        spooled_mib=sums[SPOOL] / (1 << 20),
        lost=sums[LOST],
    )


@contextlib.contextmanager
def _subject() -> Iterator[tuple[int, str, Target]]:
    """Run the worker and what it needs; yield its process, its ops address and where to ask."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lm = stack.enter_context(_lm())
        environ = stack.enter_context(worker.services())
        app = worker.write(folder, document(lm))
        port, ops = machine.free_port(), machine.free_port()
        ports = ["--host", "127.0.0.1", "--port", f"{port}", "--ops-port", f"{ops}"]
        command = [COMMAND, "serve", app, *ports, "--data-dir", f"{folder}/data"]
        process = stack.enter_context(machine.running(command, SERVER_CORE, environ))
        rest = "x" * QUESTION_BYTES
        target = Target(
            url=f"http://127.0.0.1:{port}/v1/predict",
            body='{"inputs": {"question": "%s ' + rest + '"}}',
        )
        machine.wait(target.url, process)
        yield process.pid, f"http://127.0.0.1:{ops}", target


@contextlib.contextmanager
def _lm() -> Iterator[str]:
    port = str(machine.free_port())
    command = [sys.executable, "-m", "dspy_worker.practice", "--fixed", "--port", port]
    with machine.running(command, LOAD_CORE) as process:
        machine.wait(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}/v1"


def document(lm: str) -> dict[str, Any]:
    """Return the benchmark's app with little memory for answers, which is full before long."""
    app = worker.everything_on(lm)
    app["spec"]["cache"]["memoryBytes"] = 1 << 20
    app["spec"]["store"]["spoolBytes"] = 1 << 30
    return app
