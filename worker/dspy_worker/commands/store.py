"""The command line `dspy-worker store`: what a person does with stored predictions."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import orjson
import typer

from dspy_worker import contract
from dspy_worker.contract import connections
from dspy_worker.core import notes
from dspy_worker.core.notes import Erasure
from dspy_worker.core.search import Query
from dspy_worker.edge import clock, keys
from dspy_worker.errors import LoadError, StoreError
from dspy_worker.serve import files
from dspy_worker.store import backup, dataset, reads, report, source
from dspy_worker.store.postgres import Postgres
from dspy_worker.store.sqlite import SQLite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.store.database import Database

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Predictions and feedback that are kept.",
)

_VARIABLE = keys.URL_PREFIX + connections.POSTGRES.upper()
_App = Annotated[
    Path | None, typer.Argument(metavar="[APP]", help="A DSPyApp; its rows in its database.")
]
_URL = Annotated[
    str,
    typer.Option(help="postgresql://... or sqlite:FILE, instead of APP; better in " + _VARIABLE),
]
_Connections = Annotated[Path | None, typer.Option(help="Holds postgres/url.")]
_Data = Annotated[Path | None, typer.Option(help="Where the worker of APP keeps its files.")]
_SQLITE = "sqlite:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which rows are meant.

    Attributes:
        source: Their database.
        app: NAMESPACE/NAME of their app; empty for all.
    """

    source: source.Source
    app: str = ""


@cli.command()
def migrate(
    app: _App = None, url: _URL = "", connections_dir: _Connections = None, data_dir: _Data = None
) -> None:
    """Bring the tables up to date; workers do it too."""

    async def version(database: Database, _: str) -> str:
        return f"The tables have version {await database.version()}."

    typer.echo(_do(_place(app, url, connections_dir, data_dir), version))


@cli.command("search")
def search_rows(  # noqa: PLR0913, PLR0917 - one parameter per option of the command line
    app: _App = None,
    url: _URL = "",
    connections_dir: _Connections = None,
    data_dir: _Data = None,
    text: Annotated[str, typer.Option(help="Words that all stand in a prediction.")] = "",
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=JSON", help="A field and its value.")
    ] = None,
    variant: Annotated[str, typer.Option(help="Which prompts answered.")] = "",
    tenant: Annotated[str, typer.Option(help="On whose account.")] = "",
    subject: Annotated[str, typer.Option(help="Whom it is about.")] = "",
    since_ms: Annotated[int | None, typer.Option(help="First moment, since 1970.")] = None,
    until_ms: Annotated[int | None, typer.Option(help="First moment that is too late.")] = None,
    least_score: Annotated[float | None, typer.Option(help="Lowest mean score.")] = None,
    most_score: Annotated[float | None, typer.Option(help="Highest mean score.")] = None,
    least_cost_nanos: Annotated[int | None, typer.Option(help="Lowest price.")] = None,
    most_cost_nanos: Annotated[int | None, typer.Option(help="Highest price.")] = None,
    cached: Annotated[bool | None, typer.Option(help="Answered by a cache.")] = None,
    degraded: Annotated[bool | None, typer.Option(help="Worse than usual.")] = None,
    error: Annotated[bool | None, typer.Option(help="Without an answer.")] = None,
    limit: Annotated[int, typer.Option(help="Rows of a page.", min=1, max=1000)] = 50,
    cursor: Annotated[str, typer.Option(help="Where the page before ended.")] = "",
) -> None:
    """Print predictions as lines of JSON, the newest first; the last line has the cursor."""
    query = Query(
        text=text,
        fields=tuple(_field(one) for one in field or ()),
        variant=variant,
        tenant=tenant,
        subject=subject,
        since_ms=since_ms,
        until_ms=until_ms,
        least_score=least_score,
        most_score=most_score,
        least_cost_nanos=least_cost_nanos,
        most_cost_nanos=most_cost_nanos,
        cached=cached,
        degraded=degraded,
        error=error,
        limit=limit,
        cursor=cursor,
    )
    _print_page(_place(app, url, connections_dir, data_dir), query)


@cli.command("report")
def print_report(
    app: _App = None, url: _URL = "", connections_dir: _Connections = None, data_dir: _Data = None
) -> None:
    """Print connections, cache, times and counts."""

    async def make(database: Database, name: str) -> dict[str, Any]:
        async def itself() -> Database:
            return database

        library = reads.KeptLibrary(itself)
        return (await report.make(database, library, name)).document()

    _print(_do(_place(app, url, connections_dir, data_dir), make))


