"""The command line: `dspy-worker serve | check | lm-stub | cache | store`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dspy_worker import contract
from dspy_worker.commands import cache

if TYPE_CHECKING:
    from types import FrameType

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.runtime import Folders

# Commands import what they run: DSPy takes half a second, and `--version` should not.
# ruff: noqa: PLC0415

cli = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
cli.add_typer(cache.cli, name="cache")

_App = Annotated[Path, typer.Argument(metavar="APP", help="A DSPyApp as YAML or JSON.")]
_Source = Annotated[
    Path | None, typer.Option(help="Folder of your Python files; default: that of APP.")
]


def main() -> None:
    """Run the command line."""
    cli()


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"dspy-worker {metadata.version('dspy-operator')}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Serve one DSPy program over HTTP."""


@cli.command()
def serve(  # noqa: PLR0913, PLR0917 - one parameter per option of the command line
    app: _App,
    port: Annotated[int | None, typer.Option(help="Public port; default: that of APP.")] = None,
    ops_port: Annotated[int, typer.Option(help="Probes and metrics.")] = contract.OPS_PORT,
    host: Annotated[str, typer.Option(help="Address; default: all.")] = "",
    keys_dir: Annotated[Path | None, typer.Option(help="Holds MODEL/key for each model.")] = None,
    source_dir: _Source = None,
    ops_token_file: Annotated[Path | None, typer.Option(help="Token that /state asks for.")] = None,
    connections_dir: Annotated[
        Path | None, typer.Option(help="Holds redis/url and postgres/url.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Keeps answers, predictions and accounts; default: by user and app."),
    ] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(metavar="MODEL=URL", help="Ask another endpoint.")
    ] = None,
) -> None:
    """Serve APP until SIGTERM."""
    _prepare()
    from dspy_worker.errors import LoadError
    from dspy_worker.serve import files
    from dspy_worker.serve.runtime import Folders

    folders = Folders(
        source=source_dir or app.parent,
        keys=keys_dir,
        ops_token=ops_token_file,
        connections=connections_dir,
    )
    try:
        document = files.with_endpoints(files.document(app), endpoint or ())
        folders = replace(folders, data=data_dir or files.data_dir(document))
        _serve(document, folders, host, (document.serving.port if port is None else port, ops_port))
    except LoadError as error:
        files.leave_word(str(error))
        _fail(str(error))


@cli.command("lm-stub")
def lm_stub(
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address.")] = "127.0.0.1",
    latency_ms: Annotated[float, typer.Option(help="Least time of an answer.")] = 0.0,
    fixed: Annotated[bool, typer.Option("--fixed", help="Constant answers.")] = False,  # noqa: FBT002 - an option
    require_key: Annotated[Path | None, typer.Option(help="File of accepted keys.")] = None,
) -> None:
    """Run the practice LM, which answers from the examples in its prompt."""
    from dspy_worker.practice import server

    server.run(
        server.Options(
            host=host, port=port, latency_ms=latency_ms, fixed=fixed, require_key=require_key
        )
    )


@cli.command()
def check(app: _App, source_dir: _Source = None) -> None:
    """Load APP's program and print its fields."""
    _prepare()
    from dspy_worker.errors import LoadError
    from dspy_worker.serve import files, report
    from dspy_worker.serve.runtime import Folders

    try:
        lines = report.lines(files.document(app), Folders(source=source_dir or app.parent))
    except LoadError as error:
        _fail(str(error))
    typer.echo("\n".join(lines))


@cli.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def store(context: typer.Context) -> None:
    """Search, export, erase, back up and restore predictions that are kept."""
    _prepare()
    from dspy_worker.commands import store as group

    group.cli(context.args, prog_name="dspy-worker store")


def _prepare() -> None:
    """Set what DSPy and its libraries read while they are imported."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "true")
    os.environ.setdefault("DSPY_CACHEDIR", "/tmp/dspy-cache")  # noqa: S108 - never written, but read


def _serve(document: AppDocument, folders: Folders, host: str, ports: tuple[int, int]) -> None:
    import uvloop

    from dspy_worker.edge import logs
    from dspy_worker.serve import lifecycle, runtime

    logs.configure()
    signal.signal(signal.SIGTERM, _end_while_loading)
    grace = os.environ.get(lifecycle.GRACE_VARIABLE)
    listen = lifecycle.Listen(
        public=lifecycle.bind(host, ports[0]),
        ops=lifecycle.bind(host, ports[1]),
        grace_seconds=lifecycle.grace_seconds(document.serving.drain_seconds, grace),
    )
    uvloop.run(lifecycle.serve(runtime.assemble(document, folders), listen))
    sys.stdout.flush()
    os._exit(0)  # threads of programs whose clients have left may still wait for the LM


def _end_while_loading(number: int, _: FrameType | None) -> None:
    """End at once: as process 1 of a container Python would ignore the signal."""
    os._exit(128 + number)


def _fail(message: str) -> None:
    typer.echo(f"dspy-worker: {message}", err=True)
    raise typer.Exit(contract.EXIT_PROGRAM_FAILED)
