"""What was seen, as frozen values: requests and watch lines of the operator, changes of objects."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

Manifest: TypeAlias = dict[str, Any]

WRITES = frozenset({"create", "patch", "update", "delete"})
FIRST_FAILURE = 400

_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
_CORE_PREFIX, _GROUP_PREFIX = 2, 3  # path segments: api/v1, apis/GROUP/VERSION
_GENERATED = re.compile(r"-[a-z0-9]{5,10}-[a-z0-9]{5}$")
_VOLATILE = (
    (re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), b"UID"),
    (re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), b"TIME"),
    (re.compile(rb'"resourceVersion": ?"\d+"'), b'"resourceVersion":"VERSION"'),
    (re.compile(rb'"token": ?"[^"]*"'), b'"token":"TOKEN"'),
    (re.compile(rb'(dspy-operator\.io/applied": ?)"[0-9a-f]*"'), rb'\1"STAMP"'),
)
"""What differs between two runs of the same scenario."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What a request is about; `name` is empty for collections."""

    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        sub = f"/{self.subresource}" if self.subresource else ""
        return f"{self.resource}{sub} {self.name}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the operator.

    Attributes:
        n: Position among all that the proxy saw.
        step: Name of the scenario's step that was under way.
        verb: As RBAC has it.
        digest: Hash of the body without what differs from run to run; empty without a body, and for
            Events, which are all alike.
        preconditions: Which preconditions a deletion carries.
        answered: Position of the answer; 0 while there is none.
        status: HTTP status that the API server gave; 0 where it was not asked.
        version: resourceVersion in the answer.
    """

    n: int
    step: str
    verb: str
    target: Target
    digest: str = ""
    preconditions: tuple[str, ...] = ()
    answered: int = 0
    status: int = 0
    version: str = ""

    @property
    def is_write(self) -> bool:
        """Whether it asks for a change."""
        return self.verb in WRITES

    @property
    def is_accepted(self) -> bool:
        """Whether the API server did what was asked."""
        return 0 < self.status < FIRST_FAILURE


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a watch stream.

    Attributes:
        n: Position among all that the proxy saw.
        step: Name of the scenario's step that was under way.
        stream: Resource of the stream, with `/metadata` where only metadata is watched.
        type: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
        name: Name of the object, generated parts replaced by `*`.
        uid: Its uid.
        version: Its resourceVersion.
    """

    n: int
    step: str
    stream: str
    type: str
    name: str
    uid: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One change of one object.

    Attributes:
        type: ADDED, MODIFIED or DELETED.
        live: The object after the change, or before its deletion.
    """

    kind: str
    type: str
    live: Manifest

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.live["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.live["metadata"]["uid"])


@dataclass(slots=True)
class Trace:
    """All that one operator asked and heard, in the order of arrival at the proxy."""

    step: str = "start"
    requests: list[Request] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    _next: int = 0

    def ask(self, method: str, path: str, query: str, body: bytes) -> Request:
        """Record a request before it is forwarded."""
        asked = target(path)
        is_event = asked.resource == "events"
        if is_event and asked.name:
            asked = replace(asked, name="*")
        request = Request(
            n=self._count(),
            step=self.step,
            verb=verb(method, asked, query),
            target=asked,
            digest="" if is_event else digest(body, asked.namespace),
            preconditions=preconditions(body) if method == "DELETE" else (),
        )
        self.requests.append(request)
        return request

    def answer(self, request: Request, status: int, body: bytes) -> Request:
        """Record what the API server answered."""
        found = replace(request, answered=self._count(), status=status, version=version(body))
        self.requests[self.requests.index(request)] = found
        return found

    def line(self, stream: str, raw: bytes) -> Line:
        """Record a line of a watch stream."""
        content = json.loads(raw)
        metadata = content["object"].get("metadata", {})
        found = Line(
            n=self._count(),
            step=self.step,
            stream=stream,
            type=content["type"],
            name=_GENERATED.sub("-*", metadata.get("name", ""))
            if stream == "pods"
            else (metadata.get("name", "")),
            uid=metadata.get("uid", ""),
            version=metadata.get("resourceVersion", ""),
        )
        self.lines.append(found)
        return found

    def writes(self) -> list[Request]:
        """Return the requests for a change, Events left out: they are best effort."""
        return [r for r in self.requests if r.is_write and r.target.resource != "events"]

    def _count(self) -> int:
        self._next += 1
        return self._next


def target(path: str) -> Target:
    """Read a path of the Kubernetes API."""
    parts = path.strip("/").split("/")
    rest = parts[_CORE_PREFIX if parts[0] == "api" else _GROUP_PREFIX :]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > _CORE_PREFIX:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = [*rest, "", "", ""][:3]
    return Target(resource, namespace, name, subresource)


def verb(method: str, asked: Target, query: str) -> str:
    """Return the verb as RBAC has it."""
    if method in _VERBS:
        return _VERBS[method]
    if "watch=true" in query:
        return "watch"
    return "get" if asked.name or not asked.resource else "list"


def digest(body: bytes, namespace: str) -> str:
    """Return a hash of a body that is equal in two runs of the same scenario."""
    if not body:
        return ""
    text = body.replace(namespace.encode(), b"NAMESPACE") if namespace else body
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return hashlib.sha256(text).hexdigest()[:12]


def preconditions(body: bytes) -> tuple[str, ...]:
    """Return which preconditions the options of a deletion carry."""
    options = json.loads(body) if body else {}
    return tuple(sorted(options.get("preconditions", {})))


def version(body: bytes) -> str:
    """Return the resourceVersion of an answer; empty where it has none."""
    try:
        found = json.loads(body).get("metadata", {}).get("resourceVersion", "")
    except (json.JSONDecodeError, AttributeError):
        return ""
    return str(found)


def stream_name(asked: Target, accept: str) -> str:
    """Return the name by which plans know a stream: one resource may be watched in two ways."""
    return f"{asked.resource}/metadata" if "PartialObjectMetadata" in accept else asked.resource
