"""The keys of the language models: files that change under the running worker, or variables.

A key is never logged and never part of an error; outside of the engine only its fingerprint is
known.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Protocol

from dspy_worker import contract
from dspy_worker.contract.state import Credential

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dspy_worker.contract.app import Model

LOOK_SECONDS = 1.0
"""How long a look at the file is good for."""
ENVIRONMENT_PREFIX = "DSPY_KEY_"
URL_PREFIX = "DSPY_URL_"
"""Begins the variables with the URLs of Redis and PostgreSQL, which are as secret as keys."""
_FINGERPRINT_DIGITS = 12


class Key(Protocol):
    """One model's key, wherever it comes from."""

    @property
    def where(self) -> str:
        """Where a person has to put the key."""

    def read(self, *, now: bool = False) -> str | None:
        """Return the key; `now` looks at the file even if that was done a moment ago."""


class NoKey:
    """An endpoint that takes requests without a key."""

    where = "no key is needed"

    def read(self, *, now: bool = False) -> str | None:  # noqa: ARG002 - nothing can change
        """Return None: no key is sent."""
        return None


class FixedKey:
    """A key from the environment; it stays until the process ends."""

    def __init__(self, variable: str, value: str | None) -> None:
        """Keep the value that the variable had at the start."""
        self.where = f"environment variable {variable}"
        self._value = _clean(value or "")

    def read(self, *, now: bool = False) -> str | None:  # noqa: ARG002 - nothing can change
        """Return the key or None."""
        return self._value


class FileKey:
    """A key in a mounted file; the kubelet replaces the file when the Secret changes."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read nothing yet."""
        self.where = f"file {path}"
        self._path = path
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: tuple[int, ...] = ()
        self._value: str | None = None

    def read(self, *, now: bool = False) -> str | None:
        """Return the key, at most `LOOK_SECONDS` old."""
        moment = self._clock()
        if now or moment - self._looked >= LOOK_SECONDS:
            self._looked = moment
            self._look(force=now)
        return self._value

    def _look(self, *, force: bool) -> None:
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if force or stamp != self._stamp:
                self._value = _clean(self._path.read_text(encoding="utf-8"))
                self._stamp = stamp
        except (OSError, UnicodeDecodeError):
            self._value, self._stamp = None, ()


def find(model: Model, keys_dir: Path | None, environ: Mapping[str, str] = os.environ) -> Key:
    """Return where a model's key comes from: its file, else its environment variable."""
    variable = ENVIRONMENT_PREFIX + model.name.upper().replace("-", "_")
    path = keys_dir / model.name / contract.KEY_FILE if keys_dir else None
    if path and (model.key_secret or path.exists()):
        return FileKey(path)
    if model.key_secret or variable in environ:
        return FixedKey(variable, environ.get(variable))
    return NoKey()


def find_url(name: str, folder: Path | None, environ: Mapping[str, str] = os.environ) -> Key:
    """Return where the URL of a connection comes from: its file, else its environment variable.

    Args:
        name: Name of the connection, such as "redis".
        folder: Holds NAME/url; None outside of a pod.
        environ: The environment.
    """
    if folder is not None:
        return FileKey(folder / name / contract.URL_FILE)
    variable = URL_PREFIX + name.upper()
    return FixedKey(variable, environ.get(variable))


def credential(model: str, key: Key) -> Credential:
    """Return what may be told about a key."""
    value = key.read()
    return Credential(model=model, present=value is not None, fingerprint=fingerprint(value))


def fingerprint(value: str | None) -> str:
    """Return the first hex digits of a key's SHA-256, or nothing for no key."""
    return hashlib.sha256(value.encode()).hexdigest()[:_FINGERPRINT_DIGITS] if value else ""


def _clean(text: str) -> str | None:
    """Return what can be sent in a header; a stray line break must not end up there."""
    key = text.strip()
    return key if key and key.isascii() and key.isprintable() else None
