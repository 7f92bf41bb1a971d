"""Entry point: settings, wiring, run.

Everything of ours starts before kopf: at its end kopf cancels every task that was created after
its start, and a reconciliation must not be cut off between two writes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from dspy_operator.core.manifest import Ref
from dspy_operator.core.render import Installation
from dspy_operator.edge import credentials, health, telemetry
from dspy_operator.errors import OperatorError
from dspy_operator.handlers import dspyapps
from dspy_operator.reconcile.observer import Observer
from dspy_operator.wiring import Choices, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_log = structlog.get_logger(__name__)

DEFAULT_WORKER_IMAGE: Final = "ghcr.io/dspy-operator/dspy-worker:0.1.0"
_COLLECT_AFTER: Final = 10_000
"""Objects made and not yet freed after which the youngest are collected."""
_PATIENCE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says.

    Attributes:
        namespaces: Namespaces to serve; empty for all.
        worker_image: Image of apps that name none.
        metrics_port: Port of probes and metrics.
        qps: Requests per second to the API server, in the long run.
        burst: Requests that may go beyond that at once.
        workers: Apps that are looked at side by side.
        log_format: "json" or "text".
        installation: What apps are told about their surroundings.
        lease: The Lease to hold; None where this operator is the only one.
        identity: Name of this process among the holders of the Lease, and in Events.
        observe_only: Whether to report changes and make none.
    """

    namespaces: tuple[str, ...]
    worker_image: str
    metrics_port: int
    qps: float
    burst: int
    workers: int
    log_format: str
    installation: Installation
    lease: Ref | None
    identity: str
    observe_only: bool


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the command line; each option's default may come from DSPY_OPERATOR_<OPTION>."""

    def default(name: str, value: str) -> str:
        return environ.get(f"DSPY_OPERATOR_{name}", value)

    parser = argparse.ArgumentParser(
        "dspy-operator", description="Turns DSPyApp objects into pods that answer."
    )
    parser.add_argument(
        "--namespaces",
        type=_names,
        default=default("NAMESPACES", ""),
        help="comma-separated namespaces to serve; all when empty",
    )
    parser.add_argument(
        "--worker-image",
        default=default("WORKER_IMAGE", DEFAULT_WORKER_IMAGE),
        help="image of apps that name none",
    )
    parser.add_argument("--metrics-port", type=int, default=default("METRICS_PORT", "8080"))
    parser.add_argument("--qps", type=float, default=default("QPS", "500"))
    parser.add_argument("--burst", type=int, default=default("BURST", "1500"))
    parser.add_argument("--workers", type=int, default=default("WORKERS", "8"))
    parser.add_argument(
        "--log-format", choices=("json", "text"), default=default("LOG_FORMAT", "json")
    )
    _add_surroundings(parser, default)
    _add_company(parser, default)
    found = vars(parser.parse_args(arguments))
    installation = Installation(
        namespace=found.pop("operator_namespace"),
        monitoring=found.pop("monitoring_namespaces"),
        monitor_labels=found.pop("monitor_labels"),
        dashboard_labels=found.pop("dashboard_labels"),
        runbooks=found.pop("runbooks").rstrip("/"),
    )
    namespace, name = found.pop("lease_namespace"), found.pop("lease_name")
    # One that only observes runs beside the one that acts, and must not take its place.
    alone = not namespace or found["observe_only"]
    lease = None if alone else Ref("Lease", namespace, name)
    return Settings(installation=installation, lease=lease, **found)


def _add_company(parser: argparse.ArgumentParser, default: Callable[[str, str], str]) -> None:
    parser.add_argument(
        "--lease-namespace",
        default=default("LEASE_NAMESPACE", ""),
        help="namespace of the Lease that one of several operators holds; none when empty",
    )
    parser.add_argument("--lease-name", default=default("LEASE_NAME", "dspy-operator"))
    parser.add_argument(
        "--identity",
        default=default("IDENTITY", socket.gethostname()),
        help="name of this process, other than that of all others; the host's when absent",
    )
    parser.add_argument(
        "--observe-only",
        action="store_true",
        default=default("OBSERVE_ONLY", "").lower() in {"1", "true"},
        help="write nothing; report at /changes, in the log and in metrics what would be written",
    )


