"""Puts one worker together: document, keys, language model, program, ports."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dspy

from dspy_worker.core.limiter import Limits
from dspy_worker.edge import adapter, engine, keys
from dspy_worker.edge.attempts import Link
from dspy_worker.edge.guard import Guard
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.edge.till import Till
from dspy_worker.errors import LoadError
from dspy_worker.serve import app, feedback, ops, parts, program, seal, usercode
from dspy_worker.serve.admission import Admission
from dspy_worker.serve.health import Health
from dspy_worker.serve.predict import Label, Service
from dspy_worker.store.notebook import NoNotebook

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.parts import Parts
    from dspy_worker.serve.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where a worker finds what the document only names.

    Attributes:
        source: The user's Python files.
        keys: The keys, one folder per model.
        ops_token: The file with the ops token.
        connections: The URLs of Redis and PostgreSQL, one folder per connection.
        data: Where the worker keeps what outlives it.
    """

    source: Path | None = None
    keys: Path | None = None
    ops_token: Path | None = None
    connections: Path | None = None
    data: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A worker that is ready to listen."""

    document: AppDocument
    program: Program
    health: Health
    metrics: Metrics
    label: Label
    public: ASGIApp
    ops: ASGIApp


def assemble(document: AppDocument, folders: Folders, lm: dspy.LM | None = None) -> Runtime:
    """Load the program and wire everything.

    Args:
        document: The app.
        folders: Where its parts are.
        lm: A language model to ask instead of the document's; for tests.

    Raises:
        LoadError: The message is one sentence for the author of the document or the program.
    """
    metrics = Metrics(document.name)
    metrics.describe(version(), document.digest)
    label = _label(document, folders)
    made = parts.make(document, label.variant, metrics, folders)
    found = {model.name: keys.find(model, folders.keys) for model in document.models}
    links = _links(document, found, metrics, made)
    loaded = load(document, folders, lm or _language_model(document, links), metrics)
    health = Health(
        document=document,
        keys=found,
        admission=_admission(document, metrics),
        throttled=metrics.is_throttled,
        guards={name: link.guard for name, link in links.items()},
        companions=made.companions(),
    )
    sealed = seal.Seal(label, keys.find_token(folders.ops_token), folders.data)
    service = Service(
        program=loaded,
        admission=health.admission,
        metrics=metrics,
        label=label,
        shelf=made.shelf,
        notebook=made.store or NoNotebook(),
        may_ask=health.check_keys,
        name=sealed.name,
    )
    return Runtime(
        document=document,
        program=loaded,
        health=health,
        metrics=metrics,
        label=label,
        public=_public(service, sealed, health),
        ops=ops.build(ops.Ops(health=health, metrics=metrics, token_file=folders.ops_token)),
    )


def _public(service: Service, sealed: seal.Seal, health: Health) -> ASGIApp:
    tally = feedback.Tally(health.document.name, service.metrics.registry)
    public = app.Public(
        document=health.document,
        service=service,
        desk=feedback.Desk(service=service, seal=sealed, tally=tally),
        health=health,
        version=version(),
    )
    return app.build(public)


def _label(document: AppDocument, folders: Folders) -> Label:
    """Return what the predictions of this worker are noted under."""
    wants = document.program.entrypoint or document.program.module.tools
    source = folders.source if wants else None
    return Label(
        app=f"{document.namespace}/{document.name}",
        variant=usercode.variant(document.program_digest, source),
    )


def load(document: AppDocument, folders: Folders, lm: dspy.LM, metrics: Metrics) -> Program:
    """Configure DSPy, once, and build the program; raises what `program.load` raises."""
    spoken = adapter.make(document.program.adapter, metrics.lm_reask)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.configure(
        lm=lm,
        adapter=spoken,
        disable_history=True,
        warn_on_type_mismatch=False,
        async_max_workers=document.serving.threads,
    )
    return program.load(document, lm=lm, adapter=spoken, source_dir=folders.source)


def version() -> str:
    """Return the version of the installed package."""
    return importlib.metadata.version("dspy-operator")


def _links(
    document: AppDocument, found: dict[str, keys.Key], metrics: Metrics, made: Parts
) -> dict[str, Link]:
    """Return how to reach each model that the program may ask, by its name."""
    return {
        model.name: Link(
            model=model,
            key=found[model.name],
            metrics=metrics,
            guard=Guard(model, metrics),
            connections=document.serving.concurrency,
            threads=document.serving.threads,
            till=Till(model, made.costs, made.ledger, document.budgets),
        )
        for model in document.asked()
    }


def _language_model(document: AppDocument, links: dict[str, Link]) -> dspy.LM:
    usual = [links[model.name] for model in document.chain()]
    cheaper = {
        budget.name: [links[m.name] for m in document.chain(budget.cheaper_model)]
        for budget in document.budgets
        if budget.cheaper_model
    }
    try:
        return engine.language_model(*usual, cheaper=cheaper)
    except (ValueError, TypeError, dspy.LMError) as error:
        names = ", ".join(links)
        raise LoadError(f"spec.models ({names}) cannot be used: {error}") from error


def _admission(document: AppDocument, metrics: Metrics) -> Admission:
    serving = document.serving
    admission = Admission(Limits(concurrency=serving.concurrency, queue_size=serving.queue_size))
    metrics.in_flight.set_function(lambda: admission.running)
    metrics.queue_depth.set_function(lambda: admission.waiting)
    return admission
