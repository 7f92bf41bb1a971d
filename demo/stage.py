"""How the demo talks: numbered steps, the commands that it runs, and what they answered."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

BOLD, DIM, GREEN, RESET = "\033[1m", "\033[2m", "\033[32m", "\033[0m"


@dataclass(slots=True)
class Stage:
    """Prints the demo; remembers what was shown for the closing words.

    Attributes:
        total: Number of steps.
        shown: One line for each step that is done.
        color: Whether to print ANSI colors.
    """

    total: int
    shown: list[str] = field(default_factory=list)
    color: bool = field(default_factory=sys.stdout.isatty)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step and, when it is done, tell how long it took."""
        started = time.monotonic()
        number = len(self.shown) + 1
        self._print(f"\n{self._paint(BOLD, f'[{number}/{self.total}] {title}')}")
        yield
        seconds = time.monotonic() - started
        self.shown.append(f"{title} ({seconds:.0f} s)")
        self._print(self._paint(GREEN, f"      done in {seconds:.1f} s"))

    def command(self, text: str) -> None:
        """Show a command that the reader could type."""
        self._print(self._paint(DIM, f"      $ {text}"))

    def say(self, text: str) -> None:
        """Show some lines of text, indented."""
        for line in text.rstrip().splitlines():
            self._print(f"      {line}")

    def value(self, value: Any) -> None:  # noqa: ANN401 - JSON
        """Show a JSON value."""
        self.say(json.dumps(value, ensure_ascii=False))

    def close(self, *lines: str) -> None:
        """Tell what was shown and where to look."""
        self._print(self._paint(BOLD, "\nShown:"))
        for number, line in enumerate(self.shown, start=1):
            self._print(f"  {number}. {line}")
        for line in lines:
            self._print(line)

    def _paint(self, code: str, text: str) -> str:
        return f"{code}{text}{RESET}" if self.color else text

    def _print(self, text: str) -> None:
        print(text, flush=True)
