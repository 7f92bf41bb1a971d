"""A person beside the operator: creates, edits and changes apps under a name of its own."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from bench import operator_load as load

if TYPE_CHECKING:
    from devcluster.access import Access

USER = "bench-user"


def session(access: Access) -> aiohttp.ClientSession:
    config = json.loads(access.kubeconfig_for(USER, ("system:masters",)).read_text())
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=load.tls_of(config)))


async def send(client: aiohttp.ClientSession, method: str, url: str, body: object) -> None:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Content-Type": kind}
    async with client.request(method, url, data=json.dumps(body), headers=headers) as response:
        response.raise_for_status()
        await response.read()


def apps_url(access: Access, space: str) -> str:
    group = "apis/dspy-operator.io/v1alpha1"
    return f"{access.server}/{group}/namespaces/{space}/dspyapps"


def writes(access: Access, since: int) -> list[dict[str, Any]]:
    """Return what the user has written since a moment."""
    return load.lines_of(access, since, USER)


def moment(text: str) -> float:
    """Return a moment of the audit log as seconds."""
    return datetime.fromisoformat(text).timestamp()


def table(rows: dict[str, tuple[object, str]]) -> str:
    """Return figures and bars as Markdown."""
    lines = [f"| {what} | {figure} | {bar} |" for what, (figure, bar) in rows.items()]
    return "\n".join(["| what | measured | bar |", "|---|---|---|", *lines])
