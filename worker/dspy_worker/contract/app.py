"""The DSPyApp document as frozen values: read once, at the rim, by operator and worker alike.

The same document is a manifest in the cluster, the file `app.json` in a pod and the argument of
`dspy-worker serve` on a laptop. In the cluster the CRD's schema has filled in the defaults; on a
laptop nobody has, so the defaults stand here too, and a test keeps both equal.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from dspy_worker.contract import budgets, cache, connections, models, reader, typeexpr
from dspy_worker.contract import store as stores
from dspy_worker.contract.budgets import Budget
from dspy_worker.contract.cache import CachePolicy
from dspy_worker.contract.connections import Connection
from dspy_worker.contract.models import BreakerPolicy, Model
from dspy_worker.contract.reader import DocumentError
from dspy_worker.contract.store import StorePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

API_VERSION = "dspy-operator.io/v1alpha1"
KIND = "DSPyApp"

SERVING_FIELDS = (
    "port",
    "concurrency",
    "queueSize",
    "timeoutSeconds",
    "drainSeconds",
    "maxRequestBytes",
    "maxBatchSize",
    "threads",
    "includeReasoning",
)
"""The part of `spec.serving` that the worker reads; the rest concerns only the pods."""
RUNTIME_PARTS = ("redis", "cache", "store", "budgets")
"""Optional parts of the spec that the worker reads as they are."""

ModuleType: TypeAlias = Literal["Predict", "ChainOfThought", "ReAct"]
AdapterType: TypeAlias = Literal["Chat", "JSON"]

_TAKEN = {
    "Predict": frozenset(
        {"self", "instance", "config", "demos", "signature", "lm", "new_signature", "completions"}
    ),
    "ChainOfThought": frozenset({"reasoning"}),
    "ReAct": frozenset(
        {"reasoning", "trajectory", "max_iters", "next_thought", "next_tool_name", "next_tool_args"}
    ),
}
"""Input names that DSPy's modules keep for their own arguments; those of Predict hold for all."""

