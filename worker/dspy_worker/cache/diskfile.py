"""The SQLite file with answers; used by one thread of a worker, and by the command line."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from dspy_worker.core import generation
from dspy_worker.edge import sqlite_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dspy_worker.cache.place import Place

_P = ParamSpec("_P")
_T = TypeVar("_T")

FOLDER: Final = "answers"
FILE: Final = "answers.sqlite"
_PAGE: Final = 4096
_FILL: Final = 0.7
"""Share of the limit that answers may take; the rest is for what SQLite adds, and its log."""
_MAIN: Final = 0.85
"""Share of the limit that the file itself may take, whatever happens."""
_ROW_BYTES: Final = 350
"""What a row takes beside its value: the name, twice, and the room that pages leave free."""
_TOUCHES: Final = 256
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
    name TEXT PRIMARY KEY, variant TEXT NOT NULL, tag TEXT NOT NULL,
    value BLOB NOT NULL, ends INTEGER NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_used ON answers (used);
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, mark TEXT NOT NULL);
"""


class DiskTrouble(Exception):  # noqa: N818 - reads better where it is caught
    """The file cannot be used.

    Attributes:
        passes: Whether the next attempt may work: somebody else writes now.
    """

    def __init__(self, message: str, *, passes: bool = False) -> None:
        """Keep a sentence for people, without a path."""
        super().__init__(message)
        self.passes = passes


