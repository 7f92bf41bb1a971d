"""Running short commands whose failure must be explained."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Mapping


def run(
    *command: str,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 300,
) -> str:
    """Run a command and return what it printed to its standard output.

    Args:
        command: Program and arguments.
        stdin: Text for its standard input; without it the input is empty.
        env: Variables on top of the caller's environment.
        seconds: Time limit.

    Raises:
        DevclusterError: It is missing, failed, or took too long; the message carries its stderr.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as error:
        raise DevclusterError(f"the program {command[0]} is missing") from error
    except subprocess.TimeoutExpired as error:
        raise DevclusterError(f"{' '.join(command)} took more than {seconds:.0f} s") from error
    if done.returncode != 0:
        explanation = (done.stderr or done.stdout).strip()
        raise DevclusterError(f"{' '.join(command)} failed: {explanation}")
    return done.stdout


def succeeds(*command: str, seconds: float = 30) -> bool:
    """Tell whether a command exists and exits with 0 in time."""
    try:
        run(*command, seconds=seconds)
    except DevclusterError:
        return False
    return True
