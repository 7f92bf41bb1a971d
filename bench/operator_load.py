"""Many apps at once: the operator beside a bare loop of the same server-side applies.

Both are timed from the API server's own audit log: from the first to the last write of a child.
The apps ask for 0 pods and exist before the operator starts, so that its queue is full at once. The
loop applies the same objects in another namespace, owned by apps of the same names there. Before
each phase the controllers of Kubernetes must have come to rest: what they do for the last phase,
such as the deletion of a thousand objects, would slow the next.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.access import Access

OPERATOR, LOOP = "bench-operator", "bench-loop"
KINDS = {
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Service": "api/v1/namespaces/{}/services",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Ingress": "apis/networking.k8s.io/v1/namespaces/{}/ingresses",
}
FULL: dict[str, Any] = {
    "network": {"policy": {}, "ingress": {"host": "tickets.example.com"}},
    "monitoring": {"dashboard": {}},
}
"""What an app with nine children has beyond one with six; nothing that would want pods."""
PLURALS = frozenset(path.rsplit("/", 1)[1] for path in KINDS.values())
REST_SECONDS = 3
NEVER_AT_REST = (b'"resource":"leases"', b'"resource":"events"')
"""What the controllers of Kubernetes write again and again."""
VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
IN_FLIGHT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run showed; times in seconds, memory in MiB."""

    apps: int
    children: int
    operator_seconds: float
    loop_seconds: float
    writes_per_app: float
    idle_seconds: int
    idle_writes: int
    memory_mib: float
    restart_writes: int


def run(*, apps: int = 200, idle_seconds: int = 600, rounds: int = 3) -> str:
    """Measure and return a table in Markdown."""
    with LightCluster(Layout.of_checkout(), Progress()) as cluster:
        access = cluster.access
        access.crds()
        rows = [_round(access, apps, {}, idle_seconds if n == 0 else 0) for n in range(rounds)]
    return table(rows, bar=1.5)


def _round(access: Access, apps: int, spec: dict[str, Any], idle_seconds: int) -> Figures:
    space, other = access.create_namespace("bench"), access.create_namespace("loop")
    for name in (space, other):
        create_apps(access, name, apps, spec)
    start = settled(access)
    with operator(access, space) as process:
        wait_for_status(access, start, apps)
        writes = lines_of(access, start, OPERATOR)
        children = [w for w in writes if w["objectRef"]["resource"] in PLURALS]
        memory = memory_of(process.pid)
        quiet = access.audit_marker()
        time.sleep(idle_seconds)
        idle = len(lines_of(access, quiet, OPERATOR))
    restarted = access.audit_marker()
    with operator(access, space):
        time.sleep(15)
        again = len(lines_of(access, restarted, OPERATOR))
    loop = bare_loop(access, space, other)
    for name in (space, other):
        access.delete_namespace(name)
    settled(access)
    return Figures(
        apps=apps,
        children=len(children),
        operator_seconds=span_of(children),
        loop_seconds=span_of(loop),
        writes_per_app=len(writes) / apps,
        idle_seconds=idle_seconds,
        idle_writes=idle,
        memory_mib=memory,
        restart_writes=again,
    )


def create_apps(access: Access, namespace: str, apps: int, spec: dict[str, Any]) -> None:
    """Create apps without pods; `spec` is merged into that of the example."""
    items = [manifest(number, namespace, spec) for number in range(apps)]
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    access.kubectl("create", "--filename=-", stdin=content)


def manifest(number: int, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return one app of many."""
    text = (Layout.of_checkout().repository / "examples/tickets/app.yaml").read_text()
    app: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    app["spec"]["serving"]["replicas"] = 0
    app["spec"] |= spec
    return {**app, "metadata": {"name": f"app-{number:04}", "namespace": namespace}}


@contextlib.contextmanager
def operator(
    access: Access, namespace: str, port: int = 0, kubeconfig: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an operator for one namespace, with its metrics on a port."""
    config = kubeconfig or access.kubeconfig_for(OPERATOR, ("system:masters",))
    program = Path(sys.executable).parent / "dspy-operator"
    command = [str(program), "--namespaces", namespace, "--metrics-port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--worker-image", "dspy-worker:dev"],
            env={**os.environ, "KUBECONFIG": str(config)},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=40)


def bare_loop(access: Access, space: str, other: str) -> list[dict[str, Any]]:
    """Apply the children of one namespace in another; return the audit log's lines of it."""
    children = children_of(access, space, owners=uids_of(access, other))
    mark = settled(access)
    asyncio.run(apply_all(access, other, children))
    return lines_of(access, mark, LOOP)


def wait_for_status(access: Access, since: int, apps: int) -> None:
    """Wait until the operator has written a status for so many apps.

    The audit log tells: to ask the API server would take time from those who are measured.
    """
    deadline = time.monotonic() + 300
    told: set[str] = set()
    position = since
    while len(told) < apps:
        if time.monotonic() > deadline:
            raise TimeoutError("the operator did not reach all apps within 300 s")
        time.sleep(0.5)
        lines, position = _news(access, position)
        told |= {
            json.loads(line)["objectRef"]["name"]
            for line in lines
            if b'"subresource":"status"' in line and f'"{OPERATOR}"'.encode() in line
        }
    time.sleep(2)


