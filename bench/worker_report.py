"""The tables of the worker's benchmark."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.servers.bare import BARE, BARE_OWN
from bench.servers.litellm import LITELLM
from bench.servers.tutorial import TUTORIAL, TUTORIAL_64
from bench.servers.worker import WORKER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.machine import Load

COLUMNS = (
    "server",
    "requests/s",
    "worker to it",
    "CPU per request",
    "worker to it",
    "p50",
    "p99",
    "failed",
    "memory",
    "others",
    "LM's core",
)
CPU_BAR_MS = 0.8
SLOW, QUICK = 50, 0
RATE_BARS = (
    (TUTORIAL, SLOW, 6.0),
    (TUTORIAL_64, SLOW, 1.5),
    (BARE, SLOW, 0.8),
    (BARE_OWN, SLOW, 0.8),
    (LITELLM, QUICK, 10.0),
)
"""How many times as many requests per second as whom, by the LM's latency in ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load: how slow the LM is, and how many clients ask at once."""

    latency_ms: int
    clients: int

    @property
    def title(self) -> str:
        """The name for people."""
        return f"LM {self.latency_ms} ms, {self.clients} clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one server did under one load in one round.

    Attributes:
        load: What its clients saw.
        cpu_ms: CPU time per completed request, of the server and its children.
        mib: Memory before the load and after it.
        others: Share of the server's core that other processes used meanwhile: with more than a
            few hundredths, requests per second say little, while CPU per request still holds.
        lm_core: Share of the other core that LM, clients and everybody else used: near 1 they
            were the limit, not the server.
    """

    load: Load
    cpu_ms: float
    mib: tuple[float, float]
    others: float
    lm_core: float

    @property
    def per_second(self) -> float:
        """Completed requests per second."""
        return self.load.completed / self.load.seconds


Results = dict[tuple[Case, str], list[Figures]]


def report(told: str, cases: Sequence[Case], results: Results, absent: Mapping[str, str]) -> str:
    """Return the tables in Markdown: one per load, and one of the bars.

    Args:
        told: How long was measured.
        cases: The loads.
        results: The rounds.
        absent: Why a server was not measured, by its name.
    """
    return "\n\n".join(
        [
            f"# Worker beside others\n\n{_where(told)}",
            *(f"## {case.title}\n\n{table(results, case, absent)}" for case in cases),
            f"## Bars\n\n{bars(cases, results)}",
        ]
    )


def _where(told: str) -> str:
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores; each server on one core, "
        f"the LM and the clients on another. {told} Memory is taken after the first answer and "
        "after the load. Others is the share of the server's core that other processes used; LM's "
        "core is how busy the other one was."
    )


def table(results: Results, case: Case, absent: Mapping[str, str]) -> str:
    """Return what the servers did under one load, and the worker's share of it."""
    rows = {name: rounds for (one, name), rounds in results.items() if one == case}
    lines = [_line(COLUMNS), _line(["---", *["---:"] * (len(COLUMNS) - 1)])]
    lines += [_line(_cells(name, rounds, rows[WORKER.name])) for name, rounds in rows.items()]
    rest = [""] * (len(COLUMNS) - 2)
    lines += [_line([name, _cell(why), *rest]) for name, why in absent.items()]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(name: str, rounds: list[Figures], mine: list[Figures]) -> tuple[str, ...]:
    loads = [one.load for one in rounds]
    rest, loaded = (_median(sizes) for sizes in zip(*(one.mib for one in rounds), strict=True))
    return (
        name,
        f"{_rate(rounds):,.0f}",
        _times(_rate(mine), _rate(rounds)),
        f"{_cpu(rounds):.2f} ms",
        _times(_cpu(mine), _cpu(rounds)),
        f"{_median(one.p50_ms for one in loads):.0f} ms",
        f"{_median(one.p99_ms for one in loads):.0f} ms",
        str(sum(one.failed for one in loads)),
        f"{rest:.0f}, {loaded:.0f} MiB",
        f"{_median(one.others for one in rounds):.0%}",
        f"{_median(one.lm_core for one in rounds):.0%}",
    )


def bars(cases: Sequence[Case], results: Results) -> str:
    """Return what the worker has to reach, and how far it is."""
    lines = ["| what | bar | found |", "|---|---:|---:|"]
    for case in cases:
        found = f"{_cpu(results[case, WORKER.name]):.2f} ms"
        lines.append(f"| CPU per request, {case.title} | <= {CPU_BAR_MS} ms | {found} |")
    for server, latency_ms, bar in RATE_BARS:
        case = next(one for one in cases if one.latency_ms == latency_ms)
        other = results.get((case, server.name))
        found = _times(_rate(results[case, WORKER.name]), _rate(other)) if other else "-"
        title = f"requests/s to {server.name}, {case.title}"
        lines.append(f"| {title} | >= {bar:g} x | {found} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Return a text that does not end its cell."""
    return " ".join(text.replace("|", "/").split())[:200]


def _times(mine: float, other: float) -> str:
    return f"{mine / other:.2f} x" if other else "-"


def _rate(rounds: Iterable[Figures]) -> float:
    return _median(one.per_second for one in rounds)


def _cpu(rounds: Iterable[Figures]) -> float:
    return _median(one.cpu_ms for one in rounds)


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
