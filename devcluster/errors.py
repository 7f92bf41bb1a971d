"""The one error of this package: a sentence for a person, and where to read more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class DevclusterError(Exception):
    """A step failed in a way that only a person can repair.

    Attributes:
        log: File with the output of the failed step, or None when the message says it all.
    """

    def __init__(self, message: str, *, log: Path | None = None) -> None:
        """Keep the sentence and the log; `str()` shows both."""
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message} (log: {self.log})" if self.log else message
