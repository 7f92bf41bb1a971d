"""Processes and load on this machine: start, pin, measure, stop. Loopback only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parent
LOGS = ROOT / ".state" / "bench"
SCRIPT = HERE / "question.lua"
SERVER_CORE, LOAD_CORE = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 120
STOP_SECONDS = 15


class CannotMeasureError(Exception):
    """This machine lacks something that the benchmark needs; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send questions: the address, and the body with `%s` for the question."""

    url: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run of the load generator saw; times in milliseconds."""

    completed: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float


def check() -> None:
    """Make sure that there are two cores and a load generator.

    Raises:
        CannotMeasureError: There is one core only, or wrk cannot be installed.
    """
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise CannotMeasureError("The server and its clients need a core each: 0 and 1.")
    if shutil.which("wrk"):
        return
    print("wrk is missing: apt-get install wrk")
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "wrk"]):
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if not shutil.which("wrk"):
        raise CannotMeasureError("wrk is missing and could not be installed: apt-get install wrk")


def free_port() -> int:
    """Return a port of the loopback address that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def everybody_on(core: int) -> Iterator[None]:
    """Keep what is started here away from the worker's core, which is named for it alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    core: int,
    environ: Mapping[str, str] | None = None,
    *,
    talks: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on one core, and end it with all its children.

    What it says goes to a file in `.state/bench`; with `talks` its input and output are pipes.
    """
    pinned = ["taskset", "--cpu-list", str(core), *map(str, command)]
    log = LOGS / f"core{core}-{Path(command[0]).name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as said:
        process = subprocess.Popen(
            pinned,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process politely, and then whatever it has left behind."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in filter(None, (process.stdin, process.stdout)):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def ask(target: Target, question: str) -> bytes:
    """Send one question and return the answer."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        target.url,
        data=(target.body % question).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
        return bytes(response.read())


def wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers at all, be it that it knows no such path.

    Raises:
        CannotMeasureError: It has ended, or does not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    reason: object = "nothing tried"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - loopback
        except urllib.error.HTTPError:
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            reason = error
            time.sleep(0.1)
        else:
            return
    raise CannotMeasureError(f"{url} does not answer ({reason}); see {LOGS.relative_to(ROOT)}")


def load(target: Target, clients: int, seconds: int, *, different: int = 0) -> Load:
    """Ask with so many clients at once, for so long.

    Args:
        target: Whom.
        clients: How many connections.
        seconds: How long.
        different: How many questions to ask again and again; 0 for unique ones.
    """
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s"]
    pinned = ["taskset", "--cpu-list", str(LOAD_CORE), *command, "-s", str(SCRIPT), target.url]
    done = subprocess.run(
        pinned,
        env={**os.environ, "BODY": target.body, "DIFFERENT": str(different)},
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its descendants so far."""
    return sum(_ticks(one) for one in family(pid)) / TICKS


def core_seconds(core: int) -> float:
    """Return how long a core has been busy so far, whoever used it."""
    lines = Path("/proc/stat").read_text().splitlines()
    fields = next(line for line in lines if line.startswith(f"cpu{core} ")).split()
    user, nice, system, _idle, _waiting, *interrupts = map(int, fields[1:9])
    return (user + nice + system + sum(interrupts)) / TICKS


def _ticks(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15]))  # user, system, and both of the children that ended
    return 0


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found.extend(map(int, children.split()))
    return found


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process and its descendants."""
    return sum(_rss(one) for one in family(pid)) / 1024


def _rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
