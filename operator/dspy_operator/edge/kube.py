"""The only API client: server-side apply, read, delete and watch, with one error tree.

It knows no business: which objects, when and why is decided elsewhere. A request that fails is
retried here only where the server itself says when (`Retry-After`); everything else is the
queue's to retry, because by then the answer may no longer be wanted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

from dspy_operator import errors
from dspy_operator.core import manifest, names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dspy_operator.core.manifest import Manifest, Ref
    from dspy_operator.edge.limiter import Bucket

_REQUEST_SECONDS: Final = 30
_SILENCE_SECONDS: Final = 70
"""The API server sends a bookmark each minute; a stream that is silent for longer is dead."""
_PAGE: Final = 250
_ATTEMPTS: Final = 4
_LONGEST_RETRY_AFTER: Final = 30.0
_FIRST_FAILURE: Final = 400
_NOT_FOUND: Final = 404
_NOBODYS_VERSION: Final = "1"
"""A precondition that no object can meet: etcd counts from 1 and writes the first one as 2.

Where there is no object, the API server creates one and asks for no version. So an apply becomes
the create-or-conflict that it lacks an option for.
"""
_METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API serves a kind."""

    prefix: str
    plural: str
    kind: str

    @property
    def identity(self) -> dict[str, str]:
        """Return apiVersion and kind."""
        return {"apiVersion": self.prefix.partition("/")[2], "kind": self.kind}


