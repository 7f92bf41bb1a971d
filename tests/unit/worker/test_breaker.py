"""The circuit of one model, with a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspy_worker.contract.app import BreakerPolicy
from dspy_worker.core import breaker
from dspy_worker.core.breaker import Breaker, Permit, State

POLICY = BreakerPolicy(failure_percent=50, minimum_calls=4, open_seconds=5, slow_seconds=2)


class Circuit:
    """A breaker and its clock; calls take no time unless a test says so."""

    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.breaker = Breaker(policy)
        self.now = 1000.0

    def ask(self, *outcomes: str, seconds: float = 0.1, jitter: float = 0.0) -> None:
        for outcome in outcomes:
            permit = self.breaker.admit(self.now)
            assert permit is not None
            self.end(permit, outcome, seconds=seconds, jitter=jitter)

    def end(
        self, permit: Permit, outcome: str, *, seconds: float = 0.1, jitter: float = 0.0
    ) -> bool:
        return self.breaker.settle(
            permit, failed=outcome == "bad", seconds=seconds, now=self.now, jitter=jitter
        )

    def state(self) -> State:
        return self.breaker.state(self.now)


def opened(policy: BreakerPolicy = POLICY) -> Circuit:
    circuit = Circuit(policy)
    circuit.ask(*["bad"] * policy.minimum_calls)
    assert circuit.state() is State.OPEN
    return circuit


def half_open() -> Circuit:
    circuit = opened()
    circuit.now += POLICY.open_seconds
    return circuit


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        pytest.param(["bad"] * 3, State.CLOSED, id="fewer calls than the minimum"),
        pytest.param(["bad"] * 4, State.OPEN, id="all of the minimum failed"),
        pytest.param(["good", "good", "bad", "bad"], State.OPEN, id="half failed"),
        pytest.param(["good"] * 3 + ["bad"] * 2, State.CLOSED, id="less than half failed"),
    ],
)
def test_a_share_of_failures_opens_the_circuit(outcomes: list[str], expected: State) -> None:
    circuit = Circuit()

    circuit.ask(*outcomes)

    assert circuit.state() is expected


def test_slow_calls_open_the_circuit_as_failed_ones_do() -> None:
    circuit = Circuit()

    circuit.ask("good", "good", "good", "good", seconds=2.1)

    assert circuit.state() is State.OPEN


def test_without_a_limit_no_call_is_slow() -> None:
    circuit = Circuit(BreakerPolicy(minimum_calls=1))

    circuit.ask("good", seconds=500)

    assert circuit.state() is State.CLOSED


def test_failures_of_long_ago_count_no_more() -> None:
    circuit = Circuit()
    circuit.ask("bad", "bad", "bad")

    circuit.now += breaker.WINDOW_SECONDS
    circuit.ask("bad")

    assert circuit.state() is State.CLOSED


def test_nobody_passes_an_open_circuit_and_the_wait_is_told() -> None:
    circuit = opened()
    circuit.now += 2

    assert circuit.breaker.admit(circuit.now) is None
    assert circuit.breaker.wait(circuit.now) == 3


def test_two_probes_pass_and_close_it_when_both_are_good() -> None:
    circuit = half_open()
    probes = [circuit.breaker.admit(circuit.now) for _ in range(3)]
    assert probes[2] is None
    assert circuit.breaker.wait(circuit.now) == breaker.PROBE_WAIT_SECONDS

    states = []
    for probe in probes[:2]:
        assert probe is not None
        circuit.end(probe, "good")
        states.append(circuit.state())

    assert states == [State.HALF_OPEN, State.CLOSED]


def test_one_bad_probe_opens_it_for_twice_as_long() -> None:
    circuit = half_open()

    circuit.ask("good", "bad")

    assert circuit.breaker.wait(circuit.now) == 10


def test_it_is_never_open_for_longer_than_a_minute() -> None:
    circuit = half_open()
    waits = []
    for _ in range(6):
        circuit.ask("bad")
        waits.append(circuit.breaker.wait(circuit.now))
        circuit.now += waits[-1]

    assert waits == [10, 20, 40, 60, 60, 60]


def test_a_circuit_that_has_closed_begins_with_the_short_time_again() -> None:
    circuit = half_open()
    circuit.ask("good", "good")

    circuit.ask("bad", "bad", "bad", "bad")

    assert circuit.breaker.wait(circuit.now) == POLICY.open_seconds


def test_workers_probe_at_different_moments() -> None:
    circuit = Circuit()

    circuit.ask("bad", "bad", "bad", "bad", jitter=1.0)

    assert circuit.breaker.wait(circuit.now) == 4


def test_a_probe_that_told_nothing_gives_its_place_back() -> None:
    circuit = half_open()
    probe = circuit.breaker.admit(circuit.now)
    assert probe is not None

    circuit.breaker.withdraw(probe)
    circuit.ask("good", "good")

    assert circuit.state() is State.CLOSED


def test_a_call_from_before_the_opening_neither_opens_nor_closes() -> None:
    circuit = Circuit()
    late = [circuit.breaker.admit(circuit.now) for _ in range(3)]
    circuit.ask("bad", "bad", "bad", "bad")
    circuit.now += POLICY.open_seconds

    for permit, outcome in zip(late, ("good", "good", "bad"), strict=True):
        assert permit is not None
        assert not circuit.end(permit, outcome)

    assert circuit.state() is State.HALF_OPEN


def test_a_probe_of_an_earlier_try_still_takes_its_place() -> None:
    circuit = half_open()
    lingering, quick = (circuit.breaker.admit(circuit.now) for _ in range(2))
    assert lingering is not None
    assert quick is not None
    circuit.end(quick, "bad")
    circuit.now += 10

    passed = [circuit.breaker.admit(circuit.now) is not None for _ in range(2)]

    assert passed == [True, False]


policies = st.builds(
    BreakerPolicy,
    failure_percent=st.integers(1, 100),
    minimum_calls=st.integers(1, 30),
    open_seconds=st.integers(1, 60),
    slow_seconds=st.none() | st.integers(1, 10),
)


@given(policies, st.lists(st.sampled_from(["good", "bad"]), max_size=30))
def test_it_never_opens_below_the_minimum(policy: BreakerPolicy, outcomes: list[str]) -> None:
    circuit = Circuit(policy)

    circuit.ask(*outcomes[: policy.minimum_calls - 1])

    assert circuit.state() is State.CLOSED


@given(policies, st.floats(0, 1))
def test_it_is_always_half_open_after_its_time(policy: BreakerPolicy, jitter: float) -> None:
    circuit = Circuit(policy)
    circuit.ask(*["bad"] * policy.minimum_calls, jitter=jitter)
    assert circuit.state() is State.OPEN

    circuit.now += policy.open_seconds

    assert circuit.state() is State.HALF_OPEN
    assert circuit.breaker.admit(circuit.now) is not None


class Machine(RuleBasedStateMachine):
    """Calls that begin, end and are given up in any order, while time goes by."""

    @initialize(policy=policies)
    def begin(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.circuit = Circuit(policy)
        self.under_way: list[Permit] = []

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        before = self.circuit.state()
        self.circuit.now += seconds

        assert self.circuit.state() in {before, State.HALF_OPEN}

    @rule()
    def ask(self) -> None:
        before = self.circuit.state()
        permit = self.circuit.breaker.admit(self.circuit.now)

        if permit is None:
            assert before is not State.CLOSED
            assert self.circuit.breaker.wait(self.circuit.now) > 0
        else:
            assert before is not State.OPEN
            assert permit.probe == (before is State.HALF_OPEN)
            self.under_way.append(permit)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from(["good", "bad"]), jitter=st.floats(0, 1))
    def end(self, data: st.DataObject, outcome: str, jitter: float) -> None:
        before = self.circuit.state()
        permit = self._taken(data)
        has_opened = self.circuit.end(permit, outcome, jitter=jitter)
        after = self.circuit.state()

        if has_opened:
            assert (outcome, after) != ("good", State.CLOSED)
            assert 0 < self.circuit.breaker.wait(self.circuit.now) <= breaker.CAP_SECONDS
        elif after is not before:
            assert (before, after) == (State.HALF_OPEN, State.CLOSED)
            assert permit.probe
            assert outcome == "good"

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        before = self.circuit.state()
        self.circuit.breaker.withdraw(self._taken(data))

        assert self.circuit.state() is before

    @invariant()
    def probes_are_few(self) -> None:
        assert sum(permit.probe for permit in self.under_way) <= breaker.PROBES

    @invariant()
    def a_half_open_circuit_without_probes_lets_one_pass(self) -> None:
        if self.circuit.state() is State.HALF_OPEN and not any(p.probe for p in self.under_way):
            assert self.circuit.breaker.wait(self.circuit.now) == 0

    def _taken(self, data: st.DataObject) -> Permit:
        return self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
