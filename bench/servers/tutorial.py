"""The server of DSPy's deployment tutorial, as it is and with more threads."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bench.servers import base
from bench.servers.base import DSPY, PROGRAMS, QUIET, Server, Site, Subject

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def start(site: Site, *, threads: int | None = None) -> AbstractContextManager[Subject]:
    """Run it; without a number of threads DSPy's default stands, as in the tutorial."""
    environ = {
        **QUIET,
        "LM_URL": site.lm_url,
        "PORT": str(site.port),
        "DSPY_CACHEDIR": str(site.folder),
        **({"THREADS": str(threads)} if threads else {}),
    }
    command = [DSPY.bin / "python", PROGRAMS / "tutorial.py"]
    return base.over_http(command, base.loopback(site, "/predict", '{"text": "%s"}'), environ)


TUTORIAL = Server(name="tutorial, 8 threads (its default)", start=start, environment=DSPY)
TUTORIAL_64 = Server(
    name="tutorial, 64 threads", start=functools.partial(start, threads=64), environment=DSPY
)
