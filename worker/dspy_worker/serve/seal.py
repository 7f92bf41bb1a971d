"""The secret behind the names of predictions: the app's ops token, else one kept on disk."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dspy_worker.core import predictionid
from dspy_worker.core.predictionid import PredictionId
from dspy_worker.edge import logs
from dspy_worker.serve.predict import new_id

if TYPE_CHECKING:
    from dspy_worker.edge.keys import Key
    from dspy_worker.serve.predict import Label

KEPT_FILE = "prediction-ids.key"
"""Keeps the secret of an app without an ops token."""
_KEPT = re.compile(rb"[0-9a-f]{64}")

log = logs.get()


class Seal:
    """Makes the names of a worker's predictions, and knows those of the whole app."""

    def __init__(self, label: Label, token: Key, folder: Path | None) -> None:
        """Read the token; the folder keeps a secret to use as long as there is none."""
        self._label = label
        self._token = token
        self._secret = token.read(now=True) or kept(folder)
        self._first = self._now = predictionid.key(self._secret, label.app)

    def name(self) -> str:
        """Return a new name for a prediction."""
        made = PredictionId(uuid=new_id(), variant=self._label.variant)
        return predictionid.write(made, self._key())

    def read(self, name: str) -> PredictionId | None:
        """Return what a name says, or None if it is not one of this app.

        Names from before the token was replaced are good for as long as this worker runs.
        """
        return predictionid.read(name, (self._key(), self._first))

    def _key(self) -> bytes:
        secret = self._token.read() or self._secret
        if secret != self._secret:
            self._secret, self._now = secret, predictionid.key(secret, self._label.app)
        return self._now


def kept(folder: Path | None) -> str:
    """Return the secret that a folder keeps, a new one if there is none.

    Where nothing can be kept, the secret lives as long as this process.
    """
    fresh = secrets.token_hex(32)
    if folder is None:
        return fresh
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _kept(folder / KEPT_FILE, fresh)
    except OSError as error:
        log.warning("secret_not_kept", folder=str(folder), error=type(error).__name__)
        return fresh


def _kept(path: Path, fresh: str) -> str:
    if path.exists() and not _KEPT.fullmatch(path.read_bytes()):
        path.unlink()  # a crash has cut it short
    if not path.exists():
        _publish(path, fresh)
    return path.read_text(encoding="utf-8")


def _publish(path: Path, secret: str) -> None:
    """Make the file with its whole content at once, unless another process is faster."""
    number, name = tempfile.mkstemp(dir=path.parent)  # nobody else may read it
    draft = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(secret)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
