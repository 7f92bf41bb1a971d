"""Telling a waiting person what happens: one line per step, and a sign of life in long ones."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

SIGN_OF_LIFE_SECONDS = 15.0
_TAIL_BYTES = 4096
_LINE_WIDTH = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Prints lines that start with the seconds since the command began.

    Attributes:
        started: Reading of `time.monotonic()` at the start.
        quiet: Print nothing (tests).
    """

    started: float = field(default_factory=time.monotonic)
    quiet: bool = False

    def say(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            print(f"[{time.monotonic() - self.started:6.1f}s] {text}", file=sys.stderr, flush=True)

    def run(
        self,
        command: Sequence[str],
        *,
        what: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Run a long command with its output in a log, and print a sign of life now and then.

        Raises:
            DevclusterError: The command failed; the error names the log.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command), stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd
            )
            try:
                self._watch(process, what, log)
            except BaseException:
                process.kill()
                process.wait()
                raise
        if process.returncode != 0:
            raise DevclusterError(f"{what} failed: {last_line(log)}", log=log)

    def _watch(self, process: subprocess.Popen[bytes], what: str, log: Path) -> None:
        while True:
            try:
                process.wait(timeout=SIGN_OF_LIFE_SECONDS)
            except subprocess.TimeoutExpired:
                self.say(f"  still {what}: {last_line(log)}")
            else:
                return

    def wait_for(
        self, what: str, ready: Callable[[], bool], *, seconds: float, log: Path | None = None
    ) -> None:
        """Ask `ready` until it agrees.

        Raises:
            DevclusterError: It did not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        next_sign = time.monotonic() + SIGN_OF_LIFE_SECONDS
        while not ready():
            now = time.monotonic()
            if now > deadline:
                raise DevclusterError(f"waited {seconds:.0f} s in vain for {what}", log=log)
            if now > next_sign:
                self.say(f"  still waiting for {what}")
                next_sign = now + SIGN_OF_LIFE_SECONDS
            time.sleep(0.1)


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, shortened; "" when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines()
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1][:_LINE_WIDTH] if spoken else ""