def settled(access: Access) -> int:
    """Wait until nobody has written for a while; return a marker of the audit log."""
    deadline = time.monotonic() + 600
    quiet_since, position = time.monotonic(), access.audit_marker()
    while time.monotonic() < quiet_since + REST_SECONDS:
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not come to rest within 600 s")
        time.sleep(0.25)
        lines, position = _news(access, position)
        if any(not any(noise in line for noise in NEVER_AT_REST) for line in lines):
            quiet_since = time.monotonic()
    return position


def _news(access: Access, position: int) -> tuple[list[bytes], int]:
    """Return the whole lines of the audit log behind a position, and the position behind them."""
    with access.audit_log.open("rb") as stream:
        stream.seek(position)
        news = stream.read()
    end = news.rfind(b"\n") + 1
    return news[:end].splitlines(), position + end


def lines_of(access: Access, since: int, user: str) -> list[dict[str, Any]]:
    lines, _ = _news(access, since)
    events = [json.loads(line) for line in lines]
    return [e for e in events if e["user"]["username"] == user]


def span_of(events: list[dict[str, Any]]) -> float:
    begins = [datetime.fromisoformat(e["requestReceivedTimestamp"]) for e in events]
    ends = [datetime.fromisoformat(e["stageTimestamp"]) for e in events]
    return (max(ends) - min(begins)).total_seconds()


def uids_of(access: Access, namespace: str) -> dict[str, str]:
    """Return the uids of the apps of a namespace by their names."""
    found = access.kubectl_json("get", "dspyapps", f"--namespace={namespace}")["items"]
    return {app["metadata"]["name"]: app["metadata"]["uid"] for app in found}


def children_of(access: Access, namespace: str, *, owners: dict[str, str]) -> list[dict[str, Any]]:
    """Return the children as they were applied, owned by other apps of the same names."""
    selector = "--selector=app.kubernetes.io/managed-by=dspy-operator"
    kinds = ",".join(PLURALS)
    found = access.kubectl_json("get", kinds, f"--namespace={namespace}", selector)["items"]
    return [_bare(child, owners) for child in found]


def _bare(child: dict[str, Any], owners: dict[str, str]) -> dict[str, Any]:
    kept = {k: v for k, v in child["metadata"].items() if k not in VOLATILE}
    kept.pop("namespace")
    kept["ownerReferences"] = [
        {**owner, "uid": owners[owner["name"]]} for owner in kept["ownerReferences"]
    ]
    spec = child.get("spec", {})
    for assigned in ("clusterIP", "clusterIPs"):
        spec.pop(assigned, None)
    return {**{k: v for k, v in child.items() if k != "status"}, "metadata": kept}


async def apply_all(access: Access, namespace: str, children: list[dict[str, Any]]) -> None:
    config = json.loads(access.kubeconfig_for(LOOP, ("system:masters",)).read_text())
    gate = asyncio.Semaphore(IN_FLIGHT)
    connector = aiohttp.TCPConnector(ssl=tls_of(config))
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(child: dict[str, Any]) -> None:
            path = KINDS[child["kind"]].format(namespace)
            url = f"{access.server}/{path}/{child['metadata']['name']}?fieldManager=l&force=true"
            headers = {"Content-Type": "application/apply-patch+yaml"}
            async with (
                gate,
                session.patch(url, data=json.dumps(child), headers=headers) as response,
            ):
                response.raise_for_status()
                await response.read()

        await asyncio.gather(*map(one, children))


def tls_of(config: dict[str, Any]) -> ssl.SSLContext:
    user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pair:
        for part in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[part]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return context


def memory_of(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(part for part in status.splitlines() if part.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def table(rounds: list[Figures], *, bar: float) -> str:
    ratios = [r.operator_seconds / r.loop_seconds for r in rounds]
    spans = ", ".join(f"{r.operator_seconds:.1f} s" for r in rounds)
    loops = ", ".join(f"{r.loop_seconds:.1f} s" for r in rounds)
    first = rounds[0]
    return "\n".join(
        [
            "| what | measured | bar |",
            "|---|---|---|",
            f"| {first.apps} apps, {first.children} children, operator | {spans} | |",
            f"| bare loop of the same applies, {IN_FLIGHT} in flight | {loops} | |",
            f"| operator / loop (median) | {statistics.median(ratios):.2f} | <= {bar} |",
            (
                f"| writes per app | {first.writes_per_app:.2f} | children + 2 = "
                f"{first.children / first.apps + 2:.0f} |"
            ),
            f"| writes in {first.idle_seconds} idle s | {first.idle_writes} | 0 |",
            f"| writes after a restart | {first.restart_writes} | 0 |",
            f"| operator memory, {first.apps} apps | {first.memory_mib:.0f} MiB | shown |",
        ]
    )
