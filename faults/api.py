"""A small asynchronous API client for everybody but the operator: user, kubelet, observer."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from faults.trace import Manifest

KINDS = {
    "DSPyApp": "apis/dspy-operator.io/v1alpha1/{}dspyapps",
    "Deployment": "apis/apps/v1/{}deployments",
    "Service": "api/v1/{}services",
    "ConfigMap": "api/v1/{}configmaps",
    "ServiceAccount": "api/v1/{}serviceaccounts",
    "Pod": "api/v1/{}pods",
    "PersistentVolumeClaim": "api/v1/{}persistentvolumeclaims",
    "HorizontalPodAutoscaler": "apis/autoscaling/v2/{}horizontalpodautoscalers",
    "PodDisruptionBudget": "apis/policy/v1/{}poddisruptionbudgets",
    "Ingress": "apis/networking.k8s.io/v1/{}ingresses",
    "NetworkPolicy": "apis/networking.k8s.io/v1/{}networkpolicies",
}
"""Path of each kind's collection; `{}` is where the namespace goes."""
RESOURCES = {path.rpartition("}")[2]: kind for kind, path in KINDS.items()}
MERGE = "application/merge-patch+json"
_NOT_FOUND, _TOO_MANY, _FIRST_FAILURE = 404, 429, 400
_ATTEMPTS = 10
_GOODBYE_SECONDS = 0.25
"""aiohttp does not wait for the end of TLS; connections would outlive the loop."""


class RefusedError(Exception):
    """The API server said no to somebody who is not the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where an API server is and who asks.

    Attributes:
        server: URL without a trailing slash.
        tls: Trust and client certificate.
    """

    server: str
    tls: ssl.SSLContext

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        """Read a kubeconfig that `devcluster.kubeconfig` wrote."""
        config = json.loads(kubeconfig.read_text())
        user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:  # the ssl module takes it from a file only
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            context.load_cert_chain(pair.name)
        return cls(server=cluster["server"], tls=context)


class Api:
    """An API server, as one user sees it; an asynchronous context manager."""

    def __init__(self, door: Door) -> None:
        """Remember the door; it opens with the context."""
        self._door = door

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._door.tls)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        await asyncio.sleep(_GOODBYE_SECONDS)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections, for the proxy."""
        return self._session

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._door.server

    async def create(self, manifest: Manifest, namespace: str = "") -> Manifest:
        """Create an object."""
        return await self._ask("POST", path(manifest["kind"], namespace), manifest)

    async def create_namespace(self, name: str) -> None:
        """Create a namespace that enforces the restricted pod security standard."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        await self._ask("POST", "api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})

    async def delete_namespace(self, name: str) -> None:
        """Ask for the deletion of a namespace."""
        await self._ask("DELETE", f"api/v1/namespaces/{name}")

    async def merge(self, where: str, patch: Manifest) -> Manifest:
        """Change fields of the object at a path."""
        return await self._ask("PATCH", where, patch, content_type=MERGE)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object; the garbage collector deletes what it owns."""
        await self._ask("DELETE", f"{path(kind, namespace)}/{name}", {})

    async def get(self, where: str) -> Manifest | None:
        """Return the object at a path, or None where there is none."""
        try:
            return await self._ask("GET", where)
        except LookupError:
            return None

    async def version(self) -> str:
        """Return the newest resourceVersion of the whole cluster."""
        answer = await self._ask("GET", "api/v1/namespaces?limit=1")
        return str(answer["metadata"]["resourceVersion"])

    async def list_all(self, kind: str) -> tuple[list[Manifest], str]:
        """Return all objects of a kind and the version of the list."""
        answer = await self._ask("GET", path(kind))
        return answer["items"] or [], answer["metadata"]["resourceVersion"]

    async def watch(self, kind: str, version: str) -> AsyncIterator[Manifest]:
        """Yield the lines of one watch stream."""
        query = f"?watch=true&allowWatchBookmarks=true&resourceVersion={version}"
        url = f"{self._door.server}/{path(kind)}{query}"
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            async for raw in lines(response):
                yield json.loads(raw)

    async def _ask(
        self,
        method: str,
        where: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        data = None if body is None else json.dumps(body)
        url = f"{self._door.server}/{where}"
        for _ in range(_ATTEMPTS):
            async with self._session.request(method, url, data=data, headers=headers) as response:
                text = await response.text()
            if response.status != _TOO_MANY:  # a kind that has just been made is not served yet
                break
            await asyncio.sleep(1)
        if response.status == _NOT_FOUND:
            raise LookupError(where)
        if response.status >= _FIRST_FAILURE:
            raise RefusedError(f"{method} {where}: {text[:500]}")
        answer: Manifest = json.loads(text)
        return answer


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; an object may be longer than the reader's own limit."""
    rest = b""
    async for chunk in response.content.iter_any():
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if line:
                yield line


def path(kind: str, namespace: str = "") -> str:
    """Return the path of a collection."""
    return KINDS[kind].format(f"namespaces/{namespace}/" if namespace else "")
