"""Money, prices, periods and forecasts: pure figures."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.contract import money, prices
from dspy_worker.contract.money import NANOS, Price
from dspy_worker.core import period
from dspy_worker.core.forecast import Forecast

ROOT = Path(__file__).parents[3]
HOUR = 3_600_000


@given(st.integers(0, 10**15))
def test_an_amount_survives_its_way_through_text(amount: int) -> None:
    assert money.nanos(money.dollars(amount)) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("12.50", 12_500_000_000), ("0.000000001", 1), ("1000000", 10**15)],
)
def test_an_amount_is_read(text: str, amount: int) -> None:
    assert money.nanos(text) == amount


@pytest.mark.parametrize("text", ["", "-1", "1e400", "NaN", "Infinity", "0.0000000001", "1 $"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount in US dollars"):
        money.nanos(text)


def test_a_cost_by_hand() -> None:
    """gpt-4o-mini: 0.15 for input, 0.60 for output, 0.075 for cached input, per million.

    900 fresh tokens cost 0.000135, 100 cached ones 0.0000075, 50 of the answer 0.00003.
    """
    price = prices.find("https://api.openai.com/v1", "gpt-4o-mini")
    assert price is not None

    assert money.dollars(price.cost(1000, 50, 100)) == "0.0001725"


def test_less_than_a_billionth_is_rounded_up() -> None:
    assert Price(input=1, output=1, cached=1).cost(1, 0) == 1
    assert Price(input=1, output=1, cached=1).cost(0, 0) == 0


@given(*[st.integers(0, 10**6)] * 4)
def test_no_answer_costs_more_than_the_most(given_: int, made: int, cached: int, fee: int) -> None:
    price = Price(input=fee, output=2 * fee, cached=fee // 2)

    assert price.cost(given_, made, cached) <= price.most(given_, made)


@pytest.mark.parametrize(
    ("endpoint", "model"),
    [
        ("https://lm.example.com/v1", "gpt-4o-mini"),
        ("https://api.openai.com/v1", "gpt-4o-mini-of-tomorrow"),
        ("https://proxy.example.com/?https://api.openai.com", "gpt-4o-mini"),
    ],
)
def test_a_model_that_nobody_knows_has_no_price(endpoint: str, model: str) -> None:
    assert prices.find(endpoint, model) is None


def test_the_price_table_tells_where_it_comes_from() -> None:
    table = json.loads(prices.TABLE.read_text())

    assert table["source"].startswith("genai-prices ")
    assert datetime.fromisoformat(table["date"]).year >= 2026


def test_the_price_table_is_what_the_tool_makes() -> None:
    command = [sys.executable, str(ROOT / "tools/prices.py"), "--check"]

    assert subprocess.run(command, check=False).returncode == 0, "run: python tools/prices.py"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("kind", "moment", "name", "start", "end"),
    [
        ("Day", "2026-11-21T00:00", "2026-11-21", "2026-11-21", "2026-11-22"),
        ("Day", "2026-12-31T23:59:59.999", "2026-12-31", "2026-12-31", "2027-01-01"),
        ("Month", "2026-12-31T23:59:59.999", "2026-12", "2026-12-01", "2027-01-01"),
        ("Month", "2028-02-29T12:00", "2028-02", "2028-02-01", "2028-03-01"),
        ("Month", "2026-02-01T00:00", "2026-02", "2026-02-01", "2026-03-01"),
    ],
)
def test_a_period(kind: period.Period, moment: str, name: str, start: str, end: str) -> None:
    found = period.span(kind, at(moment))

    assert (found.name, found.start, found.end) == (name, at(start), at(end))


@given(st.sampled_from(["Day", "Month"]), st.integers(0, 4_000_000_000_000))
def test_periods_follow_each_other_without_a_gap(kind: period.Period, moment: int) -> None:
    found = period.span(kind, moment)

    assert found.holds(moment)
    assert period.span(kind, found.start) == found
    assert period.span(kind, found.end).start == found.end


def test_a_forecast_goes_on_as_the_last_hour() -> None:
    """3 dollars by noon, 2 of them since eleven: 24 more until midnight."""
    day = period.span("Day", at("2026-11-21T12:00"))
    forecast = Forecast()
    forecast.note(day, at("2026-11-21T10:00"), 0)
    forecast.note(day, at("2026-11-21T11:00"), 1 * NANOS)
    forecast.note(day, at("2026-11-21T12:00"), 3 * NANOS)

    assert forecast.at_end(day, at("2026-11-21T12:00"), 3 * NANOS) == 27 * NANOS


def test_a_pod_that_has_just_begun_goes_by_the_period() -> None:
    day = period.span("Day", at("2026-11-21T06:00"))
    forecast = Forecast()
    forecast.note(day, at("2026-11-21T06:00"), 1 * NANOS)

    assert forecast.at_end(day, at("2026-11-21T06:00"), 1 * NANOS) == 4 * NANOS


def test_a_new_period_forgets_the_old_one() -> None:
    forecast = Forecast()
    forecast.note(period.span("Day", 0), 0, 5 * NANOS)
    second = period.span("Day", 24 * HOUR)
    forecast.note(second, 24 * HOUR, 0)

    assert forecast.at_end(second, 25 * HOUR, 0) == 0
