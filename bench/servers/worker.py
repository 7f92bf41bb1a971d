"""Our worker with everything on."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.machine import LOAD_CORE
from bench.servers import base
from bench.servers.base import LM, Server, Site, Subject
from tests import postgres_process, redis_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def program_only(lm_url: str) -> dict[str, Any]:
    """Return the tutorial's program as an app that keeps and counts nothing."""
    signature = {
        "inputs": [{"name": "question", "type": "str"}],
        "outputs": [{"name": "answer", "type": "str"}],
    }
    models = [
        {
            "name": "main",
            "model": LM,
            "endpoint": lm_url,
            "fallback": "spare",
            "breaker": {"slowSeconds": 20},
        },
        {"name": "spare", "model": LM, "endpoint": lm_url},
    ]
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyApp",
        "metadata": {"name": "bench"},
        "spec": {
            "program": {"signature": signature, "module": {"type": "ChainOfThought"}},
            "models": models,
        },
    }


def everything_on(lm_url: str) -> dict[str, Any]:
    """Return the same app with no part left out.

    What is new in `spec` and takes part in each request belongs here, so that the figures stay
    those of a worker as people run it. No cache can answer: no question is asked twice.
    """
    app = program_only(lm_url)
    priced = {"price": {"inputPerMillion": "1", "outputPerMillion": "2"}, "maxTokens": 500}
    app["spec"] |= {
        "models": [model | priced for model in app["spec"]["models"]],
        "redis": {"urlSecretRef": {"name": "redis"}},
        "cache": {"diskBytes": 64 << 20},
        "store": {"postgres": {"urlSecretRef": {"name": "postgres"}}},
        "budgets": [{"name": "month", "limit": "1000000", "period": "Month"}],
    }
    return app


@contextlib.contextmanager
def services() -> Iterator[Mapping[str, str]]:
    """Run a Redis and a PostgreSQL away from the worker's core; yield the worker's environment."""
    with (
        machine.everybody_on(LOAD_CORE),
        redis_process.running() as redis,
        postgres_process.running() as postgres,
    ):
        yield {"DSPY_URL_REDIS": redis.url, "DSPY_URL_POSTGRES": postgres.new_database()}


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write an app's document and return its path."""
    app = folder / "app.json"
    app.write_text(json.dumps(document), encoding="utf-8")
    return app


@contextlib.contextmanager
def start(site: Site) -> Iterator[Subject]:
    """Run `dspy-worker serve`."""
    program = Path(sys.executable).with_name("dspy-worker")
    ports = ["--port", str(site.port), "--ops-port", str(machine.free_port())]
    options = ["--host", "127.0.0.1", *ports, "--data-dir", f"{site.folder}/data"]
    app = write(site.folder, everything_on(site.lm_url))
    command: list[str | Path] = [program, "serve", app, *options]
    target = base.loopback(site, "/v1/predict", '{"inputs": {"question": "%s"}}')
    with services() as environ, base.over_http(command, target, environ) as subject:
        yield subject


WORKER = Server(name="dspy-worker, everything on", start=start)
