"""A ledger of one process, kept in a small file so that a restart forgets nothing."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from typing import TYPE_CHECKING

from dspy_worker.core import period
from dspy_worker.core.book import Account, Book
from dspy_worker.edge import clock, ledger, logs, sqlite_file
from dspy_worker.edge.ledger import Hold, Sum, Verdict, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dspy_worker.contract.budgets import Budget
    from dspy_worker.edge.ledger import Spot

FILE = "budgets.sqlite"
SWEEP_MS = 60_000
_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS account (key TEXT PRIMARY KEY, total TEXT, ends INTEGER, spent INTEGER);
CREATE TABLE IF NOT EXISTS held (
    key TEXT, name TEXT, amount INTEGER, expires INTEGER, PRIMARY KEY (key, name)
) WITHOUT ROWID;
"""

log = logs.get()


class LocalLedger:
    """Accounts of this process, in memory and in a file."""

    name = "budgets"

    def __init__(
        self, app: str, folder: Path | None, time: Callable[[], int] = clock.unix_ms
    ) -> None:
        """Read what an earlier process has left.

        Args:
            app: NAMESPACE/NAME of the app.
            folder: Where the file is; None keeps nothing.
            time: Returns milliseconds since 1970.
        """
        self._app = app
        self._time = time
        self._book = Book()
        self._lock = threading.Lock()
        self._swept = 0
        self._trouble = ""
        self._file = None if folder is None else self._opened(folder)

    def trouble(self) -> str:
        """Return what does not work; empty if all does."""
        return self._trouble

    async def start(self) -> None:
        """Begin: nothing to do."""

    async def stop(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    async def reserve(self, wish: Wish) -> Verdict:
        """Set money aside; for the event loop."""
        return self.reserve_in_thread(wish)

    def reserve_in_thread(self, wish: Wish) -> Verdict:
        """Set money aside; for threads."""
        now = self._time()
        return self.reserve_at(wish, ledger.spots(self._app, wish.claims, now), now)

    def reserve_at(
        self, wish: Wish, spots: tuple[Spot, ...], now: int, floors: Sequence[int] = ()
    ) -> Verdict:
        """Set money aside in given accounts, of which so much is surely spent."""
        hold = Hold(name=uuid.uuid4().hex, amount=wish.amount, spots=spots)
        known = floors or [0] * len(spots)
        entries = [spot.entry(floor) for spot, floor in zip(spots, known, strict=True)]
        expires = now + wish.milliseconds
        with self._lock:
            self._sweep(now)
            outcome = self._book.reserve(
                hold.name,
                wish.amount,
                entries,
                now=now,
                expires=expires,
                heed_soft=wish.heed_soft,
            )
            if outcome.granted:
                self._keep(hold, now, expires=expires)
        return ledger.verdict(wish, hold, outcome, now)

    def settle(self, hold: Hold, cost: int) -> None:
        """Put the real cost in the place of a hold."""
        keys, now = [spot.key for spot in hold.spots], self._time()
        with self._lock:
            self._book.settle(hold.name, keys, amount=hold.amount, cost=cost)
            self._book.expire(keys, now)
            self._keep(hold, now)

    def sum(self, budget: Budget) -> Sum:
        """Return what a budget's accounts hold."""
        now = self._time()
        span = period.span(budget.period, now)
        total = ledger.total(self._app, budget, span)
        with self._lock:
            self._sweep(now)
            spent, reserved = self._book.totals.get(total, (0, 0))
        return Sum(span=span, now=now, spent=spent, reserved=reserved)

    def _sweep(self, now: int) -> None:
        """Spend what has expired; not at each call, for there may be many accounts."""
        if abs(now - self._swept) < SWEEP_MS:
            return
        self._swept = now
        before = set(self._book.accounts)
        self._book.sweep(now)
        gone = before - set(self._book.accounts)
        self._write(
            [("DELETE FROM account WHERE key = ?", (key,)) for key in gone]
            + [("DELETE FROM held WHERE key = ?", (key,)) for key in gone]
        )

    def _opened(self, folder: Path) -> sqlite3.Connection | None:
        try:
            found = sqlite_file.connect(folder / FILE, busy_seconds=1)
            found.executescript(_TABLES)
            for key, total, ends, spent in found.execute("SELECT * FROM account"):
                self._book.restore(key, Account(total=total, end=ends, spent=spent))
            for key, name, amount, expires in found.execute("SELECT * FROM held"):
                self._book.restore_hold(key, name, amount, expires)
        except (OSError, sqlite3.Error) as error:
            self._failed(error)
            return None
        return found

    def _keep(self, hold: Hold, now: int, expires: int | None = None) -> None:
        """Write the accounts of a hold, and the hold itself while it is open until `expires`."""
        found: list[tuple[str, tuple[object, ...]]] = []
        for key in (spot.key for spot in hold.spots):
            account = self._book.accounts.get(key)
            if account is None:
                continue
            row = (key, account.total, account.end, account.spent)
            found.append(("INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?)", row))
            # What has expired is part of `spent` by now.
            ended = (key, hold.name, now)
            found.append(("DELETE FROM held WHERE key = ? AND (name = ? OR expires <= ?)", ended))
            if expires is not None:
                held = (key, hold.name, hold.amount, expires)
                found.append(("INSERT INTO held VALUES (?, ?, ?, ?)", held))
        self._write(found)

    def _write(self, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
        if self._file is None or not statements:
            return
        try:
            with sqlite_file.transaction(self._file):
                for statement, values in statements:
                    self._file.execute(statement, values)
            self._trouble = ""
        except sqlite3.Error as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self._trouble:
            log.warning("what is spent cannot be kept on disk", error=type(error).__name__)
        self._trouble = "What is spent is not kept on disk: a restart would forget it."
