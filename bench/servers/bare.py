"""The program without a server: tasks that `acall` it in a loop, on the core of the servers.

With DSPy's own LM it is what one process can do with DSPy as it comes. With the worker's LM it is
the ceiling of the worker: what is missing to it is the price of HTTP, queue, checks and metrics.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from typing import TYPE_CHECKING

from bench import machine
from bench.machine import SERVER_CORE, CannotMeasureError, Load
from bench.servers import worker
from bench.servers.base import DSPY, PROGRAMS, QUIET, Server, Site, Subject

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

LOOP = PROGRAMS / "acall_loop.py"


@contextlib.contextmanager
def start(site: Site) -> Iterator[Subject]:
    """Run the loop with DSPy's own LM."""
    environ = {**QUIET, "LM_URL": site.lm_url, "DSPY_CACHEDIR": str(site.folder)}
    with _loop([DSPY.bin / "python", LOOP], environ) as subject:
        yield subject


@contextlib.contextmanager
def start_own(site: Site) -> Iterator[Subject]:
    """Run the loop with the program and the LM as the worker makes them."""
    app = worker.write(site.folder, worker.program_only(site.lm_url))
    with _loop([sys.executable, LOOP, app], {}) as subject:
        yield subject


@contextlib.contextmanager
def _loop(command: Sequence[str | Path], environ: Mapping[str, str]) -> Iterator[Subject]:
    with machine.running(command, SERVER_CORE, environ, talks=True) as process:
        _run(process, 1, 0)
        yield Subject(pid=process.pid, load=functools.partial(_run, process))


def _run(process: subprocess.Popen[bytes], clients: int, seconds: int) -> Load:
    """Tell the loop what to do, and wait for its figures."""
    told, heard = process.stdin, process.stdout
    if told is None or heard is None:
        raise TypeError("the loop has no pipes")
    with contextlib.suppress(BrokenPipeError):
        told.write(f"{clients} {seconds}\n".encode())
        told.flush()
    for line in heard:
        if line.startswith(b"{"):
            return Load(**json.loads(line))
    raise CannotMeasureError("the loop has ended; see .state/bench")


BARE = Server(name="bare acall loop, DSPy's LM (no server)", start=start, environment=DSPY)
BARE_OWN = Server(name="bare acall loop, the worker's LM (no server)", start=start_own)
