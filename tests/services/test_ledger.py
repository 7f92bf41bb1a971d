"""The ledger in Redis: the same decisions as the book, and nothing lost or told twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from dspy_worker.contract.budgets import Budget
from dspy_worker.core.book import Book, Entry
from dspy_worker.edge import ledger, redis_ledger, redis_link
from dspy_worker.edge.keys import FixedKey
from dspy_worker.edge.ledger import Claim, Hold, Wish
from dspy_worker.edge.redis_ledger import RedisLedger
from dspy_worker.edge.redis_link import RedisAway, RedisLink
from dspy_worker.edge.scripts import Script
from dspy_worker.errors import BudgetUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.redis_process import RedisProcess

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

APP = "shop/tickets"
SHARED = Budget(name="shared", limit=1000, soft_percent=50, cheaper_model="small")
EACH = Budget(name="each", limit=600, period="Month", per="Tenant")
DARK = Budget(name="dark", limit=300, mode="Shadow")
LONG = 10**9
amounts = st.integers(1, 400)


def claims(tenant: str = "blue") -> tuple[Claim, ...]:
    return tuple(
        Claim(budget=budget, who=tenant if budget.per == "Tenant" else "")
        for budget in (SHARED, EACH, DARK)
    )


def wish(amount: int, *, heed_soft: bool = False, **more: Any) -> Wish:  # noqa: ANN401 - fields
    given = {"milliseconds": 60_000, "claims": claims(), **more}
    return Wish(amount=amount, heed_soft=heed_soft, **given)


class TheSame(RuleBasedStateMachine):
    """The scripts in Redis and the book, side by side."""

    server: RedisProcess

    def __init__(self) -> None:
        super().__init__()
        self.client = self.server.client(decode=True)
        self.client.flushall()
        self.now = int(self.client.time()[0]) * 1000
        self.book = Book()
        self.scripts = {name: Script(name) for name in ("reserve", "settle")}
        self.holds: dict[str, Hold] = {}
        self.seen: dict[str, Entry] = {}
        self.paid: dict[str, int] = {}
        self.bounded = True
        self.count = 0

    def teardown(self) -> None:
        self.client.close()

    @rule(amount=amounts, tenant=st.sampled_from(["blue", "green"]), heed=st.booleans())
    def reserve(self, amount: int, tenant: str, *, heed: bool) -> None:
        self.count += 1
        asked = wish(amount, heed_soft=heed, claims=claims(tenant))
        spots = ledger.spots(APP, asked.claims, self.now)
        hold = Hold(name=f"r{self.count}", amount=amount, spots=spots)
        entries = [spot.entry() for spot in spots]
        self.seen |= {entry.key: entry for entry in entries}
        keys, arguments = redis_ledger._reservation(hold, asked, [("", 0)] * len(spots))

        told = self.scripts["reserve"].run_blocking(self.client, keys, arguments)
        expected = self.book.reserve(
            hold.name, amount, entries, now=self.now, expires=self.now + LONG, heed_soft=heed
        )

        place = {"refused": expected.refused, "soft": expected.soft, "granted": -1}
        assert place[told[0]] == int(told[1]) - 1
        rows = [told[i : i + 5] for i in range(3, len(told), 5)]
        assert [tuple(map(int, row[:4])) for row in rows] == [
            (line.spent, line.reserved, line.all_spent, line.all_reserved)
            for line in expected.lines
        ]
        if expected.granted:
            born = [row[4] for row in rows]
            marked = [replace(s, born=b) for s, b in zip(spots, born, strict=True)]
            self.holds[hold.name] = replace(hold, spots=tuple(marked))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), cost=st.integers(0, 500), twice=st.booleans())
    def settle(self, data: st.DataObject, cost: int, *, twice: bool) -> None:
        """Send it again too, as if no answer had come."""
        hold = self.holds.pop(data.draw(st.sampled_from(sorted(self.holds))))
        self.bounded &= cost <= hold.amount
        arguments: list[object] = [hold.name, hold.amount, cost, 0]
        for spot in hold.spots:
            arguments += [spot.span.end, spot.born, "", 0]
            expired = hold.name not in self.book.accounts[spot.key].open
            charge = max(cost, hold.amount) if expired else cost
            self.paid[spot.key] = self.paid.get(spot.key, 0) + charge
        keys = redis_ledger._keys(hold.spots)
        self.scripts["settle"].run_blocking(self.client, keys, arguments)
        if twice:
            arguments[3] = 1
            self.scripts["settle"].run_blocking(self.client, keys, arguments)
        names = [spot.key for spot in hold.spots]
        self.book.settle(hold.name, names, amount=hold.amount, cost=cost)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """Let a reservation's time be over; nobody can wait for it."""
        hold = self.holds[data.draw(st.sampled_from(sorted(self.holds)))]
        for spot in hold.spots:
            account = self.book.accounts[spot.key]
            if hold.name in account.open:
                account.open[hold.name] = (hold.amount, 0)
                self.client.zadd(spot.open, {f"{hold.name}:{hold.amount}": 0}, xx=True)

    @rule()
    def look(self) -> None:
        """Reserve nothing, so that both spend what has expired."""
        for entry in self.seen.values():
            self.book.expire([entry.key], self.now)
        for tenant in ("blue", "green"):
            spots = ledger.spots(APP, claims(tenant), self.now)
            if all(spot.key in self.seen for spot in spots):
                hold = Hold(name="look", amount=0, spots=spots)
                nothing = wish(0, claims=claims(tenant))
                known = [("", 0)] * len(spots)
                keys, arguments = redis_ledger._reservation(hold, nothing, known)
                self.scripts["reserve"].run_blocking(self.client, keys, arguments)

    @invariant()
    def accounts_hold_the_same(self) -> None:
        for key in self.seen:
            found = self.client.hmget(key, "spent", "reserved")
            account = self.book.accounts[key]
            assert [int(v or 0) for v in found] == [account.spent, account.reserved]

    @invariant()
    def nothing_is_overspent_while_the_bound_holds(self) -> None:
        for entry in self.seen.values():
            if entry.enforced and self.bounded:
                account = self.book.accounts[entry.key]
                assert account.spent + account.reserved <= entry.limit

    @invariant()
    def nothing_is_lost(self) -> None:
        """Spent is what was settled, and what has expired and is not settled yet."""
        for key in self.seen:
            account = self.book.accounts[key]
            open_ = [h for h in self.holds.values() if any(s.key == key for s in h.spots)]
            late = sum(hold.amount for hold in open_ if hold.name not in account.open)
            assert account.spent == self.paid.get(key, 0) + late

    @invariant()
    def everything_goes_away_by_itself(self) -> None:
        assert all(self.client.pttl(key) > 0 for key in self.client.scan_iter("dspy:*"))


