"""A DSPyApp as a frozen value: the only input of the render functions.

The schema of the CRD has filled in the defaults and checked the shape; the worker's own reader
checks what CEL cannot say. What is left here is the mapping to names that the operator uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dspy_operator.core import options as optional_parts
from dspy_operator.errors import SpecError
from dspy_worker.contract import app as contract

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.options import Options, Scaling

DIGEST_DIGITS = 12
"""Hex digits of a digest that people see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What `spec.serving` says about pods, in the shapes of the Kubernetes API."""

    resources: Manifest
    env: tuple[tuple[str, str], ...]
    node_selector: Mapping[str, str]
    tolerations: tuple[Manifest, ...]
    priority_class: str | None
    annotations: Mapping[str, str]
    pull_policy: str
    pull_secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What `spec.network.service` says."""

    type: str
    port: int
    node_port: int | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One DSPyApp whose spec the worker can read.

    Attributes:
        name: Name of the DSPyApp, at most 52 characters.
        uid: Its uid; part of every owner reference.
        generation: The generation of the spec that this value was made from.
        image: The worker image, from the spec or the operator's default.
        document: The canonical JSON that the workers load.
        program: What the worker's reader made of the document.
        replicas: Pods wanted; without meaning while an autoscaler decides.
        options: The parts of the spec that an app may go without.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    image: str
    document: str
    program: contract.AppDocument
    replicas: int
    pod: Pod
    service: Service
    options: Options

    @property
    def scaling(self) -> Scaling | None:
        """What the autoscaler is told; None where the spec says the number of pods."""
        return self.options.scaling

    @property
    def source(self) -> str | None:
        """Name of the ConfigMap with the user's Python files."""
        return self.program.program.source

    @property
    def keyed_models(self) -> tuple[contract.Model, ...]:
        """The models that have an API key."""
        return tuple(m for m in self.program.models if m.key_secret is not None)

    @property
    def address(self) -> str:
        """URL of the API inside the cluster."""
        host = f"http://{self.name}.{self.namespace}.svc"
        return host if self.service.port == 80 else f"{host}:{self.service.port}"  # noqa: PLR2004 - HTTP's own port

    @property
    def digest(self) -> str:
        """The first digits of the document's SHA-256."""
        return self.program.digest[:DIGEST_DIGITS]


def parse(manifest: Manifest, *, default_image: str) -> App:
    """Read a DSPyApp as the API server returns it.

    Raises:
        SpecError: The worker could not load it; the message names the field's path.
    """
    try:
        program = contract.load(manifest)
    except contract.DocumentError as error:
        raise SpecError(str(error)) from error
    metadata, spec = manifest["metadata"], manifest["spec"]
    serving = spec.get("serving", {})
    return App(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        image=spec.get("image", default_image),
        document=contract.canonical(contract.worker_document(manifest)),
        program=program,
        replicas=serving.get("replicas", 1),
        pod=_pod(spec, serving),
        service=_service(spec.get("network", {}).get("service", {})),
        options=optional_parts.read(spec),
    )


def source_name(manifest: Manifest) -> str | None:
    """Return the ConfigMap that a DSPyApp takes Python files from, readable or not."""
    source = manifest.get("spec", {}).get("program", {}).get("source") or {}
    name: str | None = source.get("configMapRef", {}).get("name")
    return name


def paused_seconds(manifest: Manifest, now: datetime) -> float:
    """Return for how long `spec.paused` freezes what we write: 0 for not, infinity for ever."""
    spec = manifest.get("spec", {})
    if not spec.get("paused"):
        return 0.0
    end = spec.get("pausedUntil")
    if end is None:
        return math.inf
    return max(0.0, (datetime.fromisoformat(end) - now).total_seconds())


def is_going(manifest: Manifest) -> bool:
    """Return whether the app is being deleted; the garbage collector does the rest."""
    return "deletionTimestamp" in manifest["metadata"]


def has_past(manifest: Manifest) -> bool:
    """Return whether we have written a status of the app before."""
    observed: int = manifest.get("status", {}).get("observedGeneration", 0)
    return observed > 0


def _pod(spec: Mapping[str, Any], serving: Mapping[str, Any]) -> Pod:
    return Pod(
        resources=serving.get("resources", {}),
        env=tuple((e["name"], e["value"]) for e in serving.get("env", ())),
        node_selector=serving.get("nodeSelector", {}),
        tolerations=tuple(serving.get("tolerations", ())),
        priority_class=serving.get("priorityClassName"),
        annotations=serving.get("podAnnotations", {}),
        pull_policy=spec.get("imagePullPolicy", "IfNotPresent"),
        pull_secrets=tuple(s["name"] for s in spec.get("imagePullSecrets", ())),
    )


def _service(service: Mapping[str, Any]) -> Service:
    return Service(
        type=service.get("type", "ClusterIP"),
        port=service.get("port", 80),
        node_port=service.get("nodePort"),
        annotations=service.get("annotations", {}),
    )
