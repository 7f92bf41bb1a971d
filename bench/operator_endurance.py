"""An operator with a thousand apps: a restart, edits by hand, idle minutes, a month of updates.

How fast is a restart, how long does an edit by hand live, is anything written without a reason, and
does memory grow with time?
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import operator_load as load
from bench import operator_user as user
from bench.gate import Gate
from devcluster.layout import Layout
from devcluster.light import LightCluster, free_ports
from devcluster.progress import Progress
from dspy_operator.core import names

if TYPE_CHECKING:
    from devcluster.access import Access

APPS, CHILDREN = 1000, 9
UPDATES = 20_000
IDLE_SECONDS = 600
EDITS, EDIT_SECONDS = 200, 0.1
RENEWALS, RENEWAL_SECONDS = 52, 6.0


def run(*, apps: int = APPS, updates: int = UPDATES, idle_seconds: int = IDLE_SECONDS) -> str:
    """Measure and return a table in Markdown."""
    progress = Progress()
    with LightCluster(Layout.of_checkout(), progress) as cluster:
        access = cluster.access
        access.crds()
        space = access.create_namespace("scale")
        rows = _first_writes(access, space, apps, progress)
        rows |= _restart(access, space, apps, idle_seconds, progress)
        rows |= _long_life(access, space, apps, updates, progress)
    return user.table(rows)


def _first_writes(access: Access, space: str, apps: int, progress: Progress) -> dict[str, Any]:
    progress.say(f"{apps} apps and their children")
    load.create_apps(access, space, apps, load.FULL)
    start = load.settled(access)
    with load.operator(access, space):
        load.wait_for_status(access, start, apps)
        # What the controllers of Kubernetes say now was not known at the first statuses.
        load.settled(access)
        writes = load.lines_of(access, start, load.OPERATOR)
    return {"writes per app": (f"{len(writes) / apps:.2f}", f"children + 2 = {CHILDREN + 2}")}


def _restart(
    access: Access, space: str, apps: int, idle_seconds: int, progress: Progress
) -> dict[str, Any]:
    """Start an operator where all is as it should be; then edit children by hand; then wait."""
    port = free_ports(1)
    mark = access.audit_marker()
    with load.operator(access, space, port):
        seconds = _until_ready(port)
        time.sleep(10)
        restarted = len(load.lines_of(access, mark, load.OPERATOR))
        progress.say(f"synced after {seconds:.1f} s; {EDITS} children edited by hand")
        mark = access.audit_marker()
        asyncio.run(_edit(access, space, apps))
        time.sleep(5)
        late = sorted(_repairs(access, mark))
        progress.say(f"{idle_seconds} idle seconds")
        quiet = access.audit_marker()
        time.sleep(idle_seconds)
        idle = len(load.lines_of(access, quiet, load.OPERATOR))
    p99 = late[int(0.99 * (len(late) - 1))]
    return {
        "restart until synced": (f"{seconds:.1f} s", "<= 20 s"),
        "writes after a restart": (restarted, "0"),
        f"{len(late)} of {EDITS} edits by hand until undone": (
            f"p50 {statistics.median(late):.2f} s, p99 {p99:.2f} s",
            "p99 <= 1 s",
        ),
        f"writes in {idle_seconds} idle s": (idle, "0"),
    }


def _long_life(
    access: Access, space: str, apps: int, updates: int, progress: Progress
) -> dict[str, Any]:
    """Let an operator see what a month brings, a quarter of it before its memory is compared."""
    config = json.loads(access.kubeconfig_for(load.OPERATOR, ("system:masters",)).read_text())
    port = free_ports(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        Gate(access.server, load.tls_of(config), Path(folder)) as gate,
        load.operator(access, space, port, gate.kubeconfig) as process,
    ):
        _until_ready(port)
        streams = gate.open_watches()
        figures = [load.memory_of(process.pid)]
        for part in (updates // 4, updates - updates // 4):
            progress.say(f"{part} updates")
            asyncio.run(_update(access, space, apps, part))
            rounds = RENEWALS * part // updates
            for number in range(rounds):
                progress.say(f"token and all {streams} watches expire, {number + 1} of {rounds}")
                gate.renew_token()
                gate.expire_watches()
                time.sleep(RENEWAL_SECONDS)
            time.sleep(20)
            figures.append(load.memory_of(process.pid))
        refused, open_again = gate.refused, gate.open_watches()
    before, settled, after = figures
    grown = 100 * (after / settled - 1)
    return {
        f"memory with {apps} apps, at the start": (f"{before:.0f} MiB", "<= 250 MB"),
        f"after {updates // 4} updates, {RENEWALS // 4} tokens, as many 410s of each watch": (
            f"{settled:.0f} MiB",
            "<= 250 MB",
        ),
        f"after {updates} updates, {RENEWALS} tokens, as many 410s of each watch": (
            f"{after:.0f} MiB ({grown:+.1f} %)",
            "<= 250 MB, <= +2 %",
        ),
        "requests refused with an old token; watches open at the end": (
            f"{refused}; {open_again} of {streams}",
            "shown",
        ),
    }


async def _edit(access: Access, space: str, apps: int) -> None:
    """Change what the operator has set, one child after the other."""
    async with user.session(access) as session:
        for number in range(EDITS):
            service = f"app-{number * apps // EDITS:04}"
            url = f"{access.server}/api/v1/namespaces/{space}/services/{service}"
            await user.send(session, "PATCH", url, {"spec": {"selector": {names.APP_LABEL: "x"}}})
            await asyncio.sleep(EDIT_SECONDS)


def _repairs(access: Access, since: int) -> list[float]:
    """Return the seconds from each edit to the operator's answered write of the same object."""
    undone = {
        e["objectRef"]["name"]: user.moment(e["stageTimestamp"])
        for e in load.lines_of(access, since, load.OPERATOR)
        if e["objectRef"]["resource"] == "services"
    }
    edited = user.writes(access, since)
    made = {e["objectRef"]["name"]: user.moment(e["stageTimestamp"]) for e in edited}
    return [undone[name] - at for name, at in made.items() if name in undone]


def _until_ready(port: int) -> float:
    begun = time.monotonic()
    while time.monotonic() < begun + 120:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer,
        ):
            if answer.status == 200:
                return time.monotonic() - begun
        time.sleep(0.05)
    raise TimeoutError("the operator did not become ready within 120 s")


async def _update(access: Access, space: str, apps: int, updates: int) -> None:
    """Change labels of the apps: each is an event for the operator, and nothing to write."""
    gate = asyncio.Semaphore(load.IN_FLIGHT)
    async with user.session(access) as session:

        async def one(number: int) -> None:
            patch = {"metadata": {"labels": {"count": str(number)}}}
            async with gate:
                url = f"{user.apps_url(access, space)}/app-{number % apps:04}"
                await user.send(session, "PATCH", url, patch)

        await asyncio.gather(*map(one, range(updates)))
