"""What attempts set aside and what is spent for them, with a ledger in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from dspy import lm15
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dspy_worker.contract.budgets import Budget
from dspy_worker.contract.models import BreakerPolicy, Model
from dspy_worker.contract.money import Price
from dspy_worker.edge import bound, engine, fallback, keys
from dspy_worker.edge import call as calls
from dspy_worker.edge.attempts import Link
from dspy_worker.edge.call import Call, Origin
from dspy_worker.edge.costs import Costs
from dspy_worker.edge.guard import Guard
from dspy_worker.edge.local_ledger import LocalLedger
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.edge.till import Till
from dspy_worker.errors import BudgetExhausted, LMCircuitOpen
from dspy_worker.testing import USAGE, FakeLM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PRICE = Price(input=1_000_000, output=10_000_000, cached=0)
"""A nano for each token of a prompt, ten for each of an answer."""
COST = 10 * 1 + 5 * 10
"""What `USAGE` of the fake LM costs."""
REQUEST = lm15.Request(
    model="openai/m",
    messages=(lm15.Message.user("Hello"),),
    config=lm15.Config(max_tokens=100),
)
PROMPT = bound.input_tokens(REQUEST)
MOST = PROMPT + 100 * 10
BUDGET = Budget(name="day", limit=1_000_000)
HIGH = 10**12
BROKEN = lm15.ServerError("broken", status=500)


def model(name: str = "main", **more: Any) -> Model:  # noqa: ANN401 - fields of a model
    given = {"price": PRICE, "max_tokens": 100, "max_retries": 0, **more}
    return Model(name=name, model=name, endpoint="http://lm.example.com/v1", **given)


class Script(FakeLM):
    """Stands in for lm15's client."""

    def with_key(self, key: str | None) -> Script:
        return self

    async def complete(self, request: lm15.Request) -> lm15.Response:
        return self.answer(request)


class World:
    """Models that answer from scripts, and a ledger in memory."""

    def __init__(self, *budgets: Budget) -> None:
        self.budgets = budgets or (BUDGET,)
        self.metrics = Metrics("tickets")
        self.costs = Costs(self.metrics.registry, "tickets")
        self.ledger = LocalLedger("shop/tickets", None)
        self.costs.show(self.budgets, self.ledger.sum)
        self.scripts: dict[str, Script] = {}
        self.clock = 1000.0

    def link(self, found: Model) -> Link:
        return Link(
            model=found,
            key=keys.NoKey(),
            metrics=self.metrics,
            guard=Guard(found, self.metrics, lambda: self.clock),
            connections=1,
            threads=1,
            till=Till(found, self.costs, self.ledger, self.budgets),
        )

    def ask(
        self,
        answers: Mapping[str, list[object]],
        usual: tuple[str, ...] = ("main",),
        cheaper: Mapping[str, tuple[str, ...]] | None = None,
        **models: Model,
    ) -> Any:  # noqa: ANN401 - an engine
        names = [*usual, *(name for order in (cheaper or {}).values() for name in order)]
        links = {name: self.link(models.get(name, model(name))) for name in names}
        made = engine._pair(
            [links[name] for name in usual],
            {k: [links[name] for name in order] for k, order in (cheaper or {}).items()},
        )[1]
        for one in made._routes.engines if isinstance(made, fallback.AsyncChain) else [made]:
            self.scripts[one.model.name] = Script(answers[one.model.name])
            one._client = self.scripts[one.model.name]
        return made

    def spent(self, budget: Budget = BUDGET) -> int:
        found = self.ledger.sum(budget)
        assert found.reserved == 0
        return found.spent

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture(autouse=True)
def call() -> Iterator[Call]:
    made = Call(float("inf"), Origin(tenant="blue"))
    token = calls.CURRENT.set(made)
    yield made
    calls.CURRENT.reset(token)


async def test_what_an_answer_costs_is_spent_and_told(call: Call) -> None:
    world = World()
    calls.CURRENT.set(call)

    await world.ask({"main": ["yes"]}).complete(REQUEST)

    assert (world.spent(), call.cost) == (COST, COST)
    labels = {"app": "tickets", "model": "main"}
    assert world.count("dspy_cost_usd_total", **labels) == pytest.approx(COST / 1e9)


