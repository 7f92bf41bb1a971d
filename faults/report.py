"""What a campaign showed, as tables in Markdown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.plans import MEANING, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faults.campaign import Outcome, Result


def render(outcome: Outcome) -> str:
    """Return the tables and the list of failures."""
    return "\n\n".join(
        [_summary(outcome), _by_kind(outcome.results), _failures(outcome.results), _noise(outcome)]
    )


def _summary(outcome: Outcome) -> str:
    fired = sum(result.fired for result in outcome.results)
    failed = sum(bool(result.findings) for result in outcome.results)
    return (
        f"{len(outcome.results)} plans in {outcome.seconds / 60:.1f} min, of these "
        f"{outcome.reference_seconds:.0f} s for undisturbed runs: "
        f"{fired} faults happened, {failed} plans failed."
    )


def _by_kind(results: Iterable[Result]) -> str:
    rows = [_row(kind, [r for r in results if r.plan.kind is kind]) for kind in Kind]
    head = (
        "| fault | what happens | plans | happened | survived | failed |\n|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(row for row in rows if row)])


def _row(kind: Kind, results: list[Result]) -> str:
    if not results:
        return ""
    fired = sum(result.fired for result in results)
    failed = sum(bool(result.findings) for result in results)
    counts = f"{len(results)} | {fired} | {len(results) - failed} | {failed}"
    return f"| {kind.value} | {MEANING[kind]} | {counts} |"


def _failures(results: Iterable[Result]) -> str:
    failed = [result for result in results if result.findings]
    if not failed:
        return "No plan failed."
    return "\n".join(f"* `{r.plan}`: {'; '.join(r.findings)}" for r in failed)


def _noise(outcome: Outcome) -> str:
    said = [f"* {name}: {'; '.join(each)}" for name, each in outcome.noise.items() if each]
    return "\n".join(["Undisturbed runs that differed from each other:", *(said or ["* none"])])
