"""The report of a worker."""

import json

import pytest

from dspy_worker.contract import state


def test_a_report_survives_the_wire() -> None:
    report = state.WorkerState(
        app="tickets",
        config_digest="abc",
        ready=False,
        not_ready_reason="LMCredentialsMissing",
        credentials=(state.Credential(model="main", present=False),),
    )

    assert state.load(json.loads(json.dumps(report.dump()))) == report


@pytest.mark.parametrize(
    "wrong", [None, [], {}, {"version": 2}, {"version": 1}, {"version": 1, "credentials": [{}]}]
)
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="not a worker state"):
        state.load(wrong)


def test_fields_of_a_newer_worker_are_ignored() -> None:
    report = state.WorkerState(app="a", config_digest="d", ready=True)

    assert state.load({**report.dump(), "later": 1}) == report
