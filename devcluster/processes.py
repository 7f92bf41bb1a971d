"""Processes by number and start time, so that a reused number is never mistaken for an old one."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_KILL_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of this machine.

    Attributes:
        pid: Its number.
        started: Its start time in clock ticks since boot.
    """

    pid: int
    started: int


def find(pid: int) -> Process | None:
    """Return the process that has a number now, unless it is dead (a zombie is)."""
    fields = _stat(pid)
    if fields is None or fields[0] == "Z":
        return None
    return Process(pid=pid, started=int(fields[19]))


def is_alive(process: Process) -> bool:
    """Tell whether it still runs."""
    return find(process.pid) == process


def child_of(parent: Process) -> Process | None:
    """Return the only child of a process, or None."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        fields = _stat(int(entry.name))
        if fields is not None and int(fields[1]) == parent.pid:
            return find(int(entry.name))
    return None


def kill(process: Process) -> bool:
    """Kill a process, wait for its end, and tell whether it came."""
    deadline = time.monotonic() + _KILL_SECONDS
    while is_alive(process) and time.monotonic() < deadline:
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    return not is_alive(process)


def namespace(process: Process, kind: str) -> str:
    """Return the identity of one of a process's namespaces, or "" when it is gone."""
    try:
        return str(Path(f"/proc/{process.pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    """Return the fields of `/proc/PID/stat` after the program's name; the first is the state."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