def test_redis_decides_as_the_book(redis: RedisProcess) -> None:
    TheSame.server = redis
    quick = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_machine(TheSame, settings=quick)


class LossyLink(RedisLink):
    """Loses answers: Redis does what it was told, and nobody hears of it."""

    losses = 0
    cut = False

    @property
    def is_there(self) -> bool:
        return super().is_there and not self.cut

    def lose(self) -> None:
        """Let it be lost, as by an answer that has not come."""
        assert self._clients is not None
        self._lose(self._clients, TimeoutError())

    def mend(self) -> None:
        """Let Redis be found again."""
        self.lose()
        self.cut = False

    def ask_in_thread(self, question: Any) -> Any:  # noqa: ANN401 - as in RedisLink
        if self.cut:
            raise RedisAway
        return super().ask_in_thread(question)

    async def ask(self, question: Any) -> Any:  # noqa: ANN401 - as in RedisLink
        if self.cut:
            raise RedisAway
        answer = await super().ask(question)
        if self.losses:
            self.losses -= 1
            self.lose()
            raise RedisAway
        return answer


@asynccontextmanager
async def pod(
    server: RedisProcess, *budgets: Budget
) -> AsyncIterator[tuple[RedisLedger, LossyLink]]:
    link = LossyLink(FixedKey("URL", server.url))
    found = RedisLedger(APP, budgets or (SHARED, EACH, DARK), link)
    await link.start()
    await found.start()
    # Looks at the sums would be in the way of tests that count losses.
    found._tasks.pop().cancel()
    try:
        yield found, link
    finally:
        await found.stop()
        await link.stop()


async def until_there(link: RedisLink, *, is_there: bool = True) -> None:
    async with asyncio.timeout(20):
        while link.is_there != is_there:
            await asyncio.sleep(0.01)


async def sent(found: RedisLedger) -> None:
    async with asyncio.timeout(20):
        while found._waiting():
            await asyncio.sleep(0.01)


def held(server: RedisProcess, budget: Budget) -> dict[str, int]:
    with server.client(decode=True) as client:
        keys = [k for k in client.scan_iter("dspy:*") if f":budget:{budget.name}:" in k]
        (total,) = [k for k in keys if ":of:" not in k and ":open:" not in k]
        return {k: int(v) for k, v in client.hgetall(total).items()}


async def spend(found: RedisLedger, amount: int, cost: int) -> bool:
    verdict = await found.reserve(wish(amount))
    if verdict.hold is None:
        return False
    found.settle(verdict.hold, cost)
    await asyncio.sleep(0)
    return True


