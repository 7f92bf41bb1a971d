"""Accounts with money that is spent and money that is set aside: what a ledger decides.

`reserve.lua` and `settle.lua` decide the same inside Redis; a test holds both equal.

    reserve   sets an amount aside in all accounts, or in none
    settle    puts the real cost in its place; 0 takes it back
    expiry    what nobody has settled in time is spent as it was set aside: who had it may have
              been killed after the call

Money is spent for ever: `spent` of an account never falls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GRACE = 172_800_000
"""Milliseconds for which an account is kept after its period: settlements may come late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One account that a request is charged to; amounts in nanos.

    Attributes:
        key: Name of the account, with its budget and period.
        total: Name of the sum over all accounts of that budget and period.
        end: End of the period, in milliseconds since 1970.
        limit: Most that may be spent.
        soft: From where on a cheaper model is wanted; None never.
        enforced: Whether the limit refuses anything.
        floor: What is known to be spent, whatever the ledger remembers.
    """

    key: str
    total: str
    end: int
    limit: int
    soft: int | None = None
    enforced: bool = True
    floor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an account and all accounts of its budget hold, in nanos."""

    spent: int
    reserved: int
    all_spent: int
    all_reserved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a wish to reserve; numbers are places in the list of entries.

    Attributes:
        refused: The account in which the amount does not fit; None where it fits.
        soft: The account that wants a cheaper model; None where there is none.
        lines: What the accounts hold now.
    """

    refused: int | None = None
    soft: int | None = None
    lines: tuple[Line, ...] = ()

    @property
    def granted(self) -> bool:
        """Whether the amount is set aside."""
        return self.refused is None and self.soft is None


@dataclass(slots=True, kw_only=True)
class Account:
    """One account; `open` holds amount and expiry by the reservation's name."""

    total: str
    end: int
    spent: int = 0
    reserved: int = 0
    open: dict[str, tuple[int, int]] = field(default_factory=dict)


class Book:
    """Accounts in memory; times in milliseconds since 1970.

    Attributes:
        accounts: They, by name.
        totals: What all accounts of a budget and period have spent and set aside.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.accounts: dict[str, Account] = {}
        self.totals: dict[str, tuple[int, int]] = {}

    def reserve(
        self,
        name: str,
        amount: int,
        entries: Sequence[Entry],
        *,
        now: int,
        expires: int,
        heed_soft: bool = False,
    ) -> Outcome:
        """Set an amount aside in all accounts, or in none.

        Args:
            name: Name of the reservation.
            amount: The most that the attempt may cost.
            entries: The accounts.
            now: The present.
            expires: When it is spent if nobody has settled it.
            heed_soft: Whether an account beyond its soft limit refuses too.
        """
        accounts = [self._account(entry, now) for entry in entries]
        pairs = list(zip(accounts, entries, strict=True))
        soft = next((i for i, (a, e) in enumerate(pairs) if heed_soft and _is_soft(a, e)), None)
        refused = next((i for i, (a, e) in enumerate(pairs) if not _fits(a, e, amount)), None)
        if soft is None and refused is None:
            for account in accounts:
                account.open[name] = (amount, expires)
                self._change(account, reserved=amount)
        return Outcome(
            refused=refused if soft is None else None, soft=soft, lines=self.lines(entries)
        )

    def settle(self, name: str, keys: Iterable[str], *, amount: int, cost: int) -> None:
        """Put the real cost in the place of a reservation.

        One that has expired stays spent; only what the call cost beyond it is added.
        """
        for key in keys:
            account = self.accounts.get(key)
            if account is None:
                continue
            if account.open.pop(name, None):
                self._change(account, spent=cost, reserved=-amount)
            else:
                self._change(account, spent=max(0, cost - amount))

    def restore(self, key: str, account: Account) -> None:
        """Take over an account without reservations from an earlier process."""
        self.accounts[key] = account
        spent, reserved = self.totals.get(account.total, (0, 0))
        self.totals[account.total] = (spent + account.spent, reserved)

    def restore_hold(self, key: str, name: str, amount: int, expires: int) -> None:
        """Take over a reservation of an account that is there."""
        account = self.accounts.get(key)
        if account is not None:
            account.open[name] = (amount, expires)
            self._change(account, reserved=amount)

    def expire(self, keys: Iterable[str], now: int) -> None:
        """Spend what has expired in some accounts."""
        for key in keys:
            account = self.accounts.get(key)
            if account is not None:
                self._expire(account, now)

    def sweep(self, now: int) -> None:
        """Spend what has expired, and forget accounts of long ago."""
        for key, account in list(self.accounts.items()):
            if now >= account.end + GRACE:
                del self.accounts[key]
                self.totals.pop(account.total, None)
            else:
                self._expire(account, now)

    def lines(self, entries: Iterable[Entry]) -> tuple[Line, ...]:
        """Return what accounts hold."""
        return tuple(self._line(entry) for entry in entries)

    def _line(self, entry: Entry) -> Line:
        account = self.accounts[entry.key]
        spent, reserved = self.totals[entry.total]
        return Line(
            spent=account.spent,
            reserved=account.reserved,
            all_spent=spent,
            all_reserved=reserved,
        )

    def _account(self, entry: Entry, now: int) -> Account:
        account = self.accounts.get(entry.key)
        if account is None:
            account = Account(total=entry.total, end=entry.end)
            self.accounts[entry.key] = account
        self._expire(account, now)
        self._change(account, spent=max(0, entry.floor - account.spent))
        return account

    def _expire(self, account: Account, now: int) -> None:
        for name, (amount, expires) in list(account.open.items()):
            if expires <= now:
                del account.open[name]
                self._change(account, spent=amount, reserved=-amount)

    def _change(self, account: Account, *, spent: int = 0, reserved: int = 0) -> None:
        account.spent += spent
        account.reserved += reserved
        all_spent, all_reserved = self.totals.get(account.total, (0, 0))
        self.totals[account.total] = (all_spent + spent, all_reserved + reserved)


def _is_soft(account: Account, entry: Entry) -> bool:
    return entry.enforced and entry.soft is not None and account.spent >= entry.soft


def _fits(account: Account, entry: Entry, amount: int) -> bool:
    return not entry.enforced or account.spent + account.reserved + amount <= entry.limit
