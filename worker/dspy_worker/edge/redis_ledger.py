"""A ledger that pods share in Redis.

    reserve          a script in Redis, before the attempt
    settle           goes into a queue; a task sends it, again until Redis has answered
    Redis is away    budgets that allow it go on: against what was known to be left, on this pod
                     alone. What was spent so is posted to Redis when it is back, each posting once.

With each wish goes what the pod knows to be spent. A Redis that has lost its memory learns it
again from the pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import uuid
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dspy_worker.core import period
from dspy_worker.core.book import Line, Outcome
from dspy_worker.edge import clock, ledger, logs
from dspy_worker.edge.ledger import Claim, Hold, Sum, Verdict
from dspy_worker.edge.local_ledger import LocalLedger
from dspy_worker.edge.redis_link import RedisAway
from dspy_worker.edge.scripts import Script
from dspy_worker.errors import BudgetUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dspy_worker.contract.budgets import Budget
    from dspy_worker.edge.ledger import Spot, Wish
    from dspy_worker.edge.redis_link import RedisLink

KNOWN: Final = 10_000
"""Accounts of which a pod remembers what was left."""
AT_ONCE: Final = 64
"""Settlements that go to Redis together."""
REFRESH_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0
"""Pause before settlements that Redis has refused are sent again."""
STOP_SECONDS: Final = 3.0
_TURNS: Final = 3
"""Attempts to name the period that Redis is in."""

log = logs.get()


@dataclass(slots=True, kw_only=True)
class _Settlement:
    """A hold that is to be settled; `repeated` after it was sent without an answer."""

    hold: Hold
    cost: int
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posting:
    """What was spent in an account while Redis was away."""

    name: str
    spot: Spot
    nanos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """What Redis told of an account; `born` tells it from one of before it lost its memory."""

    line: Line
    born: str


_NOTHING = _Account(line=Line(spent=0, reserved=0, all_spent=0, all_reserved=0), born="")


class RedisLedger:
    """Accounts in Redis."""

    name = "redis"

    def __init__(self, app: str, budgets: Iterable[Budget], link: RedisLink) -> None:
        """Ask nothing yet; `app` is NAMESPACE/NAME."""
        self._app = app
        self._budgets = tuple(budgets)
        self._link = link
        self._scripts = {name: Script(name) for name in ("reserve", "settle", "post")}
        self._offset = clock.unix_ms() - clock.monotonic_ms()
        self._known: dict[str, _Account] = {}
        self._totals: dict[str, tuple[int, int]] = {}
        self._spare = self._new_spare()
        self._unposted: dict[str, tuple[Spot, int]] = {}
        self._queue: deque[_Settlement] = deque()
        self._postings: deque[_Posting] = deque()
        self._lock = threading.Lock()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def trouble(self) -> str:
        """Return nothing: the link tells whether Redis is away."""
        return ""

    def now(self) -> int:
        """Return the time that Redis has, in milliseconds since 1970."""
        return clock.monotonic_ms() + self._offset

    async def start(self) -> None:
        """Begin to send settlements and to look at the sums."""
        self._loop = asyncio.get_running_loop()
        self._link.back.append(self._returned)
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._refresh())]
        self._wake.set()

    async def stop(self) -> None:
        """Send what waits, within a few seconds; what stays is spent when it expires."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        with contextlib.suppress(TimeoutError, RedisAway):
            async with asyncio.timeout(STOP_SECONDS):
                await self._send_all()
        if self._waiting():
            log.warning("settlements are lost", count=self._waiting())

    async def reserve(self, wish: Wish) -> Verdict:
        """Set money aside; for the event loop. Raises what `Ledger.reserve` raises."""
        name = uuid.uuid4().hex
        for _ in range(_TURNS if self._link.is_there else 0):
            hold = self._hold(wish, name)
            keys, arguments = _reservation(hold, wish, self._knowledge(hold.spots))
            try:
                answer = await self._link.ask(
                    lambda client, k=keys, a=arguments: self._scripts["reserve"].run(client, k, a)  # type: ignore[misc]
                )
            except BaseException as error:
                self._take_back(hold)
                if isinstance(error, RedisAway):
                    break
                raise
            if found := self._read(answer, hold, wish):
                return found
        return self._go_on(wish)

    def reserve_in_thread(self, wish: Wish) -> Verdict:
        """Set money aside; for threads. Raises what `Ledger.reserve` raises."""
        name = uuid.uuid4().hex
        for _ in range(_TURNS if self._link.is_there else 0):
            hold = self._hold(wish, name)
            keys, arguments = _reservation(hold, wish, self._knowledge(hold.spots))
            try:
                answer = self._link.ask_in_thread(
                    lambda client, k=keys, a=arguments: self._scripts["reserve"].run_blocking(  # type: ignore[misc]
                        client, k, a
                    )
                )
            except RedisAway:
                self._take_back(hold)
                break
            if found := self._read(answer, hold, wish):
                return found
        return self._go_on(wish)

    def settle(self, hold: Hold, cost: int) -> None:
        """Put the real cost in the place of a hold; returns at once."""
        if hold.away:
            self._spare.settle(hold, cost)
            self._owe(hold.spots, cost)
        else:
            self._queue.append(_Settlement(hold=hold, cost=cost))
        self._call()

    def sum(self, budget: Budget) -> Sum:
        """Return what a budget's accounts hold, as Redis said last, and what it has yet to hear."""
        now = self.now()
        span = period.span(budget.period, now)
        total = ledger.total(self._app, budget, span)
        spent, reserved = self._totals.get(total, (0, 0))
        with self._lock:
            owed = [nanos for spot, nanos in self._unposted.values() if spot.total == total]
        owed += [posting.nanos for posting in list(self._postings) if posting.spot.total == total]
        return Sum(span=span, now=now, spent=spent + sum(owed), reserved=reserved)

    def _hold(self, wish: Wish, name: str) -> Hold:
        spots = ledger.spots(self._app, wish.claims, self.now())
        return Hold(name=name, amount=wish.amount, spots=spots)

    def _knowledge(self, spots: Iterable[Spot]) -> list[tuple[str, int]]:
        """Return birth mark and spent money of accounts, as they were when Redis last told."""
        found = [self._known.get(spot.key, _NOTHING) for spot in spots]
        return [(known.born, known.line.spent) for known in found]

    def _read(self, answer: Sequence[bytes], hold: Hold, wish: Wish) -> Verdict | None:
        """Return what an answer means; None if Redis is in another period than was named."""
        status, place, now = answer[0].decode(), int(answer[1]), int(answer[2])
        self._offset = now - clock.monotonic_ms()
        if status == "turned":
            return None
        accounts = _accounts(answer[3:])
        self._learn(hold.spots, accounts)
        outcome = Outcome(
            refused=place - 1 if status == "refused" else None,
            soft=place - 1 if status == "soft" else None,
            lines=tuple(account.line for account in accounts),
        )
        spots = tuple(
            replace(spot, born=account.born)
            for spot, account in zip(hold.spots, accounts, strict=True)
        )
        return ledger.verdict(wish, replace(hold, spots=spots), outcome, now)

    def _learn(self, spots: Iterable[Spot], accounts: Iterable[_Account]) -> None:
        with self._lock:
            for spot, account in zip(spots, accounts, strict=True):
                before = self._known.pop(spot.key, _NOTHING)
                line = account.line
                if before.born == account.born:  # answers may overtake each other
                    line = replace(line, spent=max(line.spent, before.line.spent))
                self._known[spot.key] = _Account(line=line, born=account.born)
                self._totals.pop(spot.total, None)
                self._totals[spot.total] = (line.all_spent, line.all_reserved)
            while len(self._known) > KNOWN:
                self._known.pop(next(iter(self._known)))
            while len(self._totals) > 4 * len(self._budgets):
                self._totals.pop(next(iter(self._totals)))

    def _go_on(self, wish: Wish) -> Verdict:
        """Decide without Redis, against what was left when it last answered."""
        if any(c.budget.enforced and c.budget.when_unavailable == "Deny" for c in wish.claims):
            raise BudgetUnavailable(
                "What is left of the budget cannot be looked up at present.", retry_after=2
            )
        now = self.now()
        spots = ledger.spots(self._app, wish.claims, now)
        with self._lock:
            floors = [self._floor_alone(spot) for spot in spots]
        found = self._spare.reserve_at(wish, spots, now, floors)
        return found if found.hold is None else replace(found, hold=replace(found.hold, away=True))

    def _floor_alone(self, spot: Spot) -> int:
        known = self._known.get(spot.key, _NOTHING).line
        owed = self._unposted.get(spot.key, (spot, 0))[1]
        owed += sum(
            posting.nanos for posting in list(self._postings) if posting.spot.key == spot.key
        )
        return owed + known.spent + known.reserved

    def _take_back(self, hold: Hold) -> None:
        """Release a reservation of which nobody knows whether Redis has made it."""
        self._queue.append(_Settlement(hold=hold, cost=0))
        self._call()

    def _owe(self, spots: Iterable[Spot], cost: int) -> None:
        with self._lock:
            for spot in spots:
                _, before = self._unposted.get(spot.key, (spot, 0))
                if before + cost:
                    self._unposted[spot.key] = (spot, before + cost)

    def _new_spare(self) -> LocalLedger:
        return LocalLedger(self._app, None, self.now)

    def _returned(self) -> None:
        """Begin anew with what Redis knows."""
        self._spare = self._new_spare()
        self._wake.set()

    def _call(self) -> None:
        """Wake the task that sends; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake.set)

    def _waiting(self) -> int:
        return len(self._queue) + len(self._postings) + len(self._unposted)

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._send_all()
            except RedisAway:
                # The link wakes this task when Redis is back; nobody does when it has refused.
                if self._link.is_there:
                    await self._try_later()
            except Exception as error:  # noqa: BLE001 - without this task nothing would be settled
                log.warning("settlements failed", error=type(error).__name__)
                await self._try_later()

    async def _try_later(self) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        self._wake.set()

    async def _send_all(self) -> None:
        while self._waiting() and self._link.is_there:
            await self._send_postings()
            await self._send_settlements()

    async def _send_postings(self) -> None:
        with self._lock:
            owed, self._unposted = self._unposted, {}
            self._postings.extend(
                _Posting(name=uuid.uuid4().hex, spot=spot, nanos=nanos)
                for spot, nanos in owed.values()
            )
        while self._postings:
            posting = self._postings[0]
            keys = [posting.spot.key, posting.spot.total]
            arguments = [posting.name, posting.nanos, posting.spot.span.end]
            arguments += self._knowledge([posting.spot])[0]
            answer = await self._link.ask(
                lambda client, k=keys, a=arguments: self._scripts["post"].run(client, k, a)  # type: ignore[misc]
            )
            self._postings.popleft()
            self._learn([posting.spot], _accounts(answer))

    async def _send_settlements(self) -> None:
        """Send the oldest ones together; without an answer they stay in the queue."""
        batch = list(itertools.islice(self._queue, AT_ONCE))
        if not batch:
            return
        calls = [self._settlement(one) for one in batch]
        for one in batch:
            one.repeated = True
        answers = await self._link.ask(
            lambda client: self._scripts["settle"].run_all(client, calls)
        )
        for one, answer in zip(batch, answers, strict=True):
            self._queue.popleft()
            self._learn(one.hold.spots, _accounts(answer))

    def _settlement(self, one: _Settlement) -> tuple[list[str], list[object]]:
        """Return keys and arguments of the script that settles."""
        spots = one.hold.spots
        arguments: list[object] = [one.hold.name, one.hold.amount, one.cost, int(one.repeated)]
        for spot, known in zip(spots, self._knowledge(spots), strict=True):
            arguments += [spot.span.end, spot.born, *known]
        return _keys(spots), arguments

    async def _refresh(self) -> None:
        """Look at the sums now and then: other pods spend too, and pods that were killed."""
        while True:
            if self._link.is_there:
                with contextlib.suppress(RedisAway):
                    await self._look()
            await asyncio.sleep(REFRESH_SECONDS)

    async def _look(self) -> None:
        """Ask for the accounts of the whole app, and the sums over tenants."""
        shared = [budget for budget in self._budgets if budget.per == "App"]
        claims = tuple(Claim(budget=budget, who="") for budget in shared)
        if claims:
            nothing = ledger.Wish(amount=0, milliseconds=0, claims=claims, heed_soft=False)
            hold = self._hold(nothing, uuid.uuid4().hex)
            keys, arguments = _reservation(hold, nothing, self._knowledge(hold.spots))
            answer = await self._link.ask(
                lambda client: self._scripts["reserve"].run(client, keys, arguments)
            )
            self._read(answer, hold, nothing)
        for budget in (budget for budget in self._budgets if budget.per == "Tenant"):
            total = ledger.total(self._app, budget, period.span(budget.period, self.now()))
            found = await self._link.ask(
                lambda client, t=total: client.hmget(t, "spent", "reserved")  # type: ignore[misc]
            )
            self._totals[total] = (int(found[0] or 0), int(found[1] or 0))


def _keys(spots: Iterable[Spot]) -> list[str]:
    return [key for spot in spots for key in (spot.key, spot.open, spot.total)]


def _reservation(
    hold: Hold, wish: Wish, knowledge: Sequence[tuple[str, int]]
) -> tuple[list[str], list[object]]:
    """Return keys and arguments of the script that reserves."""
    arguments: list[object] = [hold.name, wish.amount, wish.milliseconds, int(wish.heed_soft)]
    for spot, known in zip(hold.spots, knowledge, strict=True):
        budget, soft = spot.claim.budget, spot.claim.budget.soft
        arguments += [spot.span.start, spot.span.end, budget.limit, -1 if soft is None else soft]
        arguments += [int(budget.enforced), *known]
    return _keys(hold.spots), arguments


def _accounts(rows: Sequence[bytes]) -> list[_Account]:
    """Return what a script tells of accounts, five values of each."""
    found = []
    for start in range(0, len(rows), 5):
        spent, reserved, all_spent, all_reserved = map(int, rows[start : start + 4])
        line = Line(spent=spent, reserved=reserved, all_spent=all_spent, all_reserved=all_reserved)
        found.append(_Account(line=line, born=rows[start + 4].decode()))
    return found