def _guarded(step: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let whatever SQLite and the file system raise leave as `DiskTrouble`."""

    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return step(*args, **kwargs)
        except sqlite3.Error as error:
            raise _trouble(error) from error
        except OSError as error:
            raise DiskTrouble("The folder for answers cannot be used.") from error

    return run


class DiskFile:
    """Answers by name, the least recently used go first."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open nothing yet; `folder` is the worker's data folder, `limit` is in bytes."""
        self.path = folder / FOLDER / FILE
        self._limit = limit
        self._used = 0
        self._clock = 0
        self._touched: set[str] = set()
        self._db: sqlite3.Connection | None = None

    @_guarded
    def open(self) -> bool:
        """Open the file; one that is damaged is begun anew."""
        self._shut()
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._shut()
            for path in self.path.parent.glob(f"{FILE}*"):
                path.unlink()
            self._connect()
        return True

    @_guarded
    def close(self) -> None:
        """Note what was used, and close the file."""
        self._note_uses()
        self._shut()

    @_guarded
    def get(self, name: str) -> bytes | None:
        """Return what is kept under a name."""
        row = self._run("SELECT CAST(value AS BLOB) FROM answers WHERE name = ?", name).fetchone()
        if row is None:
            return None
        self._touched.add(name)
        if len(self._touched) >= _TOUCHES:
            self._note_uses()
        return bytes(row[0])

    @_guarded
    def put(self, place: Place, value: bytes, ends: int) -> int:
        """Keep an answer until `ends`; return how many had to make room."""
        size = len(value) + _ROW_BYTES
        most = int(self._limit * _FILL)
        if size > most // 4:
            return 0
        evicted = self._evict(size) if self._used + size > most else 0
        try:
            self._insert(place, value, ends)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            evicted += self._evict(most // 4)
            self._insert(place, value, ends)
        self._used += size
        return evicted

    @_guarded
    def drop(self, name: str) -> None:
        """Remove one answer."""
        self._run("DELETE FROM answers WHERE name = ?", name)

    @_guarded
    def remove(self, variant: str, tag: str) -> int:
        """Remove answers of a variant, a tenant's tag, or both; return how many."""
        where = "(? = '' OR variant = ?) AND (? = '' OR tag = ?)"
        gone = self._run(f"DELETE FROM answers WHERE {where}", variant, variant, tag, tag)  # noqa: S608 - a constant
        self._measure()
        return gone.rowcount

    @_guarded
    def marks(self) -> dict[str, str]:
        """Return what was cleared by hand."""
        return dict(self._run("SELECT name, mark FROM marks").fetchall())

    @_guarded
    def learn(self, marks: Mapping[str, str]) -> None:
        """Write marks."""
        for name, mark in marks.items():
            self._run("INSERT OR REPLACE INTO marks VALUES (?, ?)", name, mark)

    @_guarded
    def tend(self, now: int) -> tuple[int, int]:
        """Remove what ended before `now`; return bytes of the file and number of answers."""
        self._note_uses()
        self._run("DELETE FROM answers WHERE ends < ?", now)
        self._measure()
        (count,) = self._run("SELECT count(*) FROM answers").fetchone()
        return sum(p.stat().st_size for p in self.path.parent.glob(f"{FILE}*")), count

    def clear(self, variant: str, tag: str, mark: str) -> int:
        """Clear answers by hand; return how many."""
        self.learn({generation.field(variant, tag): mark})
        return self.remove(variant, tag)

    def _insert(self, place: Place, value: bytes, ends: int) -> None:
        self._clock += 1
        self._run(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
            place.name, place.variant, place.tag, value, ends, self._clock,
        )  # fmt: skip

    def _evict(self, size: int) -> int:
        """Make room for so many bytes, and a little more, so that not each answer has to."""
        self._note_uses()
        wanted = max(size, int(self._limit * _FILL) // 20)
        names: list[tuple[object, ...]] = []
        for name, length in self._run("SELECT name, length(value) FROM answers ORDER BY used"):
            names.append((name,))
            wanted -= length + _ROW_BYTES
            self._used -= length + _ROW_BYTES
            if wanted <= 0:
                break
        self._many("DELETE FROM answers WHERE name = ?", names)
        return len(names)

    def _note_uses(self) -> None:
        if self._touched:
            self._clock += 1
            rows: list[tuple[object, ...]] = [(self._clock, name) for name in self._touched]
            self._touched.clear()
            self._many("UPDATE answers SET used = ? WHERE name = ?", rows)

    def _measure(self) -> None:
        sums = "SELECT count(*), coalesce(sum(length(value)), 0), coalesce(max(used), 0)"
        count, size, clock = self._run(f"{sums} FROM answers").fetchone()
        self._used = size + count * _ROW_BYTES
        self._clock = max(self._clock, clock)

    def _connect(self) -> None:
        db = sqlite_file.connect(self.path, busy_seconds=0.2)
        self._db = db
        # Set before there are tables, or not at all.
        db.execute(f"PRAGMA page_size = {_PAGE}")
        db.execute("PRAGMA journal_mode = WAL")
        # A crash of the machine may lose the last answers, and damages nothing.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA max_page_count = {int(self._limit * _MAIN) // _PAGE}")
        log_bytes = int(self._limit * (1 - _MAIN) / 2)
        db.execute(f"PRAGMA wal_autocheckpoint = {max(8, log_bytes // _PAGE)}")
        db.execute(f"PRAGMA journal_size_limit = {log_bytes}")
        db.executescript(_SCHEMA)
        self._measure()

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._database().execute(statement, values)

    def _many(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        """Run a statement for each row, all in one transaction."""
        db = self._database()
        with sqlite_file.transaction(db):
            db.executemany(statement, rows)

    def _database(self) -> sqlite3.Connection:
        if self._db is None:
            raise DiskTrouble("The file of answers is closed.", passes=True)
        return self._db

    def _shut(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code(error: sqlite3.Error) -> int:
    """Return the primary code of an error; the extended ones add details above the low byte."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _trouble(error: sqlite3.Error) -> DiskTrouble:
    if _is_damage(error):
        return DiskTrouble("The file of answers is damaged.")
    if _code(error) == sqlite3.SQLITE_FULL:
        return DiskTrouble("The disk for answers is full.")
    if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return DiskTrouble("The file of answers is in use.", passes=True)
    return DiskTrouble("The disk for answers cannot be written.")