@cli.command()
def export(  # noqa: PLR0913, PLR0917 - one parameter per option of the command line
    app: _App = None,
    url: _URL = "",
    connections_dir: _Connections = None,
    data_dir: _Data = None,
    variant: Annotated[str, typer.Option(help="Which prompts answered.")] = "",
    since_ms: Annotated[int | None, typer.Option(help="First moment, since 1970.")] = None,
    least_score: Annotated[float | None, typer.Option(help="Lowest mean score.")] = None,
) -> None:
    """Print a data set: lines of JSON with inputs, outputs (corrected ones win) and metadata."""

    async def write(database: Database, name: str) -> None:
        query = Query(app=name, variant=variant, since_ms=since_ms, least_score=least_score)
        async for example in dataset.examples(database, query):
            _print(example)

    _do(_place(app, url, connections_dir, data_dir), write)


@cli.command()
def erase(
    app: _App = None,
    subject: Annotated[str, typer.Option(help="Whose rows go, of all apps.")] = "",
    tenant: Annotated[str | None, typer.Option(help="Only on this account.")] = None,
    url: _URL = "",
    connections_dir: _Connections = None,
    data_dir: _Data = None,
) -> None:
    """Delete all of a subject; what waits in journals or backups will not come back."""
    if not subject:
        _fail("--subject is needed")

    async def delete(database: Database, _: str) -> dict[str, int]:
        erasure = Erasure(
            subject_sha256=notes.subject_sha256(subject),
            tenant=tenant,
            unix_ms=clock.unix_ms(),
        )
        return asdict(await database.erase(erasure, subject))

    _print(_do(_place(app, url, connections_dir, data_dir), delete))


@cli.command("backup")
def write_backup(
    file: Annotated[Path, typer.Argument(help="What to write, e.g. store.gz.")],
    app: _App = None,
    url: _URL = "",
    connections_dir: _Connections = None,
    data_dir: _Data = None,
) -> None:
    """Write all rows of a database, of all apps, into FILE."""

    async def write(database: Database, _: str) -> dict[str, Any]:
        return asdict(await backup.write(database, file))

    _print(_do(_place(app, url, connections_dir, data_dir), write))


@cli.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    app: _App = None,
    url: _URL = "",
    connections_dir: _Connections = None,
    data_dir: _Data = None,
) -> None:
    """Write FILE into a database; rows that are there already stay."""

    async def write(database: Database, _: str) -> dict[str, int]:
        return asdict(await backup.restore(database, file))

    _print(_do(_place(app, url, connections_dir, data_dir), write))


def _do(place: Place, action: Callable[[Database, str], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever the action returns
    async def run() -> Any:  # noqa: ANN401
        try:
            return await action(await place.source.opened(), place.app)
        finally:
            await place.source.close()

    try:
        return asyncio.run(run())
    except (StoreError, ValueError, OSError) as error:
        _fail(str(error))


def _place(app: Path | None, url: str, connections_dir: Path | None, data: Path | None) -> Place:
    url = url or ("" if app else os.environ.get(_VARIABLE, ""))
    if (app is None) == (not url):
        _fail(f"give APP, or --url, or {_VARIABLE}")
    if url.startswith(_SQLITE):
        return Place(source=source.FixedSource(SQLite(Path(url.removeprefix(_SQLITE)))))
    if app is None:
        return Place(source=source.FixedSource(Postgres(url)))
    document, folder = _document(app, data)
    if document.store is None:
        _fail(f"{app} has no spec.store")
    name = f"{document.namespace}/{document.name}"
    return Place(source=source.find(connections_dir, folder), app=name)


def _document(app: Path, data: Path | None) -> tuple[AppDocument, Path]:
    try:
        document = files.document(app)
    except LoadError as error:
        _fail(str(error))
    return document, data or files.data_dir(document)


def _field(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        found = value  # text without quotes
    if isinstance(found, list | dict):
        _fail(f"--field {name} can only be text, a number, true, false or null")
    return name, found


def _print_page(place: Place, query: Query) -> None:
    async def find(database: Database, name: str) -> None:
        page = await database.search(replace(query, app=name))
        for stored in page.found:
            _print({**asdict(stored.record), "score": stored.score})
        _print({"cursor": page.cursor})

    _do(place, find)


def _print(document: Any) -> None:  # noqa: ANN401 - JSON
    typer.echo(orjson.dumps(document).decode())


def _fail(message: str) -> NoReturn:
    typer.echo(f"dspy-worker: {message}", err=True)
    raise typer.Exit(contract.EXIT_PROGRAM_FAILED)
