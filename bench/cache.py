"""Kept answers: a worker that gives them beside one that asks, and what each level costs.

The language model answers at once, so that the worker's own work is all that is compared. Both
workers run on core 0, in turns; the practice LM, Redis and the load generator on core 1. Nothing is
asserted.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.machine import LOAD_CORE, SERVER_CORE, Load, Target
from devcluster import redis_server
from devcluster.layout import find_cache
from devcluster.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 3
WARM_SECONDS, LOAD_SECONDS = 2, 5
CLIENTS, DIFFERENT = 32, 1000
WITHOUT, WITH = "without a cache", "with memory, Redis and disk"
COMMAND = Path(sys.executable).with_name("dspy-worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a worker did in one round; `others` is the share of its core that others used."""

    load: Load
    cpu_ms: float
    others: float


def run() -> str:
    """Measure, and return the tables in Markdown."""
    machine.check()
    found: dict[str, list[Figures]] = {WITHOUT: [], WITH: []}
    with contextlib.ExitStack() as stack:
        lm = stack.enter_context(_lm())
        redis = stack.enter_context(_redis())
        for number in range(ROUNDS):
            for name, rounds in found.items():
                print(f"round {number + 1} of {ROUNDS}: {name}", flush=True)
                rounds.append(_measure(lm, redis, cached=name == WITH))
        levels = _levels(redis)
    return "\n\n".join([_head(), _table(found), _ratio(found), "## Each level", levels])


@contextlib.contextmanager
def _lm() -> Iterator[str]:
    port = str(machine.free_port())
    command = [sys.executable, "-m", "dspy_worker.practice", "--fixed", "--port", port]
    with machine.running(command, LOAD_CORE) as process:
        machine.wait(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    program = redis_server.ensure(Progress(), find_cache())
    port = machine.free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        machine.running(program.command(port, Path(folder)), LOAD_CORE),
    ):
        yield f"redis://127.0.0.1:{port}/0"


def _measure(lm: str, redis: str, *, cached: bool) -> Figures:
    with _worker(lm, redis, cached=cached) as (pid, target):
        machine.load(target, CLIENTS, WARM_SECONDS, different=DIFFERENT)
        own, core = machine.cpu_seconds(pid), machine.core_seconds(SERVER_CORE)
        load = machine.load(target, CLIENTS, LOAD_SECONDS, different=DIFFERENT)
        own, core = machine.cpu_seconds(pid) - own, machine.core_seconds(SERVER_CORE) - core
    cpu_ms = 1000 * own / max(load.completed, 1)
    return Figures(load=load, cpu_ms=cpu_ms, others=max(core - own, 0.0) / load.seconds)


@contextlib.contextmanager
def _worker(lm: str, redis: str, *, cached: bool) -> Iterator[tuple[int, Target]]:
    port = machine.free_port()
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.json"
        app.write_text(json.dumps(_app(lm, cached=cached)), encoding="utf-8")
        options = ["--host", "127.0.0.1", "--port", str(port)]
        ops = ["--ops-port", str(machine.free_port()), "--data-dir", f"{folder}/data"]
        command = [COMMAND, "serve", app, *options, *ops]
        target = Target(
            url=f"http://127.0.0.1:{port}/v1/predict", body='{"inputs": {"question": "%s"}}'
        )
        with machine.running(command, SERVER_CORE, {"DSPY_URL_REDIS": redis}) as process:
            machine.wait(target.url, process)
            machine.ask(target, "Are you there?")
            yield process.pid, target


def _app(lm: str, *, cached: bool) -> dict[str, object]:
    names = ("question", "answer")
    signature = {"inputs": [{"name": names[0]}], "outputs": [{"name": names[1]}]}
    kept = {
        "cache": {"diskBytes": 64 << 20},
        "redis": {"urlSecretRef": {"name": "redis"}},
    }
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyApp",
        "metadata": {"name": "bench"},
        "spec": {
            "program": {"signature": signature, "module": {"type": "ChainOfThought"}},
            "models": [{"name": "main", "model": "gpt-4o-mini", "endpoint": lm}],
            **(kept if cached else {}),
        },
    }


def _levels(redis: str) -> str:
    done = subprocess.run(
        ["taskset", "--cpu-list", str(SERVER_CORE), COMMAND, "cache", "bench"],
        env={**os.environ, "DSPY_URL_REDIS": redis},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def _head() -> str:
    return (
        f"# Kept answers\n\nLM without latency, {CLIENTS} clients, {DIFFERENT} questions again and "
        f"again; medians of {ROUNDS} interleaved rounds of {LOAD_SECONDS} s after {WARM_SECONDS} s "
        "of warming. The clients ask as fast as they get answers, so percentiles are those of full "
        "load. Others is the share of the worker's core that other processes used."
    )


def _table(found: dict[str, list[Figures]]) -> str:
    lines = [
        "| worker | requests/s | CPU per request | p50 | p99 | failed | others |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, rounds in found.items():
        p50 = statistics.median(one.load.p50_ms for one in rounds)
        p99 = statistics.median(one.load.p99_ms for one in rounds)
        others = statistics.median(one.others for one in rounds)
        failed = sum(one.load.failed for one in rounds)
        lines.append(
            f"| {name} | {_rate(rounds):,.0f} | {_cpu(rounds):.3f} ms | {p50:.1f} ms "
            f"| {p99:.1f} ms | {failed} | {others:.0%} |"
        )
    return "\n".join(lines)


def _ratio(found: dict[str, list[Figures]]) -> str:
    rate = _rate(found[WITH]) / _rate(found[WITHOUT])
    cpu = _cpu(found[WITH]) / _cpu(found[WITHOUT])
    return f"With against without: {rate:.1f} x the requests/s, {cpu:.2f} x the CPU per request."


def _rate(rounds: list[Figures]) -> float:
    return statistics.median(one.load.completed / one.load.seconds for one in rounds)


def _cpu(rounds: list[Figures]) -> float:
    return statistics.median(one.cpu_ms for one in rounds)
