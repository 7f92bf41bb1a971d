"""Our worker with everything on."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.servers import base
from bench.servers.base import LM, Server, Site, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def everything_on(lm_url: str) -> dict[str, object]:
    """Return the tutorial's program as an app in which no part is left out.

    What is new in `spec` and takes part in each request belongs here, so that the figures stay
    those of a worker as people run it. No cache can answer: no question is asked twice.
    """
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


@contextlib.contextmanager
def services() -> Iterator[Mapping[str, str]]:
    """Run what the parts of `everything_on` talk to; yield the worker's environment.

    Nothing yet: no part of it needs a server besides the LM. Redis and PostgreSQL will be real
    ones, away from the core of the worker.
    """
    yield {}


def write(folder: Path, lm_url: str) -> Path:
    """Write the app's document and return its path."""
    app = folder / "app.json"
    app.write_text(json.dumps(everything_on(lm_url)), encoding="utf-8")
    return app


@contextlib.contextmanager
def start(site: Site) -> Iterator[Subject]:
    """Run `dspy-worker serve`."""
    program = Path(sys.executable).with_name("dspy-worker")
    ports = ["--port", str(site.port), "--ops-port", str(machine.free_port())]
    options = ["--host", "127.0.0.1", *ports]
    command: list[str | Path] = [program, "serve", write(site.folder, site.lm_url), *options]
    target = base.loopback(site, "/v1/predict", '{"inputs": {"question": "%s"}}')
    with services() as environ, base.over_http(command, target, environ) as subject:
        yield subject


WORKER = Server(name="dspy-worker, everything on", start=start)