@pytest.mark.parametrize("cost", [40, 140])
@pytest.mark.parametrize("losses", [1, 2, 3])
async def test_a_settlement_without_an_answer_is_sent_again_and_counts_once(
    redis: RedisProcess, losses: int, cost: int
) -> None:
    async with pod(redis) as (found, link):
        verdict = await found.reserve(wish(100))
        assert verdict.hold is not None
        link.losses = losses
        found.settle(verdict.hold, cost)
        await sent(found)

    assert held(redis, SHARED) == {"spent": cost, "reserved": 0}


async def test_a_reservation_without_an_answer_is_taken_back(redis: RedisProcess) -> None:
    async with pod(redis) as (found, link):
        link.losses = 1
        verdict = await found.reserve(wish(100))
        assert verdict.hold is not None
        assert verdict.hold.away
        found.settle(verdict.hold, 40)
        await sent(found)

    assert held(redis, SHARED) == {"spent": 40, "reserved": 0}


async def test_what_is_spent_while_redis_is_away_is_posted_once(
    redis: RedisProcess,
) -> None:
    async with pod(redis) as (found, link):
        assert await spend(found, 100, 40)
        await sent(found)
        link.cut = True
        assert await spend(found, 100, 30)
        assert await spend(found, 100, 20)
        assert found.sum(SHARED).spent == 90
        link.losses = 2
        link.mend()
        await until_there(link)
        await sent(found)

    assert held(redis, SHARED)["spent"] == 90


async def test_without_redis_no_pod_spends_more_than_was_left(redis: RedisProcess) -> None:
    async with pod(redis) as (found, link), pod(redis) as (other, _):
        assert await spend(found, 400, 400)
        await sent(found)
        assert await spend(other, 100, 100)
        redis.kill()
        await until_there(link, is_there=False)

        spent = [await spend(found, 100, 100) for _ in range(10)]

        # In its tenant's account 200 of 600 were left, or 100 if the other pod's are known.
        assert spent.count(True) in {1, 2}
        redis.start()


async def test_a_redis_that_has_forgotten_learns_it_again(redis: RedisProcess) -> None:
    """Each pod tells what it knows; what is under way is not lost either."""
    async with pod(redis) as (first, one), pod(redis) as (second, two):
        assert await spend(first, 100, 70)
        await sent(first)
        assert await spend(second, 100, 60)
        await sent(second)
        open_ = (await first.reserve(wish(100))).hold
        assert open_ is not None
        redis.kill()
        await until_there(one, is_there=False)
        await until_there(two, is_there=False)
        redis.start()
        await until_there(one)
        await until_there(two)

        first.settle(open_, 50)
        await sent(first)
        assert await spend(second, 100, 9)
        await sent(second)

    assert held(redis, SHARED) == {"spent": 70 + 60 + 50 + 9, "reserved": 0}


async def test_the_soft_limit_is_reached_by_spent_money_alone(redis: RedisProcess) -> None:
    async with pod(redis, SHARED) as (found, _):

        def asked(amount: int) -> Wish:
            return wish(amount, heed_soft=True, claims=(Claim(budget=SHARED, who=""),))

        first, second = await found.reserve(asked(499)), await found.reserve(asked(1))
        assert first.hold is not None
        assert second.hold is not None
        found.settle(first.hold, 499)
        await sent(found)
        before = await found.reserve(asked(1))
        found.settle(second.hold, 1)
        await sent(found)

        assert before.soft is None
        assert (await found.reserve(asked(1))).soft == SHARED


async def test_a_clock_that_jumps_changes_nothing(redis: RedisProcess) -> None:
    async with pod(redis) as (found, _):
        assert await spend(found, 100, 70)
        await sent(found)
        found._offset += 40 * 86_400_000
        assert await spend(found, 100, 30)
        await sent(found)

    assert held(redis, SHARED) == {"spent": 100, "reserved": 0}


async def test_threads_and_the_event_loop_share_a_ledger(redis: RedisProcess) -> None:
    async with pod(redis) as (found, _):
        verdict = await asyncio.to_thread(found.reserve_in_thread, wish(100))
        assert verdict.hold is not None
        await asyncio.to_thread(found.settle, verdict.hold, 40)
        assert await spend(found, 100, 1)
        await sent(found)

    assert held(redis, SHARED) == {"spent": 41, "reserved": 0}


async def test_no_tenant_has_a_name_that_is_in_the_way_of_another(
    redis: RedisProcess,
) -> None:
    async with pod(redis) as (found, link):
        for tenant in ("blue", "blue:open", "open:blue", "of:blue", "", ":open"):
            verdict = await found.reserve(wish(10, claims=claims(tenant)))
            assert verdict.hold is not None
            assert not verdict.hold.away
            found.settle(verdict.hold, 7)
        await sent(found)
        assert link.is_there

    assert held(redis, EACH) == {"spent": 42, "reserved": 0}


