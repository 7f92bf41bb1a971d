"""Puts one worker together: document, keys, language model, program, ports."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dspy

from dspy_worker.cache.shelf import NoShelf
from dspy_worker.contract import connections
from dspy_worker.core.limiter import Limits
from dspy_worker.core.search import Query
from dspy_worker.edge import adapter, engine, keys
from dspy_worker.edge.attempts import Link
from dspy_worker.edge.costs import Costs
from dspy_worker.edge.guard import Guard
from dspy_worker.edge.local_ledger import LocalLedger
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.edge.till import Till
from dspy_worker.errors import LoadError
from dspy_worker.serve import app, feedback, ops, program, seal, usercode
from dspy_worker.serve.admission import Admission
from dspy_worker.serve.health import Health
from dspy_worker.serve.predict import Label, Service
from dspy_worker.store import wiring
from dspy_worker.store.notebook import NoNotebook

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

    from dspy_worker.cache.shelf import Shelf
    from dspy_worker.contract.app import AppDocument
    from dspy_worker.edge.companion import Companion
    from dspy_worker.edge.ledger import Ledger
    from dspy_worker.serve.program import Program
    from dspy_worker.store.keeper import Keeper


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
    found = {model.name: keys.find(model, folders.keys) for model in document.models}
    money = _money(document, folders, metrics)
    links = _links(document, found, metrics, money)
    loaded = load(document, folders, lm or _language_model(document, links), metrics)
    keeper = wiring.keeper(document, folders.connections, folders.data, metrics.registry)
    health = Health(
        document=document,
        keys=found,
        admission=_admission(document, metrics),
        throttled=metrics.is_throttled,
        guards={name: link.guard for name, link in links.items()},
    )
    label = _label(document, folders)
    shelf, kept = _shelf(document, label, metrics, folders, keeper)
    # In this order they start and stop: nothing reads the store after it is closed.
    health.companions = (*money.companions, *kept, *_companions(keeper))
    sealed = seal.Seal(label, keys.find_token(folders.ops_token), folders.data)
    service = Service(
        program=loaded,
        admission=health.admission,
        metrics=metrics,
        label=label,
        shelf=shelf,
        notebook=keeper or NoNotebook(),
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


def _companions(*parts: Companion | None) -> tuple[Companion, ...]:
    """Return the parts that there are."""
    return tuple(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Money:
    """What counts money; `ledger` is None without budgets."""

    costs: Costs
    ledger: Ledger | None
    companions: tuple[Companion, ...]


def _money(document: AppDocument, folders: Folders, metrics: Metrics) -> _Money:
    """Return where costs are counted and where budgets are kept."""
    costs = Costs(metrics.registry, document.name)
    if not document.budgets:
        return _Money(costs=costs, ledger=None, companions=())
    ledger, companions = _ledger(document, folders)
    costs.show(document.budgets, ledger.sum)
    return _Money(costs=costs, ledger=ledger, companions=companions)


def _ledger(document: AppDocument, folders: Folders) -> tuple[Ledger, tuple[Companion, ...]]:
    """Return the ledger in Redis; on a laptop that knows none, one of this process."""
    app = f"{document.namespace}/{document.name}"
    url = keys.find_url(connections.REDIS, folders.connections)
    if document.redis is None or (folders.connections is None and url.read() is None):
        local = LocalLedger(app, folders.data)
        return local, (local,)
    # Only an app with budgets in Redis loads its client for them.
    from dspy_worker.edge.redis_ledger import RedisLedger  # noqa: PLC0415
    from dspy_worker.edge.redis_link import RedisLink  # noqa: PLC0415

    link = RedisLink(url)
    shared = RedisLedger(app, document.budgets, link)
    # In this order they stop: the last settlements need the link.
    return shared, (shared, link)


def _links(
    document: AppDocument, found: dict[str, keys.Key], metrics: Metrics, money: _Money
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
            till=Till(model, money.costs, money.ledger, document.budgets),
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


def _shelf(
    document: AppDocument, label: Label, metrics: Metrics, folders: Folders, store: Keeper | None
) -> tuple[Shelf, tuple[Companion, ...]]:
    """Return what keeps answers, and what has to be started for it."""
    if document.cache is None:
        return NoShelf(), ()
    # An app without a cache neither loads nor needs what only the cache does.
    from dspy_worker.cache import build  # noqa: PLC0415
    from dspy_worker.cache.warming import Warmer  # noqa: PLC0415
    from dspy_worker.edge.redislink import RedisLink  # noqa: PLC0415

    url = keys.find_url(connections.REDIS, folders.connections)
    # Outside of a cluster the same document works without Redis.
    wanted = document.redis is not None and (folders.connections or url.read())
    link = RedisLink(url) if wanted else None
    cache = build.build(document, label.variant, metrics.registry, link=link, data=folders.data)
    warmer = None
    if store is not None and _knows_code(document, folders):
        ours = Query(app=label.app, variant=label.variant)
        warmer = Warmer(cache.keeper, store.database, ours, document.cache.ttl_seconds)
    # The caretaker learns what was cleared by hand before answers of the store are remembered.
    return cache.keeper, _companions(link, cache.caretaker, warmer)


def _knows_code(document: AppDocument, folders: Folders) -> bool:
    """Return whether the variant covers the program's code: an image may bring other code."""
    wants = document.program.entrypoint or document.program.module.tools
    return not wants or (folders.source is not None and any(folders.source.glob("*.py")))


def _admission(document: AppDocument, metrics: Metrics) -> Admission:
    serving = document.serving
    admission = Admission(Limits(concurrency=serving.concurrency, queue_size=serving.queue_size))
    metrics.in_flight.set_function(lambda: admission.running)
    metrics.queue_depth.set_function(lambda: admission.waiting)
    return admission
