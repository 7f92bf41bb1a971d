"""Where is noted what an app has spent: what its users and its two kinds have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dspy_worker.core import period
from dspy_worker.core.book import Entry
from dspy_worker.edge.companion import Companion

if TYPE_CHECKING:
    from dspy_worker.contract.budgets import Budget
    from dspy_worker.core.book import Outcome
    from dspy_worker.core.period import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One budget that a request is charged to; `who` is the tenant, or empty."""

    budget: Budget
    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an attempt wants to set aside.

    Attributes:
        amount: The most that it may cost, in nanos; more than 0.
        milliseconds: After this time it is spent if nobody has settled it.
        claims: The budgets; at least one.
        heed_soft: Whether to say so, instead, when a cheaper model is wanted.
    """

    amount: int
    milliseconds: int
    claims: tuple[Claim, ...]
    heed_soft: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money that is set aside for one attempt.

    Attributes:
        name: Name of the reservation.
        amount: How much, in nanos.
        spots: The accounts.
        away: Whether Redis does not know of it.
    """

    name: str
    amount: int
    spots: tuple[Spot, ...]
    away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """An account in one period.

    Attributes:
        claim: Whose account it is.
        span: The period.
        app: NAMESPACE/NAME of the app.
        born: Tells the account from one that Redis has made anew after it lost its memory.
    """

    claim: Claim
    span: Span
    app: str
    born: str = ""

    @property
    def total(self) -> str:
        """Name of the sum over the accounts of the budget."""
        return total(self.app, self.claim.budget, self.span)

    @property
    def key(self) -> str:
        """Name of the account."""
        return f"{self.total}:of:{self.claim.who}"

    @property
    def open(self) -> str:
        """Name of its open reservations; no tenant can have a name that makes it an account."""
        return f"{self.total}:open:{self.claim.who}"

    def entry(self, floor: int = 0) -> Entry:
        """Return it as what a ledger decides on."""
        budget = self.claim.budget
        return Entry(
            key=self.key,
            total=self.total,
            end=self.span.end,
            limit=budget.limit,
            soft=budget.soft,
            enforced=budget.enforced,
            floor=floor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a wish.

    Attributes:
        hold: What is set aside; None where it was refused.
        soft: The budget that wants a cheaper model.
        refused: The budget in which the amount does not fit.
        waits_ms: Milliseconds until that may change: until money comes back from calls that are
            under way, else until the period ends.
        shadows: Budgets that would have refused.
        softened: Budgets in the shadow that would have wanted a cheaper model.
    """

    hold: Hold | None = None
    soft: Budget | None = None
    refused: Budget | None = None
    waits_ms: int = 0
    shadows: tuple[Budget, ...] = ()
    softened: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What all accounts of a budget hold in the present period, in nanos."""

    span: Span
    now: int
    spent: int
    reserved: int


class Ledger(Companion, Protocol):
    """Notes what is spent. Every hold has to be settled once."""

    async def reserve(self, wish: Wish) -> Verdict:
        """Set money aside; for the event loop.

        Raises:
            BudgetUnavailable: Nobody knows what is left, and a budget wants to know.
        """

    def reserve_in_thread(self, wish: Wish) -> Verdict:
        """Set money aside; for threads. Raises what `reserve` raises."""

    def settle(self, hold: Hold, cost: int) -> None:
        """Put the real cost in the place of a hold; returns at once."""

    def sum(self, budget: Budget) -> Sum:
        """Return what a budget's accounts hold, as far as it is known here."""


RETURNS_MS = 2_000
"""When to ask again if only calls under way hold the money."""


def total(app: str, budget: Budget, span: Span) -> str:
    """Return the name of the sum over a budget's accounts; in braces what shards go by."""
    return f"dspy:{{{app}}}:budget:{budget.name}:{span.name}"


def spots(app: str, claims: tuple[Claim, ...], now: int) -> tuple[Spot, ...]:
    """Return the accounts of claims at a moment, in milliseconds since 1970."""
    return tuple(
        Spot(claim=claim, span=period.span(claim.budget.period, now), app=app) for claim in claims
    )


def verdict(wish: Wish, hold: Hold, outcome: Outcome, now: int) -> Verdict:
    """Return what an outcome means for a wish; `hold` is what was to be set aside."""
    budgets = [spot.claim.budget for spot in hold.spots]
    if outcome.soft is not None:
        return Verdict(soft=budgets[outcome.soft])
    if outcome.refused is not None:
        spot, line = hold.spots[outcome.refused], outcome.lines[outcome.refused]
        fits = line.spent + wish.amount <= spot.claim.budget.limit
        waits = RETURNS_MS if fits else spot.span.end - now
        return Verdict(refused=spot.claim.budget, waits_ms=waits)
    dark = [(b, n) for b, n in zip(budgets, outcome.lines, strict=True) if not b.enforced]
    return Verdict(
        hold=hold,
        shadows=tuple(b for b, n in dark if n.spent + n.reserved > b.limit),
        softened=tuple(b for b, n in dark if b.soft is not None and n.spent >= b.soft),
    )
