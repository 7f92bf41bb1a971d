"""What a server is to the benchmark: a process to be measured, and a way to load it."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import machine
from bench.environments import Environment
from bench.machine import SERVER_CORE, Load, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

PROGRAMS = machine.HERE / "programs"
LM = "gpt-4o-mini"
"""A name that DSPy and LiteLLM know; a private one would cost them more."""
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "true",  # else it is fetched from the internet
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

DSPY = Environment(
    name=".venv-bench",
    packages=("dspy==3.4.1", "litellm==1.106.2", "fastapi==0.165.0", "uvicorn==0.54.0"),
)
"""The whole of DSPy, as its users have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a server runs: a folder of its own, a free port, and the LM to ask."""

    folder: Path
    port: int
    lm_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server that has answered.

    Attributes:
        pid: Its process.
        load: Loads it with so many clients for so many seconds.
    """

    pid: int
    load: Callable[[int, int], Load]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that is measured.

    Attributes:
        name: Its name in the tables.
        start: Runs it until the end of the block.
        environment: What it needs besides the development environment.
        slow_lm: Whether it is measured with a slow LM too, or only where the LM takes no time.
    """

    name: str
    start: Callable[[Site], AbstractContextManager[Subject]]
    environment: Environment | None = None
    slow_lm: bool = True


@contextlib.contextmanager
def over_http(
    command: Sequence[str | Path], target: Target, environ: Mapping[str, str] | None = None
) -> Iterator[Subject]:
    """Run a server of questions until it has answered one, and as long as the block lasts."""
    with machine.running(command, SERVER_CORE, environ) as process:
        machine.wait(target.url, process)
        machine.ask(target, "Are you there?")
        yield Subject(pid=process.pid, load=functools.partial(machine.load, target))


def loopback(site: Site, path: str, body: str) -> Target:
    """Return the target of a server at the site's port."""
    return Target(url=f"http://127.0.0.1:{site.port}{path}", body=body)
