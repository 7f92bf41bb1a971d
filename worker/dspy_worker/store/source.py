"""Which database a worker uses: PostgreSQL by its URL, or SQLite in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dspy_worker.contract import connections
from dspy_worker.edge import keys
from dspy_worker.errors import StoreError
from dspy_worker.store.postgres import Postgres
from dspy_worker.store.sqlite import SQLite

if TYPE_CHECKING:
    from pathlib import Path

    from dspy_worker.edge.keys import Key
    from dspy_worker.store.database import Database

FILE = "predictions.sqlite"


class Source(Protocol):
    """Gives the database that is to be used now."""

    async def opened(self) -> Database:
        """Return it, connected and with its tables up to date.

        Raises:
            StoreError: It cannot be used now.
        """

    async def close(self) -> None:
        """Disconnect."""


class FixedSource:
    """Always the same database."""

    def __init__(self, database: Database) -> None:
        """Keep it."""
        self._database = database

    async def opened(self) -> Database:
        """Return it, open."""
        await self._database.open()
        return self._database

    async def close(self) -> None:
        """Disconnect."""
        await self._database.close()


class PostgresSource:
    """The PostgreSQL server that a file or variable names at present."""

    def __init__(self, url: Key) -> None:
        """Look at nothing yet."""
        self._key = url
        self._url = ""
        self._database: Postgres | None = None

    async def opened(self) -> Database:
        """Return the database; another one when the URL has changed."""
        url = self._key.read()
        if url != self._url:
            await self.close()
        if url is None:
            raise StoreError(f"The URL of PostgreSQL is missing: {self._key.where}.")
        self._url, self._database = url, self._database or Postgres(url)
        await self._database.open()
        return self._database

    async def close(self) -> None:
        """Disconnect."""
        database, self._database = self._database, None
        if database is not None:
            await database.close()


def find(connections_dir: Path | None, data: Path) -> Source:
    """Return where predictions go: SQLite only outside of a cluster and where no URL is given.

    Args:
        connections_dir: Holds postgres/url; None outside of a pod.
        data: The worker's folder.
    """
    url = keys.find_url(connections.POSTGRES, connections_dir)
    if connections_dir is None and url.read() is None:
        return FixedSource(SQLite(data / FILE))
    return PostgresSource(url)
