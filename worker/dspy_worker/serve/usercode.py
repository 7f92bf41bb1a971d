"""Imports what users wrote: programs and tools, named as module:function.

Whatever goes wrong becomes one sentence that names the file, the line and the user's own error.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dspy

from dspy_worker.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable

VARIANT_DIGITS = 12
_MAX_TEXT = 600
_USER_FAILURES = (Exception, SystemExit)
"""What users' code may raise while it is imported; SystemExit comes from forgotten scripts."""


def add_to_path(source_dir: Path | None) -> None:
    """Let the users' files be imported, before anything else of that name."""
    if source_dir and source_dir.is_dir():
        folder = str(source_dir.resolve())
        if folder not in sys.path:
            sys.path.insert(0, folder)


def function(reference: str, field: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        reference: The function as module:function.
        field: Where the document names it.

    Raises:
        LoadError: The message is one sentence for the function's author.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise LoadError(f"{field}: there is no module {error.name!r}; {_places()}") from None
        raise LoadError(f"{field}: {_blame(f'importing {module_name!r}', error)}") from error
    except _USER_FAILURES as error:
        raise LoadError(f"{field}: {_blame(f'importing {module_name!r}', error)}") from error
    found = getattr(module, name, None)
    if callable(found):
        return cast("Callable[..., Any]", found)
    raise LoadError(f"{field}: {_no_function(module, module_name, name)}")


def program(reference: str) -> dspy.Module:
    """Call a user's entrypoint and return the program that it returns.

    Raises:
        LoadError: The message is one sentence for the program's author.
    """
    field = "spec.program.python.entrypoint"
    entrypoint = function(reference, field)
    try:
        built = entrypoint()
    except _USER_FAILURES as error:
        raise LoadError(f"{field}: {_blame(f'calling {reference}()', error)}") from error
    if inspect.iscoroutine(built):
        built.close()
        raise LoadError(f"{field}: {reference} is async; it must be a plain function")
    if not isinstance(built, dspy.Module):
        kind = f"the class {built.__name__}" if isinstance(built, type) else _a(built)
        raise LoadError(f"{field}: {reference}() must return a dspy.Module, but it returned {kind}")
    return built


def variant(program_digest: str, source_dir: Path | None) -> str:
    """Return the name of the prompts and the code that answer: 12 hex digits.

    Args:
        program_digest: SHA-256 (hex) of the program as the document declares it.
        source_dir: The user's Python files that belong to it, if any do.

    Raises:
        LoadError: One of them cannot be read.
    """
    summed = hashlib.sha256(program_digest.encode())
    for path in sorted(source_dir.glob("*.py")) if source_dir else ():
        try:
            summed.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise LoadError(f"{path.name} cannot be read: {why}") from error
    return summed.hexdigest()[:VARIANT_DIGITS]


def location(error: BaseException) -> str:
    """Return "file line N" of the place in the user's code that raised, or ""."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name} line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    return f"{Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""


def _blame(doing: str, error: BaseException) -> str:
    where = location(error)
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{doing} failed{' in ' + where if where else ''}: {what[:_MAX_TEXT]}"


def _is_users(filename: str) -> bool:
    """Return whether a frame belongs neither to us, nor to Python, nor to a library."""
    ours = str(Path(__file__).parent.parent)
    return not (
        filename.startswith((ours, "<frozen", sys.prefix, sys.base_prefix))
        or "site-packages" in filename
    )


def _places() -> str:
    return f"looked in {sys.path[0] or 'the current folder'} and in the installed packages"


def _no_function(module: Any, module_name: str, name: str) -> str:  # noqa: ANN401 - a user's module
    found = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
    has = f"it has {', '.join(found[:8])}" if found else "it has no functions"
    return f"module {module_name!r} has no function {name!r}; {has}"


def _a(value: object) -> str:
    return "nothing" if value is None else f"an object of type {type(value).__name__}"