async def test_an_unknown_price_is_counted_and_no_guess(call: Call) -> None:
    world = World()
    calls.CURRENT.set(call)

    await world.ask({"main": ["yes"]}, main=model(price=None)).complete(REQUEST)

    assert call.cost is None
    assert world.count("dspy_cost_unknown_total", model="main") == 1


def test_nothing_asked_costs_nothing() -> None:
    assert Call(float("inf")).cost == 0


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class ConnectError(Exception):
    """Has the name of lm15's."""


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (lm15.InvalidRequestError("no", status=400), 0),
        (lm15.AuthError("no", status=401), 0),
        (lm15.RateLimitError("slow", status=429), 0),
        (caused(lm15.TransportError("gone"), ConnectError()), 0),
        (lm15.UnsupportedFeatureError("no"), 0),
        (lm15.ServerError("broken", status=500), PROMPT),
        (lm15.ServerError("broken", status=503), PROMPT),
        (lm15.ServerError("gateway", status=502), MOST),
        (lm15.TimeoutError("gateway", status=504), MOST),
        (lm15.TimeoutError("late"), MOST),
        (lm15.TransportError("gone"), MOST),
        (lm15.ServerError("in the middle of a stream"), MOST),
        (lm15.RateLimitError("in the middle of a stream"), MOST),
        (RuntimeError("of ours"), MOST),
    ],
    ids=str,
)
async def test_what_a_failed_attempt_may_have_cost_is_spent(error: Exception, spent: int) -> None:
    world = World()

    with pytest.raises(type(error)):
        await world.ask({"main": [error]}).complete(REQUEST)

    assert world.spent() == spent


async def test_what_a_cancelled_attempt_may_have_cost_is_spent() -> None:
    world = World()
    asked = world.ask({"main": ["yes"]})
    begun = asyncio.Event()

    async def wait(request: lm15.Request) -> lm15.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    world.scripts["main"].complete = wait  # type: ignore[method-assign]
    task = asyncio.create_task(asked.complete(REQUEST))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert world.spent() == MOST


@pytest.mark.parametrize(
    ("usage", "spent", "told"),
    [
        (lm15.Usage(), MOST, None),
        (lm15.Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4), 6 + 50, 56),
        (lm15.Usage(input_tokens=10, output_tokens=5, total_tokens=25), 10 + 150, 160),
        (lm15.Usage(input_tokens=10, output_tokens=5, cache_write_tokens=1), MOST, None),
        (lm15.Usage(input_tokens=10, output_tokens=200), 10 + 2000, 2010),
    ],
    ids=["not told", "cached", "reasoning beside the answer", "written to a cache", "overrun"],
)
async def test_the_providers_count_decides(
    call: Call, usage: lm15.Usage, spent: int, told: int | None
) -> None:
    world = World()
    calls.CURRENT.set(call)
    asked = world.ask({"main": ["yes"]})
    answer = world.scripts["main"].answer
    world.scripts["main"].answer = lambda request: replace(answer(request), usage=usage)  # type: ignore[method-assign]

    await asked.complete(REQUEST)

    assert (world.spent(), call.cost) == (spent, told)
    assert world.count("dspy_budget_overrun_total", model="main") == (spent > MOST)


async def test_an_open_circuit_sets_nothing_aside() -> None:
    world = World()
    asked = world.ask({"main": [lm15.ServerError("broken", status=500)]})
    for _ in range(10):
        with pytest.raises(lm15.ServerError):
            await asked.complete(REQUEST)
    before = world.spent()

    with pytest.raises(LMCircuitOpen):
        await asked.complete(REQUEST)

    assert world.spent() == before


async def test_a_refusal_is_no_failure_of_the_model_and_is_not_repeated() -> None:
    world = World(replace(BUDGET, limit=MOST - 1))
    asked = world.ask({"main": ["yes"]}, main=model(max_retries=5))

    for _ in range(20):
        with pytest.raises(BudgetExhausted) as caught:
            await asked.complete(REQUEST)

    assert caught.value.budget == "day"
    assert world.scripts["main"].requests == []
    assert world.count("dspy_lm_circuit_open", model="main") == 0
    assert world.count("dspy_budget_refused_total", app="tickets", budget="day") == 20


