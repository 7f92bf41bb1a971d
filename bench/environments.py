"""Virtual environments below the checkout, one for each program that is measured beside ours."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.machine import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment and what has to be in it; `make clean` removes it.

    Attributes:
        name: Its folder in the checkout.
        packages: What pip is told to install.
    """

    name: str
    packages: tuple[str, ...]

    @property
    def bin(self) -> Path:
        """The folder with its programs."""
        return ROOT / self.name / "bin"

    def install(self) -> str:
        """Install what is missing; return why that failed, or nothing."""
        stamp = ROOT / self.name / "installed"
        if stamp.exists() and stamp.read_text() == repr(self.packages):
            return ""
        print(f"{', '.join(self.packages)} into {self.name}, some minutes", flush=True)
        for command in (
            [sys.executable, "-m", "venv", str(ROOT / self.name)],
            [str(self.bin / "pip"), "install", "--quiet", *self.packages],
        ):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                return _reason(done.stderr or done.stdout)
        stamp.write_text(repr(self.packages))
        return ""


def _reason(said: str) -> str:
    """Return the line that tells most: pip's last error, or whatever was said last."""
    lines = [line for line in said.splitlines() if line.strip()] or ["no reason given"]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
