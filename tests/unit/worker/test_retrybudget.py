"""How many retries there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.core.retrybudget import RetryBudget


def test_ten_retries_are_in_stock_at_first() -> None:
    budget = RetryBudget()

    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


def test_five_first_attempts_earn_one_retry() -> None:
    budget = RetryBudget()
    while budget.spend():
        pass

    spent = []
    for _ in range(10):
        budget.earn()
        spent.append(budget.spend())

    assert spent == [False, False, False, False, True] * 2


@given(st.lists(st.booleans()))
def test_retries_are_at_most_the_stock_and_a_fifth_of_the_calls(steps: list[bool]) -> None:
    budget = RetryBudget()
    firsts = retries = 0
    for is_first in steps:
        if is_first:
            budget.earn()
            firsts += 1
        else:
            retries += budget.spend()

    assert retries <= 10 + firsts / 5