__all__ = [
    "AppDocument",
    "BreakerPolicy",
    "Budget",
    "CachePolicy",
    "Connection",
    "DocumentError",
    "Model",
    "StorePolicy",
    "load",
    "worker_document",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One typed field of a signature or of a named type; `description` may be empty."""

    name: str
    type: typeexpr.TypeExpr
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedType:
    """An object that fields may have as their type."""

    name: str
    fields: tuple[Field, ...]
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The typed question and answer of a declared program, in the order of the prompt."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    types: tuple[NamedType, ...] = ()
    instructions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """The DSPy module of a declared program; `tools` are written as module:function."""

    type: ModuleType = "Predict"
    tools: tuple[str, ...] = ()
    max_iterations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Either `signature` (with `module` and `demos`) or `entrypoint` is set, never both.

    Attributes:
        signature: The declared signature.
        module: The module that answers it.
        demos: Examples that every prompt carries: values by field name.
        adapter: How prompts are written and answers read.
        entrypoint: The user's program as module:function.
        source: Name of the ConfigMap with the user's Python files.
    """

    signature: Signature | None = None
    module: Module = field(default_factory=Module)
    demos: tuple[Mapping[str, Any], ...] = ()
    adapter: AdapterType = "Chat"
    entrypoint: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How one worker answers requests; sizes in bytes, times in seconds."""

    port: int = 8080
    concurrency: int = 64
    queue_size: int = 128
    timeout_seconds: int = 60
    drain_seconds: int = 75
    max_request_bytes: int = 1_048_576
    max_batch_size: int = 64
    threads: int = 64
    include_reasoning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDocument:
    """What a worker needs to know of a DSPyApp.

    Attributes:
        name: Name of the app.
        namespace: Its namespace; "default" where the document names none.
        program: What is served.
        models: The language models, at least one; the program asks the first. Fallbacks lead from
            one to another and never back.
        serving: Limits and times.
        digest: SHA-256 (hex) of the canonical JSON of `worker_document`.
        program_digest: SHA-256 (hex) of the canonical JSON of `spec.program` alone.
        redis: Where answers and budgets are shared between pods; None for every pod by itself.
        cache: Which answers are kept; None for none.
        store: Where predictions and feedback are kept; None keeps none.
        budgets: What it may cost.
    """

    name: str
    namespace: str
    program: Program
    models: tuple[Model, ...]
    serving: Serving
    digest: str
    program_digest: str
    redis: Connection | None = None
    cache: CachePolicy | None = None
    store: StorePolicy | None = None
    budgets: tuple[Budget, ...] = ()

    def connections(self) -> tuple[Connection, ...]:
        """Return the servers that the worker uses beside the models."""
        postgres = self.store.postgres if self.store else None
        return tuple(c for c in (self.redis, postgres) if c is not None)

    def data_bytes(self) -> int:
        """Return how much the worker may keep on disk; 0 where it keeps nothing."""
        answers = self.cache.disk_bytes if self.cache else 0
        return answers + (self.store.data_bytes() if self.store else 0)

    def chain(self, first: str | None = None) -> tuple[Model, ...]:
        """Return a model, usually the first, and its fallbacks in the order of asking."""
        return models.chain(self.models, first)

    def asked(self) -> tuple[Model, ...]:
        """Return each model that the program may ask, once."""
        cheaper = [b.cheaper_model for b in self.budgets if b.cheaper_model]
        chains = [self.chain(), *map(self.chain, cheaper)]
        return tuple({model.name: model for chain in chains for model in chain}.values())


def load(document: object) -> AppDocument:
    """Read a DSPyApp manifest.

    Args:
        document: The parsed YAML or JSON.

    Raises:
        DocumentError: The message names the field's path and what would be right.
    """
    top = reader.Node(document, "")
    _check_kind(top)
    metadata, spec = top.node("metadata"), top.node("spec")
    redis, kept, store = (spec.optional(name) for name in ("redis", "cache", "store"))
    known = models.read(spec)
    found = AppDocument(
        name=metadata.text("name"),
        namespace=metadata.text("namespace", default="default"),
        program=_program(spec.node("program")),
        models=known,
        serving=_serving(spec.node("serving", default={})),
        digest=digest(worker_document(cast("Mapping[str, Any]", document))),
        program_digest=digest(spec.node("program").mapping()),
        redis=connections.read(redis, connections.REDIS) if redis else None,
        cache=cache.read(kept) if kept else None,
        store=stores.read(store) if store else None,
        budgets=budgets.read(spec, known),
    )
    budgets.check_known_cost(spec, found.budgets, found.asked())
    return found


def worker_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a manifest that the worker reads, so that only its changes roll pods."""
    metadata, spec = document["metadata"], document["spec"]
    serving = {k: v for k, v in spec.get("serving", {}).items() if k in SERVING_FIELDS}
    parts = {k: spec[k] for k in RUNTIME_PARTS if spec.get(k) is not None}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata.get("namespace", "default"),
        },
        "spec": {
            "program": spec["program"],
            "models": spec["models"],
            "serving": serving,
            **parts,
        },
    }


