"""All that is stored as one file, and back again, whichever database it came from or goes to.

A gzip of lines: notes in the form of the journal, and at the end a manifest with how many there are
and the SHA-256 of all lines before it. Restoring is writing: what is there already stays.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson

from dspy_worker.core import notes
from dspy_worker.core.answer import FeedbackRecord, Record
from dspy_worker.errors import StoreError
from dspy_worker.store import database as databases
from dspy_worker.store.database import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dspy_worker.core.notes import Note
    from dspy_worker.store.database import Database

FORMAT = 1
_BATCH = 500


@dataclass(slots=True, kw_only=True)
class Manifest:
    """What a backup holds.

    Attributes:
        format: Version of the form of the file.
        predictions: How many.
        feedback: How many.
        erasures: How many.
        sha256: Hash of all lines before the manifest.
    """

    format: int = FORMAT
    predictions: int = 0
    feedback: int = 0
    erasures: int = 0
    sha256: str = ""

    def count(self, note: Note) -> None:
        """Count a note."""
        if isinstance(note, Record):
            self.predictions += 1
        elif isinstance(note, FeedbackRecord):
            self.feedback += 1
        else:
            self.erasures += 1


async def write(database: Database, path: Path) -> Manifest:
    """Write all that is stored into a file, which appears only when it is whole.

    Raises:
        StoreError: The database cannot be read.
        OSError: The file cannot be written.
    """
    manifest, digest = Manifest(), hashlib.sha256()
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with gzip.open(scratch, "wb", compresslevel=6) as file:
            async for note in database.dump():
                line = notes.write(note)
                digest.update(line)
                manifest.count(note)
                file.write(line)
            manifest.sha256 = digest.hexdigest()
            file.write(orjson.dumps({"manifest": asdict(manifest)}) + b"\n")
        scratch.chmod(0o600)
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)
    return manifest


def check(path: Path) -> Manifest:
    """Return the manifest of a backup that is whole.

    Raises:
        StoreError: It is not; the message says why.
    """
    found, digest, before = Manifest(), hashlib.sha256(), b""
    for line in _lines(path):
        if before:
            digest.update(before)
            found.count(_note(before, path))
        before = line
    found.sha256 = digest.hexdigest()
    if found != _manifest(before, path):
        raise StoreError(f"{path} is damaged: it does not hold what its manifest says.")
    return found


async def restore(database: Database, path: Path) -> Counts:
    """Write a backup into a database and return what was not there yet.

    Raises:
        StoreError: The file is damaged, and nothing is written; or the database cannot be used.
    """
    await asyncio.to_thread(check, path)
    total = Counts(predictions=0, feedback=0)
    lines = (line for line in _lines(path) if not line.startswith(b"{"))
    while some := tuple(_note(line, path) for line in itertools.islice(lines, _BATCH)):
        counts = await database.write(databases.batch(some))
        total = Counts(
            predictions=total.predictions + counts.predictions,
            feedback=total.feedback + counts.feedback,
        )
    return total


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            yield from file
    except (OSError, EOFError) as error:
        raise StoreError(f"{path} cannot be read: {str(error).lower()}.") from error


def _note(line: bytes, path: Path) -> Note:
    note = notes.read(line)
    if note is None:
        raise StoreError(f"{path} is damaged: a line does not fit its checksum.")
    return note


def _manifest(line: bytes, path: Path) -> Manifest:
    try:
        return Manifest(**orjson.loads(line)["manifest"])
    except (ValueError, TypeError, KeyError):
        raise StoreError(f"{path} is damaged: it has no manifest at its end.") from None
