"""Scenarios are data; what they refer to has to be there."""

import pytest

from faults import report, scenarios
from faults.campaign import Outcome, Result
from faults.plans import MEANING, Kind, Plan, Point
from faults.scenarios import Scenario

each = pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda s: s.name)


@each
def test_a_step_goes_back_only_to_one_before_it(scenario: Scenario) -> None:
    names = [step.name for step in scenario.steps]

    assert len(set(names)) == len(names)
    assert all(s.back_to in {"", *names[:n]} for n, s in enumerate(scenario.steps))


@each
def test_only_first_steps_prepare_and_something_is_left_to_disturb(scenario: Scenario) -> None:
    setups = [step.setup for step in scenario.steps]

    assert setups == sorted(setups, reverse=True)
    assert scenario.disturbed


def test_names_are_told_apart() -> None:
    assert len(scenarios.BY_NAME) == len(scenarios.ALL)


def test_each_fault_is_explained() -> None:
    assert set(MEANING) == set(Kind)


def test_the_report_counts_and_names_what_failed() -> None:
    plan = Plan("create", Kind.GONE, Point("create", "pods ADDED a"))
    results = [
        Result(plan=plan, findings=findings, fired=fired, seconds=1)
        for findings, fired in [(("it broke",), True), ((), True), ((), False)]
    ]
    text = report.render(
        Outcome(results=tuple(results), noise={"create": ()}, reference_seconds=5, seconds=60)
    )

    assert "3 plans in 1.0 min" in text
    assert "| gone | ERROR 410 instead of a line, which is lost | 3 | 2 | 2 | 1 |" in text
    assert "* `create/gone create: pods ADDED a`: it broke" in text