def _add_surroundings(parser: argparse.ArgumentParser, default: Callable[[str, str], str]) -> None:
    parser.add_argument(
        "--operator-namespace",
        default=default("OPERATOR_NAMESPACE", ""),
        help="namespace of this operator, which NetworkPolicies of apps let in",
    )
    parser.add_argument(
        "--monitoring-namespaces",
        type=_names,
        default=default("MONITORING_NAMESPACES", ""),
        help="comma-separated namespaces from which metrics are scraped",
    )
    parser.add_argument(
        "--monitor-labels",
        type=_labels,
        default=default("MONITOR_LABELS", ""),
        help="labels of ServiceMonitors and PrometheusRules of apps, as key=value,key=value",
    )
    parser.add_argument(
        "--dashboard-labels",
        type=_labels,
        default=default("DASHBOARD_LABELS", "grafana_dashboard=1"),
        help="labels of the ConfigMaps with dashboards, as key=value,key=value",
    )
    parser.add_argument(
        "--runbooks",
        default=default("RUNBOOKS", ""),
        help="base URL of the runbooks that alerts name; none when empty",
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _labels(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _names(text)]
    if any(not key or not sign for key, sign, _ in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value,key=value")
    return {key.strip(): value.strip() for key, _, value in pairs}


async def run(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run until SIGTERM, or until a part fails; return the exit code."""
    stop = asyncio.Event()
    _take_signals(stop)
    connection = credentials.find(environ)
    observer = Observer() if settings.observe_only else None
    machine = Machine(
        connection,
        Choices(
            namespaces=settings.namespaces,
            worker_image=settings.worker_image,
            identity=settings.identity,
            rate=settings.qps,
            burst=settings.burst,
            installation=settings.installation,
            lease=settings.lease,
            observer=observer,
        ),
    )
    changes = None if observer is None else observer.document
    server = await health.serve(
        machine.health, machine.telemetry, settings.metrics_port, changes=changes
    )
    tasks = machine.start(settings.workers)
    registry = dspyapps.registry(machine.store, connection, machine.open_kopf_session)
    edge_stop = asyncio.Event()

    async def watch_apps() -> None:
        # kopf looks for the kinds once, at its start: one that came later would not be watched.
        await machine.wait_for_apps()
        await dspyapps.watch(
            registry, settings.namespaces, stop=edge_stop, started=lambda: _take_signals(stop)
        )

    edge = asyncio.create_task(watch_apps())
    ended = asyncio.create_task(stop.wait())
    await asyncio.wait([edge, ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set()
    await machine.queue.stop(_PATIENCE_SECONDS)
    await machine.leader.release()
    edge_stop.set()
    code = await _end([edge, ended, *tasks], edge, failed=failed)
    await server.cleanup()
    await machine.close()
    return code


def _take_signals(stop: asyncio.Event) -> None:
    """Take SIGTERM and SIGINT, also back from kopf: running keys finish before kopf ends."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _end(
    tasks: Sequence[asyncio.Task[object]], edge: asyncio.Task[None], *, failed: bool
) -> int:
    """End all tasks, kopf first; return the exit code and log what had failed."""
    await asyncio.wait([edge], timeout=5)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            _log.error("a part failed", error=repr(result))
    _log.info("stopped", failed=failed)
    return 1 if failed else 0


def _spare_the_collector() -> None:
    """Leave what the imports have made out of garbage collections, and collect the rest less often.

    Each request and event makes hundreds of objects that die with it; what lives longer is kept as
    bytes. With Python's own threshold of 700 objects the collector runs several times for each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


def main() -> None:
    """Start the program `dspy-operator`."""
    settings = parse(sys.argv[1:], os.environ)
    telemetry.configure_logs(settings.log_format)
    _spare_the_collector()
    try:
        code = uvloop.run(run(settings, os.environ))
    except OperatorError as error:
        _log.error("cannot start", error=str(error))
        code = 1
    sys.exit(code)
