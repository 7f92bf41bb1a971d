"""A thousand apps with nine children each: all at once, in a stream, after a restart, for a while.

The figures are those of a platform team: does the operator keep up with the API server, how late
is a change at 70 % of the load that the API server can take, how fast is a restart, how long does
an edit by hand live, and does memory grow with time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from bench import operator_load as load
from bench.gate import Gate
from devcluster.layout import Layout
from devcluster.light import LightCluster, free_ports
from devcluster.progress import Progress
from dspy_operator.core import names

if TYPE_CHECKING:
    from devcluster.access import Access

APPS, CHILDREN = 1000, 9
STREAM_SECONDS = 60
SHARE = 0.7
UPDATES = 20_000
IDLE_SECONDS = 600
EDITS, EDIT_SECONDS = 200, 0.1
RENEWALS, RENEWAL_SECONDS = 52, 6.0
USER = "bench-user"


def run(*, apps: int = APPS, updates: int = UPDATES, idle_seconds: int = IDLE_SECONDS) -> str:
    """Measure and return a table in Markdown."""
    progress = Progress()
    with LightCluster(Layout.of_checkout(), progress) as cluster:
        access = cluster.access
        access.crds()
        space = access.create_namespace("scale")
        rows = _all_at_once(access, space, apps, progress)
        rate = rows.pop("loop rate")
        rows |= _stream(access, SHARE * rate / CHILDREN, progress)
        rows |= _restart(access, space, apps, idle_seconds, progress)
        rows |= _long_life(access, space, apps, updates, progress)
    return "\n".join(["| what | measured | bar |", "|---|---|---|", *_lines(rows)])


def _lines(rows: dict[str, Any]) -> list[str]:
    return [f"| {what} | {figure} | {bar} |" for what, (figure, bar) in rows.items()]


def _all_at_once(access: Access, space: str, apps: int, progress: Progress) -> dict[str, Any]:
    progress.say(f"creating {apps} apps")
    other = access.create_namespace("loop")
    for name in (space, other):
        load.create_apps(access, name, apps, load.FULL)
    start = load.settled(access)
    with load.operator(access, space):
        progress.say("the operator makes their children")
        load.wait_for_status(access, start, apps)
        writes = load.lines_of(access, start, load.OPERATOR)
    children = [w for w in writes if w["objectRef"]["resource"] in load.PLURALS]
    progress.say("a bare loop makes the same")
    loop = load.span_of(load.bare_loop(access, space, other))
    ours = load.span_of(children)
    access.delete_namespace(other)
    load.settled(access)
    return {
        f"{apps} apps, {len(children)} children at once": (f"{ours:.1f} s", "shown"),
        "a bare loop of the same applies": (f"{loop:.1f} s", "shown"),
        "operator / loop": (f"{ours / loop:.2f}", "<= 1.3"),
        "writes per app": (f"{len(writes) / apps:.2f}", "children + 2 = 11"),
        "loop rate": len(children) / loop,
    }


def _stream(access: Access, rate: float, progress: Progress) -> dict[str, Any]:
    """Create apps at a steady rate; measure from each create to the app's last child."""
    count = int(rate * STREAM_SECONDS)
    progress.say(f"a stream of {rate:.1f} apps per second, {count} apps")
    space = access.create_namespace("stream")
    start = access.audit_marker()
    with load.operator(access, space):
        time.sleep(5)
        asyncio.run(_create_steadily(access, space, count, rate))
        load.wait_for_status(access, start, count)
        late = sorted(_latencies(access, start))
    access.delete_namespace(space)
    load.settled(access)
    p99 = late[int(0.99 * (len(late) - 1))]
    spread = f"p50 {statistics.median(late):.2f} s, p99 {p99:.2f} s"
    return {f"create to last child at {SHARE:.0%} of the loop's rate": (spread, "p99 <= 5 s")}


async def _create_steadily(access: Access, space: str, count: int, rate: float) -> None:
    async with _session(access) as session:
        begun = time.monotonic()
        tasks = []
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            body = load.manifest(number, space, load.FULL)
            tasks.append(asyncio.create_task(_send(session, "POST", _apps(access, space), body)))
        await asyncio.gather(*tasks)


def _latencies(access: Access, since: int) -> list[float]:
    created = {
        e["objectRef"]["name"]: _moment(e["stageTimestamp"])
        for e in load.lines_of(access, since, USER)
        if e["verb"] == "create"
    }
    last: dict[str, float] = {}
    for event in load.lines_of(access, since, load.OPERATOR):
        if event["objectRef"]["resource"] in load.PLURALS:
            app = event["objectRef"]["name"][: len("app-0000")]
            last[app] = max(last.get(app, 0.0), _moment(event["stageTimestamp"]))
    return [last[name] - at for name, at in created.items()]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _restart(
    access: Access, space: str, apps: int, idle_seconds: int, progress: Progress
) -> dict[str, Any]:
    """Start an operator where all is as it should be; then edit children by hand; then wait."""
    port = free_ports(1)
    with load.operator(access, space):
        time.sleep(
            20
        )  # what autoscalers say now was not known when the first statuses were written
        load.settled(access)
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
    async with _session(access) as session:
        for number in range(EDITS):
            service = f"app-{number * apps // EDITS:04}"
            url = f"{access.server}/api/v1/namespaces/{space}/services/{service}"
            await _send(session, "PATCH", url, {"spec": {"selector": {names.APP_LABEL: "x"}}})
            await asyncio.sleep(EDIT_SECONDS)


def _repairs(access: Access, since: int) -> list[float]:
    """Return the seconds from each edit to the operator's answered write of the same object."""
    undone = {
        e["objectRef"]["name"]: _moment(e["stageTimestamp"])
        for e in load.lines_of(access, since, load.OPERATOR)
        if e["objectRef"]["resource"] == "services"
    }
    edited = load.lines_of(access, since, USER)
    made = {e["objectRef"]["name"]: _moment(e["stageTimestamp"]) for e in edited}
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
    async with _session(access) as session:

        async def one(number: int) -> None:
            patch = {"metadata": {"labels": {"count": str(number)}}}
            async with gate:
                url = f"{_apps(access, space)}/app-{number % apps:04}"
                await _send(session, "PATCH", url, patch)

        await asyncio.gather(*map(one, range(updates)))


def _session(access: Access) -> aiohttp.ClientSession:
    config = json.loads(access.kubeconfig_for(USER, ("system:masters",)).read_text())
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=load.tls_of(config)))


async def _send(session: aiohttp.ClientSession, method: str, url: str, body: object) -> None:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Content-Type": kind}
    async with session.request(method, url, data=json.dumps(body), headers=headers) as response:
        response.raise_for_status()
        await response.read()


def _apps(access: Access, space: str) -> str:
    group = "apis/dspy-operator.io/v1alpha1"
    return f"{access.server}/{group}/namespaces/{space}/dspyapps"
