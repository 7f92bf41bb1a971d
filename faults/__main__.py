"""`python -m faults`: the campaign; `--help` tells how to run a part of it.

It starts an API server of its own, runs all plans, or those chosen, and prints what failed. The
tables are kept in `.state/faults.md`. The exit code tells whether all plans survived.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.progress import Progress
from faults import campaign, report, scenarios
from faults.plans import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from faults.campaign import Outcome
    from faults.plans import Plan


def main() -> None:
    """Run the campaign."""
    chosen = _parse()
    progress = Progress()
    wanted = [s for s in scenarios.ALL if not chosen.scenario or s.name in chosen.scenario]

    def choose(every: Sequence[Plan]) -> Iterable[Plan]:
        picked = [plan for plan in every if _is_wanted(plan, chosen)][:: chosen.every]
        if chosen.list:
            print(*picked, sep="\n")
            return []
        return picked

    layout = Layout.of_checkout()
    with LightCluster(layout, progress) as cluster:
        cluster.access.crds()
        outcome = asyncio.run(campaign.run(cluster.access, wanted, choose, progress.say))
    text = report.render(outcome)
    kept = layout.repository / ".state" / "faults.md"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text + "\n", encoding="utf-8")
    if chosen.logs:
        print(*(f"{r.plan}\n{r.log}" for r in outcome.results if r.findings), sep="\n")
    print(f"\n{text}\n\nkept in {kept.relative_to(layout.repository)}")
    sys.exit(_code(outcome))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    names = list(scenarios.BY_NAME)
    kinds = [kind.value for kind in Kind]
    parser.add_argument("--scenario", action="append", choices=names, metavar="NAME")
    parser.add_argument("--kind", action="append", choices=kinds, metavar="KIND")
    parser.add_argument("--only", default="", metavar="TEXT", help="plans whose name has this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth of these only")
    parser.add_argument("--logs", action="store_true", help="show the operator's log of failures")
    parser.add_argument("--list", action="store_true", help="print the plans, run none")
    return parser.parse_args()


def _is_wanted(plan: Plan, chosen: argparse.Namespace) -> bool:
    return chosen.only in str(plan) and (not chosen.kind or plan.kind.value in chosen.kind)


def _code(outcome: Outcome) -> int:
    return int(any(result.findings for result in outcome.results))


if __name__ == "__main__":
    main()