async def test_a_refusal_tells_the_circuit_nothing() -> None:
    """Else refusals would hide that all calls fail."""
    world = World(replace(BUDGET, limit=PROMPT + MOST - 1))
    policy = BreakerPolicy(minimum_calls=1, failure_percent=100)
    asked = world.ask({"main": [BROKEN]}, main=model(breaker=policy))
    too_dear = replace(REQUEST, config=lm15.Config(max_tokens=10_000))

    with pytest.raises(BudgetExhausted):
        await asked.complete(too_dear)
    with pytest.raises(lm15.ServerError):
        await asked.complete(REQUEST)
    with pytest.raises(LMCircuitOpen):
        await asked.complete(REQUEST)


async def test_a_probe_that_is_refused_gives_its_place_back() -> None:
    world = World(replace(BUDGET, limit=MOST))
    policy = BreakerPolicy(minimum_calls=1, open_seconds=1)
    asked = world.ask({"main": [BROKEN, "yes"]}, main=model(breaker=policy))
    with pytest.raises(lm15.ServerError):
        await asked.complete(REQUEST)
    world.clock += 5

    for _ in range(5):
        with pytest.raises(BudgetExhausted):
            await asked.complete(REQUEST)


async def test_all_budgets_or_none() -> None:
    tight = replace(BUDGET, name="tight", limit=1)
    world = World(BUDGET, tight)

    with pytest.raises(BudgetExhausted, match="'tight'"):
        await world.ask({"main": ["yes"]}).complete(REQUEST)

    assert (world.spent(), world.spent(tight)) == (0, 0)


async def test_a_tenant_spends_its_own(call: Call) -> None:
    each = replace(BUDGET, per="Tenant", limit=MOST + COST)
    world = World(each)
    asked = world.ask({"main": ["yes"]})

    async def answers(tenant: str) -> int:
        calls.CURRENT.set(Call(float("inf"), Origin(tenant=tenant)))
        found = 0
        while found < 5:
            try:
                await asked.complete(REQUEST)
            except BudgetExhausted:
                return found
            found += 1
        return found

    assert [await answers("blue"), await answers("green"), await answers("blue")] == [2, 2, 0]
    assert world.spent(each) == 4 * COST


CHEAP = Price(input=1_000, output=1_000, cached=1_000)


async def test_a_fallback_that_fits_answers_for_one_that_does_not(call: Call) -> None:
    world = World(replace(BUDGET, limit=MOST - 1))
    calls.CURRENT.set(call)
    asked = world.ask(
        {"main": ["dear"], "spare": ["cheap"]}, ("main", "spare"), spare=model("spare", price=CHEAP)
    )

    answer = await asked.complete(REQUEST)

    assert answer.message.text == "cheap"
    assert call.degraded == ("fallback:spare",)


async def test_a_fallback_that_is_too_dear_is_no_news_of_the_first() -> None:
    world = World(replace(BUDGET, limit=MOST))
    asked = world.ask(
        {"main": [lm15.RateLimitError("slow", status=429)], "spare": ["yes"]},
        ("main", "spare"),
        spare=model("spare", max_tokens=1000),
    )

    with pytest.raises(lm15.RateLimitError):
        await asked.complete(REQUEST)


SOFT = replace(BUDGET, limit=HIGH, soft_percent=1, cheaper_model="small")


def spend(world: World, share: float) -> None:
    """Let a part of the first budget be spent."""
    wish = world.link(model()).till._wish(REQUEST, calls.current(), heed_soft=False)  # type: ignore[union-attr]
    assert wish is not None
    hold = world.ledger.reserve_in_thread(wish).hold
    assert hold is not None
    world.ledger.settle(hold, int(world.budgets[0].limit * share))


@pytest.mark.parametrize(
    ("share", "text", "degraded"),
    [(0.0099, "dear", ()), (0.01, "cheap", ("budget:day",))],
)
async def test_the_cheaper_model_is_first_from_the_soft_limit_on(
    call: Call, share: float, text: str, degraded: tuple[str, ...]
) -> None:
    world = World(SOFT)
    calls.CURRENT.set(call)
    spend(world, share)
    asked = world.ask(
        {"main": ["dear"], "small": ["cheap"]}, cheaper={"day": ("small",)}, small=model("small")
    )

    answer = await asked.complete(REQUEST)

    assert (answer.message.text, call.degraded) == (text, degraded)
    soft = world.count("dspy_budget_soft_total", app="tickets", budget="day")
    assert soft == len(degraded)