async def test_a_cancelled_reservation_is_taken_back(redis: RedisProcess) -> None:
    async with pod(redis) as (found, _):
        assert await spend(found, 10, 1)
        tasks = [asyncio.create_task(found.reserve(wish(10))) for _ in range(20)]
        for task in tasks:
            await asyncio.sleep(0)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for one in done:
            if not isinstance(one, BaseException) and one.hold:
                found.settle(one.hold, 0)
        await sent(found)

    assert held(redis, SHARED) == {"spent": 1, "reserved": 0}


async def test_a_budget_that_wants_to_know_is_denied(redis: RedisProcess) -> None:
    careful = replace(SHARED, when_unavailable="Deny")
    async with pod(redis, careful) as (found, link):
        asked = wish(1, claims=(Claim(budget=careful, who=""),))
        assert (await found.reserve(asked)).hold is not None
        link.cut = True

        with pytest.raises(BudgetUnavailable):
            await found.reserve(asked)
        with pytest.raises(BudgetUnavailable):
            await asyncio.to_thread(found.reserve_in_thread, asked)


class Changing:
    """A URL that a test changes."""

    where = "here"

    def __init__(self, value: str | None) -> None:
        self.value = value

    def read(self, *, now: bool = False) -> str | None:
        return self.value


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (None, "Its URL is missing."),
        ("this is no URL", "Its URL cannot be used."),
        ("redis://127.0.0.1:1?no_such_option=1", "Its URL cannot be used."),
        ("redis://127.0.0.1:1", "It does not answer."),
    ],
)
async def test_the_url_may_be_wrong_and_change(
    redis: RedisProcess, wrong: str | None, told: str
) -> None:
    url = Changing(wrong)
    link = RedisLink(url)
    await link.start()
    try:
        assert link.trouble() == told
        with pytest.raises(RedisAway):
            await link.ask(lambda client: client.ping())
        with pytest.raises(RedisAway):
            await asyncio.to_thread(link.ask_in_thread, lambda client: client.ping())
        url.value = redis.url
        await until_there(link)
        assert link.trouble() == ""
        assert await link.ask(lambda client: client.ping())
        assert await asyncio.to_thread(link.ask_in_thread, lambda client: client.ping())
        url.value = wrong
        await until_there(link, is_there=False)
        assert link.trouble() == told
    finally:
        await link.stop()


async def test_a_question_is_answered_although_the_url_changes(redis: RedisProcess) -> None:
    """A password that is replaced costs nobody an answer."""
    url = Changing(redis.url)
    link = RedisLink(url)
    came_back = asyncio.Event()
    link.back.append(came_back.set)
    await link.start()
    try:
        came_back.clear()
        url.value = f"{redis.url}?client_name=changed"
        while not came_back.is_set():
            assert await link.ask(lambda client: client.ping())
        assert await link.ask(lambda client: client.client_getname()) == "changed"
    finally:
        await link.stop()


async def test_what_is_under_way_is_answered_although_another_question_is_lost(
    redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = LossyLink(FixedKey("URL", redis.url))
    await link.start()
    monkeypatch.setattr(redis_link, "ASK_SECONDS", 20.0)
    try:
        asked = asyncio.create_task(link.ask(lambda client: client.blpop(["list"], 0)))
        with redis.client(decode=True) as client:
            while not int(client.info("clients")["blocked_clients"]):
                await asyncio.sleep(0.01)
            link.lose()
            with pytest.raises(RedisAway):
                await link.ask(lambda client: client.ping())
            await until_there(link)
            client.rpush("list", "value")

        assert tuple(await asked) == (b"list", b"value")
    finally:
        await link.stop()


async def test_redis_is_found_away_although_nobody_asks(redis: RedisProcess) -> None:
    link = RedisLink(FixedKey("URL", redis.url))
    await link.start()
    try:
        assert link.is_there
        redis.kill()
        await until_there(link, is_there=False)
        assert link.trouble() == "It does not answer."
    finally:
        await link.stop()


async def test_redis_that_refuses_to_write_is_no_reason_to_forget(redis: RedisProcess) -> None:
    async with pod(redis) as (found, link):
        assert await spend(found, 100, 70)
        await sent(found)
        open_ = (await found.reserve(wish(100))).hold
        assert open_ is not None
        with redis.client() as client:
            client.config_set("maxmemory", 1)
            found.settle(open_, 50)
            assert await spend(found, 100, 9)
            assert link.is_there
            assert link.trouble() == "It refuses commands (OutOfMemoryError)."
            client.config_set("maxmemory", 0)
        await sent(found)

    assert held(redis, SHARED) == {"spent": 70 + 50 + 9, "reserved": 0}
