"""References first, then all plans side by side, then a verdict for each.

The order of plans is fixed; how many run side by side is a matter of the machine. Runs that wait
for a silent stream to be noticed need no CPU meanwhile and have places of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from faults import oracles, plans
from faults.api import Api, Door
from faults.kubelet import FakeKubelet
from faults.observer import Observer
from faults.plans import Kind, Plan
from faults.player import Stage, play
from faults.rights import OPERATOR, grant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from devcluster.access import Access
    from faults.oracles import Run
    from faults.scenarios import Scenario

KUBELET = "fake-kubelet"
SIDE_BY_SIDE = 8
SILENT_SIDE_BY_SIDE = 12
REFERENCES = 3
"""Undisturbed runs of each scenario: the last ones show what is noise."""


class NoReferenceError(Exception):
    """An undisturbed run was not good enough to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one plan.

    Attributes:
        findings: What it did wrong; empty when it survived.
        fired: Whether the fault's moment came.
        seconds: How long the run took.
    """

    plan: Plan
    findings: tuple[str, ...]
    fired: bool
    seconds: float
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a campaign showed; all times in seconds."""

    results: tuple[Result, ...]
    noise: Mapping[str, tuple[str, ...]]
    reference_seconds: float
    seconds: float


@contextlib.asynccontextmanager
async def stage(access: Access) -> AsyncIterator[Stage]:
    """Open what all runs share: clients, rights of the operator, observer and kubelet."""
    grant(access)
    masters = ("system:masters",)
    async with contextlib.AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Api(Door.of(access.kubeconfig)))
        upstream = await stack.enter_async_context(Api(Door.of(access.kubeconfig_for(OPERATOR))))
        config = access.kubeconfig_for(KUBELET, masters)
        kubelet = FakeKubelet(await stack.enter_async_context(Api(Door.of(config))))
        observer = Observer(admin)
        observer.listen(kubelet)
        await stack.enter_async_context(observer)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        yield Stage(admin=admin, upstream=upstream, observer=observer, folder=folder)


async def run(
    access: Access,
    scenarios: Sequence[Scenario],
    choose: Callable[[Sequence[Plan]], Iterable[Plan]],
    tell: Callable[[str], None],
    *,
    rounds: int = REFERENCES,
) -> Outcome:
    """Run a campaign.

    Args:
        access: A cluster without nodes, with the CRDs.
        scenarios: What users do.
        choose: Takes from all plans those to run.
        tell: Hears of progress.
        rounds: Undisturbed runs of each scenario.

    Raises:
        NoReferenceError: The operator does not even survive without faults.
    """
    started = time.monotonic()
    async with stage(access) as shared:
        references = await _references(shared, scenarios, rounds)
        every = plans.derive(
            {name: runs[0].trace for name, runs in references.items()},
            {scenario.name: scenario.disturbed for scenario in scenarios},
        )
        chosen = tuple(choose(every))
        prepared = time.monotonic()
        tell(f"{len(every)} plans from {len(scenarios)} scenarios; {len(chosen)} are run")
        rehearsal = _Rehearsal(shared, {s.name: s for s in scenarios}, references, tell)
        results = await rehearsal.run(chosen)
    return Outcome(
        results=results,
        noise={name: oracles.noise(runs) for name, runs in references.items()},
        reference_seconds=prepared - started,
        seconds=time.monotonic() - started,
    )


async def _references(
    shared: Stage, scenarios: Sequence[Scenario], rounds: int
) -> dict[str, tuple[Run, ...]]:
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(scenario: Scenario) -> Run:
        async with gate:
            found = await play(shared, scenario)
        if found.late or found.restless:
            raise NoReferenceError(f"{scenario.name}: {found.late or found.restless}\n{found.log}")
        return found

    found = {}
    async with asyncio.TaskGroup() as group:
        for scenario in scenarios:
            found[scenario.name] = [group.create_task(one(scenario)) for _ in range(rounds)]
    return {name: tuple(task.result() for task in tasks) for name, tasks in found.items()}


class _Rehearsal:
    """Runs plans, so many side by side, and tells of each."""

    def __init__(
        self,
        shared: Stage,
        scenarios: Mapping[str, Scenario],
        references: Mapping[str, tuple[Run, ...]],
        tell: Callable[[str], None],
    ) -> None:
        self._shared = shared
        self._scenarios = scenarios
        self._references = references
        self._tell = tell
        self._gates = {
            True: asyncio.Semaphore(SILENT_SIDE_BY_SIDE),
            False: asyncio.Semaphore(SIDE_BY_SIDE),
        }
        self._done = 0

    async def run(self, chosen: Sequence[Plan]) -> tuple[Result, ...]:
        """Run all plans and return the results in their order."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(plan, len(chosen))) for plan in chosen]
        return tuple(task.result() for task in tasks)

    async def _one(self, plan: Plan, count: int) -> Result:
        async with self._gates[plan.kind is Kind.SILENT]:
            references = self._references[plan.scenario]
            found = await play(
                self._shared, self._scenarios[plan.scenario], plan, references[0].states
            )
        findings = oracles.judge(found, references)
        is_void = bool(findings) and oracles.hid_last_word(found)
        result = Result(
            plan=plan,
            findings=() if is_void else findings,
            fired=found.fired and not is_void,
            seconds=found.seconds,
            log=found.log,
        )
        self._done += 1
        self._tell(f"{self._done}/{count} {_word(result)} {plan} ({found.seconds:.0f} s)")
        for finding in result.findings:
            self._tell(f"      {finding}")
        return result


def _word(result: Result) -> str:
    if result.findings:
        return "FAILED  "
    return "survived" if result.fired else "no fault"
