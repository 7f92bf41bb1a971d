"""The ledger of one process: a restart forgets nothing, and what expires counts once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dspy_worker.contract.budgets import Budget
from dspy_worker.core.book import GRACE
from dspy_worker.edge.ledger import Claim, Hold, Wish
from dspy_worker.edge.local_ledger import FILE, LocalLedger

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400_000
BUDGET = Budget(name="day", limit=1000)
OTHER = Budget(name="month", limit=5000, period="Month")
WISH = Wish(
    amount=100,
    milliseconds=60_000,
    claims=(Claim(budget=BUDGET, who=""), Claim(budget=OTHER, who="")),
    heed_soft=False,
)


class World:
    """A folder, a clock and the process that looks at both."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.now = 20_000 * DAY
        self.ledger = self.restart()

    def restart(self) -> LocalLedger:
        """Begin anew without having stopped, as after a kill."""
        self.ledger = LocalLedger("shop/tickets", self.folder, lambda: self.now)
        return self.ledger

    def hold(self) -> Hold:
        found = self.ledger.reserve_in_thread(WISH).hold
        assert found is not None
        return found

    def sums(self) -> list[tuple[int, int]]:
        found = [self.ledger.sum(budget) for budget in (BUDGET, OTHER)]
        return [(one.spent, one.reserved) for one in found]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


def test_a_restart_remembers_what_is_spent_and_what_is_set_aside(world: World) -> None:
    world.ledger.settle(world.hold(), 40)
    world.hold()

    world.restart()

    assert world.sums() == [(40, 100), (40, 100)]


@pytest.mark.parametrize("restarts", [0, 1, 3])
def test_what_nobody_settled_is_spent_once(world: World, restarts: int) -> None:
    """Whatever of it the file has heard when the process ends."""
    world.hold()
    world.now += WISH.milliseconds
    for _ in range(restarts):
        world.ledger.settle(world.hold(), 7)
        world.restart()

    world.ledger.settle(world.hold(), 0)
    world.restart()

    assert world.sums() == [(100 + 7 * restarts, 0)] * 2


def test_a_settlement_of_another_call_keeps_what_has_expired(world: World) -> None:
    world.hold()
    second = world.hold()
    world.now += WISH.milliseconds
    world.ledger.settle(second, 7)

    world.restart()

    assert world.sums()[0] == (107, 0)


def test_what_is_settled_late_costs_at_least_what_was_set_aside(world: World) -> None:
    cheap, dear = world.hold(), world.hold()
    world.now += WISH.milliseconds
    world.ledger.settle(world.hold(), 0)

    world.ledger.settle(cheap, 40)
    world.ledger.settle(dear, 130)

    assert world.sums()[0] == (100 + 130, 0)


def test_a_day_ends_and_a_month_goes_on(world: World) -> None:
    world.ledger.settle(world.hold(), 40)

    world.now += DAY

    assert world.sums() == [(0, 0), (40, 0)]


def test_a_call_that_ends_after_midnight_is_spent_on_the_day_that_it_began(world: World) -> None:
    hold = world.hold()
    world.now += DAY
    world.ledger.settle(hold, 40)
    today = world.sums()[0]
    world.now -= DAY

    assert (today, world.sums()[0]) == ((0, 0), (40, 0))


def test_old_accounts_are_forgotten(world: World) -> None:
    world.ledger.settle(world.hold(), 40)
    world.now += 31 * DAY + GRACE

    world.hold()
    world.restart()

    assert len(world.ledger._book.accounts) == 2


def test_a_refusal_says_when_the_money_may_come_back(world: World) -> None:
    tight = replace(WISH, amount=600, claims=WISH.claims[:1])
    hold = world.ledger.reserve_in_thread(tight).hold
    soon = world.ledger.reserve_in_thread(tight)
    assert hold is not None
    world.ledger.settle(hold, 600)
    world.now += 3_600_000
    late = world.ledger.reserve_in_thread(tight)

    assert (soon.refused, late.refused) == (BUDGET, BUDGET)
    assert (soon.waits_ms, late.waits_ms) == (2_000, DAY - 3_600_000)


def test_a_file_that_cannot_be_used_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is no database, and long enough to be read as one" * 99)

    world = World(tmp_path)
    world.ledger.settle(world.hold(), 40)

    assert world.sums()[0] == (40, 0)
    assert "a restart would forget it" in world.ledger.trouble()


async def test_a_ledger_that_is_stopped_can_be_asked(world: World) -> None:
    await world.ledger.stop()
    world.ledger.settle(world.hold(), 40)

    assert world.sums()[0] == (40, 0)