def canonical(document: Mapping[str, Any]) -> str:
    """Return the JSON text that `digest` hashes: sorted keys, no spaces, UTF-8 as it is."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of a document's canonical JSON."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()


def _check_kind(top: reader.Node) -> None:
    kind, version = top.text("kind"), top.text("apiVersion")
    if kind != KIND or version != API_VERSION:
        raise DocumentError(
            f"expected kind {KIND} of {API_VERSION}, but this is kind {kind} of {version}"
        )


def _program(node: reader.Node) -> Program:
    declared, python = node.optional("signature"), node.optional("python")
    if (declared is None) == (python is None):
        raise node.error("needs exactly one of signature and python")
    source = node.optional("source")
    module = _module(node.node("module", default={}))
    signature = _signature(declared) if declared else None
    if signature:
        _check_reasoning(node, signature, module)
        _check_inputs(node, signature, module)
    return Program(
        signature=signature,
        module=module,
        demos=tuple(_demo(d, signature) for d in node.nodes("demos")),
        adapter=cast("AdapterType", node.choice("adapter", ("Chat", "JSON"), default="Chat")),
        entrypoint=python.reference("entrypoint") if python else None,
        source=source.node("configMapRef").text("name") if source else None,
    )


def _check_reasoning(node: reader.Node, signature: Signature, module: Module) -> None:
    taken = module.type != "Predict" and any(f.name == "reasoning" for f in signature.outputs)
    if taken:
        raise node.error(f"the output name 'reasoning' is taken by module type {module.type}")


def _check_inputs(node: reader.Node, signature: Signature, module: Module) -> None:
    taken = _TAKEN["Predict"] | _TAKEN[module.type]
    for name in (f.name for f in signature.inputs):
        if name in taken:
            raise node.error(f"the input name {name!r} is taken by DSPy")


def _module(node: reader.Node) -> Module:
    kind = cast(
        "ModuleType",
        node.choice("type", ("Predict", "ChainOfThought", "ReAct"), default="Predict"),
    )
    tools = tuple(node.references("tools"))
    if (kind == "ReAct") != bool(tools):
        raise node.error("tools belong to type ReAct, which needs at least one")
    return Module(type=kind, tools=tools, max_iterations=node.optional_number("maxIterations"))


def _signature(node: reader.Node) -> Signature:
    types: list[NamedType] = []
    for entry in node.nodes("types"):
        known = [t.name for t in types]
        name = entry.text("name")
        if name in known:
            raise entry.error(f"type {name!r} is declared twice")
        fields = _fields(entry, "fields", known)
        types.append(
            NamedType(name=name, fields=fields, description=entry.text("description", default=""))
        )
    known = [t.name for t in types]
    inputs, outputs = _fields(node, "inputs", known), _fields(node, "outputs", known)
    both = {f.name for f in inputs} & {f.name for f in outputs}
    if both:
        raise node.error(f"{min(both)!r} stands in inputs and in outputs")
    return Signature(
        inputs=inputs,
        outputs=outputs,
        types=tuple(types),
        instructions=node.text("instructions", default=""),
    )


def _fields(node: reader.Node, key: str, known: list[str]) -> tuple[Field, ...]:
    fields: list[Field] = []
    for entry in node.nodes(key):
        name = entry.identifier("name")
        if any(f.name == name for f in fields):
            raise entry.error(f"field {name!r} stands twice")
        fields.append(
            Field(
                name=name,
                type=_type(entry, known),
                description=entry.text("description", default=""),
            )
        )
    if not fields:
        raise node.error(f"{key} needs at least one field")
    return tuple(fields)


def _type(entry: reader.Node, known: list[str]) -> typeexpr.TypeExpr:
    try:
        return typeexpr.parse(entry.text("type", default="str"), known)
    except ValueError as error:
        raise entry.error(str(error), "type") from None


def _demo(node: reader.Node, signature: Signature | None) -> Mapping[str, Any]:
    if signature is None:
        raise node.error("demos work only with a declared signature")
    values = node.mapping()
    names = {f.name for f in (*signature.inputs, *signature.outputs)} | {"reasoning"}
    unknown = sorted(set(values) - names)
    if unknown:
        raise node.error(f"{unknown[0]!r} is no field of the signature")
    return values


def _serving(node: reader.Node) -> Serving:
    default = Serving()
    serving = Serving(
        port=node.number("port", default.port),
        concurrency=node.number("concurrency", default.concurrency),
        queue_size=node.number("queueSize", default.queue_size, least=0),
        timeout_seconds=node.number("timeoutSeconds", default.timeout_seconds),
        drain_seconds=node.number("drainSeconds", default.drain_seconds),
        max_request_bytes=node.number("maxRequestBytes", default.max_request_bytes),
        max_batch_size=node.number("maxBatchSize", default.max_batch_size),
        threads=node.number("threads", default.threads),
        include_reasoning=node.flag("includeReasoning", default=default.include_reasoning),
    )
    if serving.drain_seconds < serving.timeout_seconds:
        raise node.error("drainSeconds must be at least timeoutSeconds")
    return serving
