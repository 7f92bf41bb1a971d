"""The tables of the worker's benchmark, and what it asks of whom."""

from __future__ import annotations

import json

from bench import worker_report
from bench.machine import Load
from bench.servers import litellm, worker
from bench.servers.litellm import LITELLM
from bench.servers.mlflow import MLFLOW
from bench.servers.tutorial import TUTORIAL
from bench.servers.worker import WORKER
from bench.worker_report import Case, Figures
from dspy_worker.contract import app

SLOW, QUICK = Case(latency_ms=50, clients=64), Case(latency_ms=0, clients=32)


def figures(completed: int, *, cpu_ms: float = 1.0) -> Figures:
    load = Load(completed=completed, failed=0, seconds=2.0, p50_ms=50.0, p99_ms=90.0)
    return Figures(load=load, cpu_ms=cpu_ms, mib=(70.0, 80.0), others=0.0, lm_core=0.5)


def rows(text: str, start: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_a_ratio_compares_medians_of_the_rounds() -> None:
    results = {
        (SLOW, WORKER.name): [figures(2000, cpu_ms=0.5), figures(10), figures(3000, cpu_ms=0.5)],
        (SLOW, TUTORIAL.name): [figures(100), figures(200, cpu_ms=2.0), figures(90_000)],
    }

    table = worker_report.table(results, SLOW, absent={})

    assert rows(table, TUTORIAL.name)[0][1:5] == ["100", "10.00 x", "1.00 ms", "0.50 x"]


def test_what_was_not_measured_has_a_whole_row_with_the_reason() -> None:
    results = {(SLOW, WORKER.name): [figures(2000)]}

    table = worker_report.table(results, SLOW, {MLFLOW.name: "not installed: no | wheel\nhere"})

    (row,) = rows(table, MLFLOW.name)
    assert row[1] == "not installed: no / wheel here"
    assert len(row) == len(worker_report.COLUMNS)


def test_a_bar_without_its_rival_is_left_open() -> None:
    results = {(case, WORKER.name): [figures(4000, cpu_ms=0.7)] for case in (SLOW, QUICK)} | {
        (QUICK, LITELLM.name): [figures(200)]
    }

    bars = worker_report.bars((SLOW, QUICK), results)

    assert rows(bars, f"requests/s to {LITELLM.name}")[0][1:] == [">= 10 x", "20.00 x"]
    assert rows(bars, f"requests/s to {TUTORIAL.name}")[0][1:] == [">= 6 x", "-"]


def test_the_worker_is_served_a_document_that_the_contract_accepts() -> None:
    document = app.load(worker.everything_on("http://127.0.0.1:1/v1"))

    assert [model.name for model in document.chain()] == ["main", "spare"]


def test_the_proxy_gets_the_prompt_of_the_program_with_the_question_in_it() -> None:
    """A prompt with a percent sign of its own could not take the question."""
    messages = json.loads(litellm.body() % "What is it?")["messages"]

    assert [message["role"] for message in messages] == ["system", "user"]
    assert "What is it?" in messages[1]["content"]
    assert "[[ ## reasoning ## ]]" in messages[0]["content"]