async def test_the_usual_model_answers_when_the_cheaper_one_cannot(call: Call) -> None:
    world = World(SOFT)
    calls.CURRENT.set(call)
    spend(world, 0.5)
    broken = lm15.ServerError("broken", status=500)
    asked = world.ask({"main": ["dear"], "small": [broken]}, cheaper={"day": ("small",)})

    answer = await asked.complete(REQUEST)

    assert answer.message.text == "dear"
    assert call.degraded == ()


async def test_a_cheaper_model_is_asked_when_the_usual_one_does_not_fit(call: Call) -> None:
    world = World(replace(SOFT, limit=MOST - 1, soft_percent=99))
    calls.CURRENT.set(call)
    asked = world.ask(
        {"main": ["dear"], "small": ["cheap"]},
        cheaper={"day": ("small",)},
        small=model("small", price=CHEAP),
    )

    assert (await asked.complete(REQUEST)).message.text == "cheap"
    assert call.degraded == ("budget:day",)


async def test_no_model_is_asked_twice_on_the_way(call: Call) -> None:
    world = World(replace(SOFT, limit=MOST - 1, soft_percent=99))
    calls.CURRENT.set(call)
    broken = lm15.ServerError("broken", status=500)
    asked = world.ask(
        {"main": ["dear"], "small": [broken]},
        cheaper={"day": ("small",)},
        small=model("small", price=CHEAP),
    )

    with pytest.raises(lm15.ServerError):
        await asked.complete(REQUEST)

    assert world.count("dspy_budget_refused_total", app="tickets", budget="day") == 1


async def test_a_shadow_never_turns_anything_away_or_around() -> None:
    world = World(replace(SOFT, limit=MOST - 1, mode="Shadow"))
    spend(world, 2)
    asked = world.ask({"main": ["dear"], "small": ["cheap"]}, cheaper={"day": ("small",)})

    assert (await asked.complete(REQUEST)).message.text == "dear"
    labels = {"app": "tickets", "budget": "day"}
    assert world.count("dspy_budget_would_refuse_total", **labels) == 1
    assert world.count("dspy_budget_soft_total", **labels) == 1
    assert world.count("dspy_budget_refused_total", **labels) == 0


async def test_a_program_that_takes_the_limit_out_keeps_the_models() -> None:
    world = World()
    asked = world.ask({"main": ["yes"]})

    await asked.complete(replace(REQUEST, config=lm15.Config()))

    assert world.scripts["main"].requests[0].config.max_tokens == 100


texts = st.text(max_size=200)


@given(st.lists(texts.filter(bool), min_size=1, max_size=4), texts)
def test_a_prompt_has_no_more_tokens_than_bytes_and_a_margin(said: list[str], system: str) -> None:
    request = lm15.Request(
        model="m",
        messages=tuple(lm15.Message.user(text) for text in said),
        system=system or None,
    )
    exact = sum(len(text.encode("utf-8", "surrogatepass")) for text in (*said, system))

    assert bound.input_tokens(request) >= exact + bound.PART_TOKENS * len(said)


def test_tools_formats_and_pictures_count_too() -> None:
    tool = lm15.FunctionTool(name="find", description="x" * 500, parameters={"type": "object"})
    picture = lm15.ImagePart(url="https://example.com/a.png")
    asked = replace(REQUEST, tools=(tool,))
    shown = replace(REQUEST, messages=(lm15.Message(role="user", parts=(picture,)),))
    formed = replace(
        REQUEST,
        config=lm15.Config(response_format={"type": "json_schema", "schema": {"title": "y" * 300}}),
    )

    assert bound.input_tokens(asked) > PROMPT + 500 + bound.TOOLS_TOKENS
    assert bound.input_tokens(shown) > bound.MEDIA_TOKENS
    assert bound.input_tokens(formed) > PROMPT + 300


def test_a_limit_in_the_providers_own_words_counts() -> None:
    config = lm15.Config(max_tokens=10, extensions={"max_completion_tokens": 500})

    assert bound.output_tokens(replace(REQUEST, config=config)) == 500


def test_the_metrics_need_no_budgets() -> None:
    Costs(CollectorRegistry(), "tickets").answer("main", 1)


def test_the_example_is_what_it_says() -> None:
    assert (USAGE.input_tokens, USAGE.output_tokens) == (10, 5)
