"""A thousand apps with nine children each: all at once, and in a stream.

Does the operator keep up with the API server, and how late is a change at 70 % of the load that the
API server can take?
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

from bench import operator_load as load
from bench import operator_user as user
from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devcluster.access import Access

APPS, ROUNDS = 1000, 3
SHARE = 0.7


def run(*, apps: int = APPS, rounds: int = ROUNDS) -> str:
    """Measure and return a table in Markdown."""
    progress = Progress()
    with LightCluster(Layout.of_checkout(), progress) as cluster:
        cluster.access.crds()
        pairs = [_all_at_once(cluster.access, apps, progress) for _ in range(rounds)]
        loop = statistics.median(loop for _, loop in pairs)
        late = _stream(cluster.access, apps, SHARE * apps / loop, progress)
    ratio = statistics.median(ours / loop for ours, loop in pairs)
    p99 = late[int(0.99 * (len(late) - 1))]
    return user.table(
        {
            f"{apps} apps at once, operator": (_seconds(ours for ours, _ in pairs), "shown"),
            "a bare loop of the same applies": (_seconds(loop for _, loop in pairs), "shown"),
            "operator / loop (median)": (f"{ratio:.2f}", "<= 1.3"),
            f"create to last child, {apps} apps at {SHARE:.0%} of the loop's rate": (
                f"p50 {statistics.median(late):.2f} s, p99 {p99:.2f} s",
                "p99 <= 5 s",
            ),
        }
    )


def _seconds(times: Iterable[float]) -> str:
    return ", ".join(f"{each:.1f} s" for each in times)


def _all_at_once(access: Access, apps: int, progress: Progress) -> tuple[float, float]:
    """Return the seconds that the operator takes, and those of a bare loop of the same applies."""
    progress.say(f"creating {apps} apps")
    space, other = access.create_namespace("scale"), access.create_namespace("loop")
    for name in (space, other):
        load.create_apps(access, name, apps, load.FULL)
    start = load.settled(access)
    with load.operator(access, space):
        progress.say("the operator makes their children")
        load.wait_for_status(access, start, apps)
        writes = load.lines_of(access, start, load.OPERATOR)
    ours = load.span_of([w for w in writes if w["objectRef"]["resource"] in load.PLURALS])
    progress.say("a bare loop makes the same")
    loop = load.span_of(load.bare_loop(access, space, other))
    progress.say(f"operator {ours:.1f} s, loop {loop:.1f} s; deleting all")
    for name in (space, other):
        access.delete_namespace(name)
    load.settled(access)
    return ours, loop


def _stream(access: Access, apps: int, rate: float, progress: Progress) -> list[float]:
    """Create apps at a steady rate; return the seconds from each create to the last child."""
    progress.say(f"a stream of {rate:.1f} apps per second")
    space = access.create_namespace("stream")
    start = access.audit_marker()
    with load.operator(access, space):
        time.sleep(5)
        asyncio.run(_create_steadily(access, space, apps, rate))
        load.wait_for_status(access, start, apps)
    return sorted(_latencies(access, start))


async def _create_steadily(access: Access, space: str, count: int, rate: float) -> None:
    async with user.session(access) as session:
        begun = time.monotonic()
        tasks = []
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            body = load.manifest(number, space, load.FULL)
            tasks.append(
                asyncio.create_task(user.send(session, "POST", user.apps_url(access, space), body))
            )
        await asyncio.gather(*tasks)


def _latencies(access: Access, since: int) -> list[float]:
    created = {
        e["objectRef"]["name"]: user.moment(e["stageTimestamp"])
        for e in user.writes(access, since)
        if e["verb"] == "create"
    }
    last: dict[str, float] = {}
    for event in load.lines_of(access, since, load.OPERATOR):
        if event["objectRef"]["resource"] in load.PLURALS:
            app = event["objectRef"]["name"][: len("app-0000")]
            last[app] = max(last.get(app, 0.0), user.moment(event["stageTimestamp"]))
    return [last[name] - at for name, at in created.items()]
