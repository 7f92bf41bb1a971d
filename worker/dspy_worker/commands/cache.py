"""The command line: `dspy-worker cache clear | bench`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dspy_worker import contract

if TYPE_CHECKING:
    from dspy_worker.cache.clearing import Wish
    from dspy_worker.contract.app import AppDocument
    from dspy_worker.store.source import Source

# Commands import what they run, as in dspy_worker.main.
# ruff: noqa: PLC0415

cli = typer.Typer(no_args_is_help=True, help="Look after kept answers (spec.cache).")

_App = Annotated[Path, typer.Argument(metavar="APP", help="A DSPyApp as YAML or JSON.")]
_Connections = Annotated[Path | None, typer.Option(help="Holds redis/url and postgres/url.")]
_Data = Annotated[Path | None, typer.Option(help="Data folder; default: by user and app.")]


@cli.command()
def clear(
    app: _App,
    variant: Annotated[str, typer.Option(help="Only answers of this variant.")] = "",
    tenant: Annotated[str, typer.Option(help="Only answers of this tenant.")] = "",
    connections_dir: _Connections = None,
    data_dir: _Data = None,
) -> None:
    """Clear APP's answers in Redis and on disk; running pods forget theirs within two seconds.

    Workers that start do not take such answers from the store either.
    """
    from dspy_worker.cache import clearing
    from dspy_worker.contract import connections
    from dspy_worker.edge import keys, logs
    from dspy_worker.errors import LoadError, StoreError
    from dspy_worker.serve import files
    from dspy_worker.store import source

    logs.silence()
    try:
        document = files.document(app)
        wish = clearing.Wish(variant=variant, tenant=tenant)
        url = keys.find_url(connections.REDIS, connections_dir)
        folder = data_dir or files.data_dir(document)
        done = list(clearing.clear(document, wish, url, folder))
        if document.store:
            done.append(_forget(document, wish, source.find(connections_dir, folder)))
    except (LoadError, StoreError) as error:
        _fail(str(error))
    typer.echo("\n".join(done) or "neither Redis nor a file of answers is here: nothing to clear")
    if not any(line.startswith(("redis", "disk")) for line in done):
        typer.echo("workers that run keep what is in their memory; a restart empties it", err=True)


@cli.command()
def bench(
    trace: Annotated[
        Path | None, typer.Option(help="Questions in their order, one a line; default: a Zipf law.")
    ] = None,
    lookups: Annotated[int, typer.Option(min=1, help="Questions of the built-in trace.")] = 20_000,
    different: Annotated[int, typer.Option(min=1, help="Different ones among them.")] = 5_000,
    answer_bytes: Annotated[int, typer.Option(min=16, help="Size of an answer.")] = 512,
    memory_bytes: Annotated[int, typer.Option(min=1_048_576, help="As in spec.cache.")] = 1_048_576,
    connections_dir: _Connections = None,
) -> None:
    """Print hit rates and times of each level on a trace; Redis only where its URL is known."""
    from dspy_worker.cache import trial
    from dspy_worker.contract import connections
    from dspy_worker.edge import keys, logs

    logs.silence()
    url = keys.find_url(connections.REDIS, connections_dir)
    try:
        questions = trial.read(trace) if trace else trial.zipf(lookups, different)
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{trace} cannot be read: {error}")
    plan = trial.Plan(answer_bytes=answer_bytes, memory_bytes=memory_bytes)
    typer.echo(trial.run(questions, plan, url))


def _forget(document: AppDocument, wish: Wish, found: Source) -> str:
    """Let workers that start leave these answers in the store; raises StoreError."""
    from dspy_worker.store.database import Forgotten

    app = f"{document.namespace}/{document.name}"
    kept = Forgotten(app=app, variant=wish.variant, tenant=wish.tenant)

    async def forget() -> int:
        try:
            return await (await found.opened()).forget(kept)
        finally:
            await found.close()

    return f"store: {asyncio.run(forget())} answers will warm no worker"


def _fail(message: str) -> None:
    typer.echo(f"dspy-worker: {message}", err=True)
    raise typer.Exit(contract.EXIT_PROGRAM_FAILED)
