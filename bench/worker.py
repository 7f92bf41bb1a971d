"""The worker beside the server of DSPy's deployment tutorial: the same program, LM and machine.

Servers run on core 0; the practice LM and the load generator on core 1. Rounds are interleaved, so
that a busy moment of the machine meets all servers, and medians of the rounds are shown. Nothing is
asserted: a ratio is for people to judge.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.machine import LOAD_CORE, ROOT, SERVER_CORE, Load, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VENV = ROOT / ".venv-bench"
PACKAGES = ("dspy==3.4.1", "fastapi", "uvicorn")
ROUNDS = 3
WARM_SECONDS, LOAD_SECONDS = 1, 5
WORKER = "dspy-worker"
TUTORIAL = "tutorial, 8 threads (its default)"
TUTORIAL_64 = "tutorial, 64 threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load: how slow the LM is, and how many clients ask at once."""

    latency_ms: int
    clients: int

    @property
    def title(self) -> str:
        """The name for people."""
        return f"LM {self.latency_ms} ms, {self.clients} clients"


CASES = (Case(latency_ms=50, clients=64), Case(latency_ms=0, clients=32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one server did under one load in one round.

    Attributes:
        load: What its clients saw.
        cpu_ms: CPU time per completed request.
        rest_mib: Memory before the load.
        others: Share of the server's core that other processes used meanwhile: with more than a
            few hundredths, requests per second say little, while CPU per request still holds.
    """

    load: Load
    cpu_ms: float
    rest_mib: float
    others: float

    @property
    def per_second(self) -> float:
        """Completed requests per second."""
        return self.load.completed / self.load.seconds


Results = dict[tuple[Case, str], list[Figures]]


def run() -> str:
    """Measure, and return the tables in Markdown."""
    machine.check()
    _install()
    results: Results = {}
    with contextlib.ExitStack() as stack:
        urls = {case: stack.enter_context(_lm(case.latency_ms)) for case in CASES}
        for number in range(ROUNDS):
            for case in CASES:
                for name in (TUTORIAL, WORKER, TUTORIAL_64):
                    print(f"round {number + 1} of {ROUNDS}: {case.title}, {name}", flush=True)
                    found = _measure(name, case, urls[case])
                    results.setdefault((case, name), []).append(found)
    return report(results)


def _install() -> None:
    """Give the baseline an environment of its own: it needs the whole of DSPy and FastAPI."""
    stamp = VENV / "installed"
    if stamp.exists() and stamp.read_text() == repr(PACKAGES):
        return
    print(f"{', '.join(PACKAGES)} into {VENV.name}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV / "bin/pip", "install", "--quiet", *PACKAGES], check=True)
    stamp.write_text(repr(PACKAGES))


@contextlib.contextmanager
def _lm(latency_ms: int) -> Iterator[str]:
    command = [sys.executable, "-m", "dspy_worker.practice", "--fixed"]
    port = str(machine.free_port())
    options = ["--port", port, "--latency-ms", str(latency_ms)]
    with machine.running([*command, *options], LOAD_CORE) as process:
        machine.wait(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}/v1"


def _measure(name: str, case: Case, lm_url: str) -> Figures:
    with _server(name, lm_url) as (pid, target):
        rest = machine.memory_mib(pid)
        machine.load(target, case.clients, WARM_SECONDS)
        own, core = machine.cpu_seconds(pid), machine.core_seconds(SERVER_CORE)
        load = machine.load(target, case.clients, LOAD_SECONDS)
        own, core = machine.cpu_seconds(pid) - own, machine.core_seconds(SERVER_CORE) - core
    return Figures(
        load=load,
        cpu_ms=1000 * own / max(load.completed, 1),
        rest_mib=rest,
        others=max(core - own, 0.0) / load.seconds,
    )


@contextlib.contextmanager
def _server(name: str, lm_url: str) -> Iterator[tuple[int, Target]]:
    """Run one of the servers until it has answered a question."""
    port = machine.free_port()
    with tempfile.TemporaryDirectory() as folder:
        if name == WORKER:
            command = _worker_command(Path(folder), port, lm_url)
            environ: Mapping[str, str] = {}
            body, path = '{"inputs": {"question": "%s"}}', "/v1/predict"
        else:
            command = [VENV / "bin/python", machine.HERE / "tutorial_server.py"]
            threads = {"THREADS": "64"} if name == TUTORIAL_64 else {}
            local = {"LITELLM_LOCAL_MODEL_COST_MAP": "true", "DSPY_CACHEDIR": folder}
            environ = {"LM_URL": lm_url, "PORT": str(port), **local, **threads}
            body, path = '{"text": "%s"}', "/predict"
        target = Target(url=f"http://127.0.0.1:{port}{path}", body=body)
        with machine.running(command, SERVER_CORE, environ) as process:
            machine.wait(target.url, process)
            machine.ask(target, "Are you there?")
            yield process.pid, target


def _worker_command(folder: Path, port: int, lm_url: str) -> list[str | Path]:
    app = folder / "app.json"
    app.write_text(json.dumps(_app(lm_url)), encoding="utf-8")
    options = ["--host", "127.0.0.1", "--port", str(port)]
    ops = ["--ops-port", str(machine.free_port())]
    return [Path(sys.executable).with_name("dspy-worker"), "serve", app, *options, *ops]


def _app(lm_url: str) -> dict[str, object]:
    """Return the program of the tutorial as an app."""
    signature = {
        "inputs": [{"name": "question", "type": "str"}],
        "outputs": [{"name": "answer", "type": "str"}],
    }
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyApp",
        "metadata": {"name": "bench"},
        "spec": {
            "program": {"signature": signature, "module": {"type": "ChainOfThought"}},
            "models": [{"name": "main", "model": "gpt-4o-mini", "endpoint": lm_url}],
        },
    }


def report(results: Results) -> str:
    """Return the tables in Markdown: one per load, ratios against both baselines."""
    parts = [f"# Worker beside the tutorial's server\n\n{_where()}"]
    for case in CASES:
        rows = {name: results[case, name] for name in (WORKER, TUTORIAL, TUTORIAL_64)}
        parts.append(f"## {case.title}\n\n{_table(rows)}\n\n{_ratios(rows)}")
    return "\n\n".join(parts)


def _where() -> str:
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores; each server on one core. "
        f"Medians of {ROUNDS} interleaved rounds of {LOAD_SECONDS} s. Memory at rest is taken "
        "after the first answer; others is the share of the core that other processes used."
    )


def _table(rows: Mapping[str, list[Figures]]) -> str:
    lines = [
        "| server | requests/s | CPU per request | p50 | p99 | failed | memory at rest | others |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, rounds in rows.items():
        p50 = statistics.median(one.load.p50_ms for one in rounds)
        p99 = statistics.median(one.load.p99_ms for one in rounds)
        lines.append(
            f"| {name} | {_rate(rounds):,.0f} | {_cpu(rounds):.2f} ms | {p50:.0f} ms "
            f"| {p99:.0f} ms | {sum(one.load.failed for one in rounds)} "
            f"| {_memory(rounds):.0f} MiB "
            f"| {statistics.median(one.others for one in rounds):.0%} |"
        )
    return "\n".join(lines)


def _ratios(rows: Mapping[str, list[Figures]]) -> str:
    mine = rows[WORKER]
    lines = [
        "| worker against | requests/s | CPU per request | memory at rest |",
        "|---|---:|---:|---:|",
    ]
    for name in (TUTORIAL, TUTORIAL_64):
        other = rows[name]
        lines.append(
            f"| {name} | {_rate(mine) / _rate(other):.2f} x | {_cpu(mine) / _cpu(other):.2f} x "
            f"| {_memory(mine) / _memory(other):.2f} x |"
        )
    return "\n".join(lines)


def _rate(rounds: list[Figures]) -> float:
    return statistics.median(one.per_second for one in rounds)


def _cpu(rounds: list[Figures]) -> float:
    return statistics.median(one.cpu_ms for one in rounds)


def _memory(rounds: list[Figures]) -> float:
    return statistics.median(one.rest_mib for one in rounds)
