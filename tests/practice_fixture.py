"""A pytest plugin: a real practice LM in a process of its own, on a free loopback port.

`practice_lm` serves one test and starts clean; `practice_server` is the process under it, started
once per test run. List `tests.practice_fixture` in the root conftest's `pytest_plugins`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class PracticeLM:
    """A running practice LM.

    Attributes:
        url: Base address for clients of OpenAI's API, with `/v1`.
        root: Address of the server, for its other endpoints.
        process: The server.
    """

    url: str
    root: str
    process: subprocess.Popen[str]

    def stats(self) -> dict[str, Any]:
        """Return the server's counts."""
        return self._call("GET", "/stats")

    def faults(self, **plan: object) -> dict[str, Any]:
        """Put a plan of faults in force, one (`kind=...`) or several (`faults=[...]`)."""
        return self._call("PUT", "/control/faults", json=plan)

    def reset(self) -> None:
        """End all faults and count afresh."""
        self._call("DELETE", "/control/faults")
        self._call("DELETE", "/stats")

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx checks them
        response = httpx.request(method, self.root + path, timeout=10, **options)
        if response.is_error:
            raise ValueError(response.text)
        return dict(response.json())


@contextmanager
def running(*arguments: str) -> Iterator[PracticeLM]:
    """Run a practice LM with these options of its command line."""
    command = [sys.executable, "-m", "dspy_worker.practice", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            yield PracticeLM(url=url, root=url.removesuffix("/v1"), process=process)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


@pytest.fixture(scope="session")
def practice_server() -> Iterator[PracticeLM]:
    with running() as server:
        yield server


@pytest.fixture
def practice_lm(practice_server: PracticeLM) -> Iterator[PracticeLM]:
    practice_server.reset()
    yield practice_server
    practice_server.reset()
