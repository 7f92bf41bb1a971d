"""The worker beside others: the same program, LM and machine.

Servers run on core 0; the practice LM and the load generator on core 1. Rounds are interleaved, so
that a busy moment of the machine meets all servers, and medians of the rounds are shown. Nothing is
asserted: a ratio is for people to judge. What cannot be installed is named with the reason.

BENCH_ROUNDS and BENCH_SECONDS say how many rounds and how long each load lasts; the defaults are
those of the figures that we tell.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine, worker_report
from bench.machine import LOAD_CORE, SERVER_CORE, CannotMeasureError
from bench.servers.bare import BARE, BARE_OWN
from bench.servers.base import Server, Site
from bench.servers.litellm import LITELLM
from bench.servers.mlflow import MLFLOW
from bench.servers.tutorial import TUTORIAL, TUTORIAL_64
from bench.servers.worker import WORKER
from bench.worker_report import Case, Figures, Results

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = (WORKER, TUTORIAL, TUTORIAL_64, MLFLOW, LITELLM, BARE, BARE_OWN)
CASES = (Case(latency_ms=50, clients=64), Case(latency_ms=0, clients=32))
WARM_SECONDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long is measured: rounds, and seconds of load in each."""

    rounds: int
    seconds: int


def run() -> str:
    """Measure, and return the tables in Markdown."""
    machine.check()
    length = Length(
        rounds=int(os.environ.get("BENCH_ROUNDS", "3")),
        seconds=int(os.environ.get("BENCH_SECONDS", "5")),
    )
    absent = _install()
    results: Results = {}
    with contextlib.ExitStack() as stack:
        urls = {case: stack.enter_context(_lm(case.latency_ms)) for case in CASES}
        for number in range(length.rounds):
            print(f"round {number + 1} of {length.rounds}", flush=True)
            for case, server in _pairs():
                if server.name in absent:
                    continue
                print(f"  {case.title}: {server.name}", flush=True)
                try:
                    found = _measure(server, case, urls[case], length.seconds)
                except (CannotMeasureError, OSError, subprocess.SubprocessError) as error:
                    absent[server.name] = _excuse(server, error)
                else:
                    results.setdefault((case, server.name), []).append(found)
    told = f"Medians of {length.rounds} interleaved rounds of {length.seconds} s."
    return worker_report.report(told, CASES, results, absent)


def _pairs() -> list[tuple[Case, Server]]:
    """Return what one round measures, in this order."""
    return [
        (case, server)
        for case in CASES
        for server in SERVERS
        if server.slow_lm or case.latency_ms == 0
    ]


def _install() -> dict[str, str]:
    """Install what the servers need; return why some cannot be measured, by name."""
    needed = {server.environment for server in SERVERS if server.environment}
    failed = {environment: environment.install() for environment in needed}
    return {
        server.name: f"not installed: {failed[server.environment]}"
        for server in SERVERS
        if server.environment and failed[server.environment]
    }


@contextlib.contextmanager
def _lm(latency_ms: int) -> Iterator[str]:
    command = [sys.executable, "-m", "dspy_worker.practice", "--fixed"]
    port = str(machine.free_port())
    options = ["--port", port, "--latency-ms", str(latency_ms)]
    with machine.running([*command, *options], LOAD_CORE) as process:
        machine.wait(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}/v1"


def _excuse(server: Server, error: Exception) -> str:
    """Return why a server has no figures; without ours there is nothing to tell."""
    if server is WORKER:
        raise CannotMeasureError(f"the worker: {error}") from error
    print(f"  {error}", flush=True)
    return f"not measured: {error}"


def _measure(server: Server, case: Case, lm_url: str, seconds: int) -> Figures:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = Site(folder=folder, port=machine.free_port(), lm_url=lm_url)
        subject = stack.enter_context(server.start(site))
        rest = machine.memory_mib(subject.pid)
        subject.load(case.clients, WARM_SECONDS)
        before = _spent(subject.pid)
        load = subject.load(case.clients, seconds)
        own, core, lm_core = (b - a for a, b in zip(before, _spent(subject.pid), strict=True))
        loaded = machine.memory_mib(subject.pid)
    return Figures(
        load=load,
        cpu_ms=1000 * own / max(load.completed, 1),
        mib=(rest, loaded),
        others=max(core - own, 0.0) / load.seconds,
        lm_core=min(lm_core / load.seconds, 1.0),
    )


def _spent(pid: int) -> tuple[float, float, float]:
    """Return the CPU seconds so far: of a server with its children, of its core, of the LM's."""
    own = machine.cpu_seconds(pid)
    return own, machine.core_seconds(SERVER_CORE), machine.core_seconds(LOAD_CORE)
