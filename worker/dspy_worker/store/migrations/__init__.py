"""The tables of the store, as numbered SQL files, and what of them a database lacks.

A file that was released is never changed; a change of the tables is a new file, and leaves what
workers of the version before can still write to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from dspy_worker.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

POSTGRES, SQLITE = "postgres", "sqlite"
TABLE = "store_migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step from one version of the tables to the next.

    Attributes:
        number: The version that it makes; the first is 1.
        name: What it brings.
        sql: Its statements.
        sha256: Hash of them.
    """

    number: int
    name: str
    sql: str
    sha256: str


def known(dialect: str) -> tuple[Migration, ...]:
    """Return the migrations of a dialect in their order."""
    folder = resources.files(__name__) / dialect
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return tuple(_migration(file.name, file.read_text(encoding="utf-8")) for file in files)


def missing(every: tuple[Migration, ...], applied: Mapping[int, str]) -> tuple[Migration, ...]:
    """Return what a database lacks.

    Args:
        every: All migrations, in their order.
        applied: Numbers and hashes of those that the database has.

    Raises:
        StoreError: It is not a database that this version may write to.
    """
    hashes = {migration.number: migration.sha256 for migration in every}
    newer = sorted(set(applied) - set(hashes))
    if newer:
        raise StoreError(
            f"The tables have version {newer[-1]}, this worker knows {max(hashes)}: it is too old."
        )
    changed = [number for number, sha256 in sorted(applied.items()) if hashes[number] != sha256]
    if changed:
        raise StoreError(
            f"Migration {changed[0]} of the tables is not the one that this worker has."
        )
    return tuple(migration for migration in every if migration.number not in applied)


def _migration(file: str, sql: str) -> Migration:
    number, _, name = file.removesuffix(".sql").partition("_")
    sha256 = hashlib.sha256(sql.encode()).hexdigest()
    return Migration(number=int(number), name=name, sql=sql, sha256=sha256)