RESOURCES: Final = {
    resource.kind: resource
    for resource in (
        Resource("apis/dspy-operator.io/v1alpha1", "dspyapps", "DSPyApp"),
        Resource("apis/apps/v1", "deployments", "Deployment"),
        Resource("api/v1", "services", "Service"),
        Resource("api/v1", "configmaps", "ConfigMap"),
        Resource("api/v1", "serviceaccounts", "ServiceAccount"),
        Resource("api/v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
        Resource("api/v1", "pods", "Pod"),
        Resource("apis/autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        Resource("apis/policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        Resource("apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
        Resource("apis/networking.k8s.io/v1", "ingresses", "Ingress"),
        Resource("apis/gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute"),
        Resource("apis/monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor"),
        Resource("apis/monitoring.coreos.com/v1", "prometheusrules", "PrometheusRule"),
        Resource("apis/keda.sh/v1alpha1", "scaledobjects", "ScaledObject"),
        Resource("apis/events.k8s.io/v1", "events", "Event"),
        Resource("apis/coordination.k8s.io/v1", "leases", "Lease"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of one kind a list or a watch is about.

    Attributes:
        namespace: One namespace; empty for all.
        labels: Label selector; empty for all.
        metadata_only: Whether only metadata is wanted.
    """

    kind: str
    namespace: str = ""
    labels: str = ""
    metadata_only: bool = False


class Cluster:
    """A Kubernetes API server."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: str,
        limiter: Bucket,
        *,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare.

        Args:
            session: Carries our credentials.
            server: URL of the API server.
            limiter: How fast we may ask.
            may_write: Asked at the moment when a write is sent.
        """
        self._session = session
        self._may_write = may_write
        self._server = server
        self._limiter = limiter

    async def apply(self, desired: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        """Apply on the server's side, by force, and return the object as it is now.

        Raises:
            ClusterError: It was not accepted, or nobody knows.
        """
        answer: Manifest = await self._request(
            "PATCH",
            _path(manifest.ref_of(desired), subresource),
            params={"fieldManager": manager, "force": "true"},
            body=desired,
            content_type="application/apply-patch+yaml",
        )
        return answer

    async def apply_new(self, desired: Manifest, *, manager: str) -> Manifest:
        """Apply an object that nobody has made yet.

        Raises:
            ConflictError: There is one of this name, whoever made it; it was left alone.
        """
        metadata = {**desired["metadata"], "resourceVersion": _NOBODYS_VERSION}
        return await self.apply({**desired, "metadata": metadata}, manager=manager)

    async def apply_status(self, app: Manifest, status: Manifest) -> Manifest:
        """Write the status of a DSPyApp; another object of the same name is left alone."""
        metadata = {name: app["metadata"][name] for name in ("name", "namespace", "uid")}
        desired = {
            "apiVersion": app["apiVersion"],
            "kind": app["kind"],
            "metadata": metadata,
            "status": status,
        }
        return await self.apply(desired, manager=names.STATUS_MANAGER, subresource="/status")

    async def get(self, ref: Ref) -> Manifest | None:
        """Return an object, or None where there is none."""
        try:
            answer: Manifest = await self._request("GET", _path(ref))
        except errors.NotFoundError:
            return None
        return answer

    async def create(self, desired: Manifest) -> Manifest:
        """Create an object whose name nobody else has."""
        ref = manifest.ref_of(desired)
        path = _collection(ref.kind, ref.namespace)
        answer: Manifest = await self._request("POST", path, body=desired)
        return answer

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        """Change fields of an object that we created."""
        answer: Manifest = await self._request(
            "PATCH", _path(ref), body=patch, content_type="application/merge-patch+json"
        )
        return answer

    async def delete(self, live: Manifest) -> Manifest | None:
        """Delete exactly the object that was looked at, not one that took its place since.

        Returns:
            The object where a finalizer keeps it for now; None where it is gone.
        """
        metadata = live["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        options = {"propagationPolicy": "Background", "preconditions": preconditions}
        try:
            answer: Manifest = await self._request(
                "DELETE", _path(manifest.ref_of(live)), body=options
            )
        except errors.NotFoundError:
            return None
        return answer if "deletionTimestamp" in answer.get("metadata", {}) else None

    async def groups(self) -> frozenset[str]:
        """Return the names of the API groups that the server knows."""
        found = await self._request("GET", "apis")
        return frozenset(group["name"] for group in found.get("groups", ()))

    async def serves(self, kind: str) -> bool:
        """Return whether the server has a kind in the version that we write."""
        resource = RESOURCES[kind]
        try:
            found = await self._request("GET", resource.prefix)
        except errors.NotFoundError:
            return False
        return any(each["name"] == resource.plural for each in found.get("resources", ()))

    async def pages(self, selection: Selection) -> AsyncIterator[tuple[list[Manifest], str]]:
        """Yield all objects page by page, each with the list's resourceVersion."""
        params = _params(selection) | {"limit": str(_PAGE)}
        while True:
            page = await self._request(
                "GET",
                _collection(selection.kind, selection.namespace),
                params=params,
                accept=_METADATA.format("List") if selection.metadata_only else "",
            )
            version = page["metadata"]["resourceVersion"]
            yield page.get("items") or [], version
            following = page["metadata"].get("continue")
            if not following:
                return
            params = params | {"continue": following}

    async def watch(self, selection: Selection, version: str) -> AsyncIterator[Manifest]:
        """Yield the lines of one watch stream, until the server ends it or falls silent.

        Raises:
            GoneError: The version is too old.
            ClusterError: The stream was refused or broke.
        """
        params = _params(selection) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
        }
        accept = _METADATA.format("") if selection.metadata_only else "application/json"
        try:
            async with self._session.get(
                f"{self._server}/{_collection(selection.kind, selection.namespace)}",
                params=params,
                headers={"Accept": accept},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=10, sock_read=_SILENCE_SECONDS
                ),
            ) as response:
                if response.status >= _FIRST_FAILURE:
                    raise _error(response.status, await response.read(), None)
                async for line in _lines(response.content):
                    yield orjson.loads(line)
        except aiohttp.SocketTimeoutError:
            return  # silence: go on from the last version, whatever was lost comes again
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            message = f"The watch of {selection.kind} broke: {error!r}"
            raise errors.UnavailableError(message) from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "",
    ) -> Any:  # noqa: ANN401 - JSON
        headers = {"Accept": accept or "application/json", "Content-Type": content_type}
        data = None if body is None else orjson.dumps(body)
        for attempt in range(1, _ATTEMPTS + 1):
            await self._limiter.wait()
            if method != "GET" and not self._may_write():
                raise errors.NotLeadingError("This operator does not lead any more.")
            status, answer, after = await self._send(method, path, params, headers, data)
            if status < _FIRST_FAILURE:
                return _read(answer)
            if after is None or after > _LONGEST_RETRY_AFTER or attempt == _ATTEMPTS:
                break
            await asyncio.sleep(after)
        raise _error(status, answer, after or None)  # 0 would be a retry without a pause

    async def _send(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None,
        headers: dict[str, str],
        data: bytes | None,
    ) -> tuple[int, bytes, float | None]:
        try:
            async with self._session.request(
                method,
                f"{self._server}/{path}",
                params=params,
                headers=headers,
                data=data,
                timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=10),
            ) as response:
                return response.status, await response.read(), _retry_after(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise errors.UnavailableError(f"The API server did not answer: {error!r}") from error


def _read(answer: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:  # a proxy in between may say 200 and mean nothing
        text = f"The API server's answer cannot be read: {error}"
        raise errors.UnavailableError(text) from error


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split at line ends ourselves: one object may be longer than the stream's own limit."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _params(selection: Selection) -> dict[str, str]:
    return {"labelSelector": selection.labels} if selection.labels else {}


def _collection(kind: str, namespace: str) -> str:
    resource = RESOURCES[kind]
    within = f"namespaces/{namespace}/" if namespace else ""
    return f"{resource.prefix}/{within}{resource.plural}"


def _path(ref: Ref, subresource: str = "") -> str:
    return f"{_collection(ref.kind, ref.namespace)}/{ref.name}{subresource}"


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None


_ERRORS: Final[dict[int, type[errors.ClusterError]]] = {
    400: errors.RefusedError,
    401: errors.UnavailableError,  # our token is being renewed, or whoever checks it is away
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    410: errors.GoneError,
    422: errors.RefusedError,
    429: errors.UnavailableError,
}


def error_of(status: int, message: str, retry_after: float | None = None) -> errors.ClusterError:
    """Return the error for an HTTP status; 5xx and what is unknown may pass."""
    default = errors.UnavailableError if status >= 500 else errors.ClusterError  # noqa: PLR2004 - HTTP
    return _ERRORS.get(status, default)(message, status=status, retry_after=retry_after)


def _error(status: int, answer: bytes, retry_after: float | None) -> errors.ClusterError:
    try:
        message = orjson.loads(answer)["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = answer[:200].decode(errors="replace") or f"HTTP {status}"
        if status == _NOT_FOUND:  # the path is not served, which says nothing about an object
            return errors.UnavailableError(message.strip(), status=status)
    return error_of(status, message, retry_after)
