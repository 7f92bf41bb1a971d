"""Reads the app document from a file of YAML or JSON, and leaves word when a start fails."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dspy_worker import contract
from dspy_worker.contract import app, reader
from dspy_worker.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_TERMINATION_BYTES = 4000
REASON = "ProgramFailed"
_TEXT, _TIMESTAMP = "tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a date is the text that is written, and JSON can hold it."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:  # noqa: ANN401 - PyYAML's
        """Return the tag of a node."""
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return _TEXT if tag == _TIMESTAMP and implicit[0] else tag


def document(path: Path) -> app.AppDocument:
    """Return the app of a file.

    Raises:
        LoadError: The message is one sentence that names the file and what is wrong in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LoadError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    try:
        return app.load(_parse(path, text))
    except app.DocumentError as error:
        raise LoadError(f"{path}: {error}") from error


def data_dir(found: app.AppDocument, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where a worker outside of a cluster keeps what outlives it."""
    state = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "dspy-worker" / f"{found.namespace}-{found.name}"


def with_endpoints(found: app.AppDocument, overrides: Sequence[str]) -> app.AppDocument:
    """Return the app with other endpoints, each written as MODEL=URL.

    The digest stays that of the file: the program is the same, wherever its LM is.

    Raises:
        LoadError: An override is not of that form, or the app has no such model.
    """
    urls = dict(_override(found, text) for text in overrides)
    models = tuple(replace(m, endpoint=urls.get(m.name, m.endpoint)) for m in found.models)
    return replace(found, models=models)


def _override(found: app.AppDocument, text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not reader.is_url(url):
        raise LoadError(
            f"--endpoint {text!r} must be MODEL=URL, e.g. main=http://127.0.0.1:8080/v1"
        )
    names = [model.name for model in found.models]
    if name not in names:
        raise LoadError(f"--endpoint {text!r}: the app has no model {name!r}, only {names}")
    return name, url.rstrip("/")


def leave_word(message: str, path: Path = Path(contract.TERMINATION_LOG)) -> None:
    """Write why the start failed to where the kubelet reads it, if this is a pod."""
    if not path.exists():
        return
    # A character may take six bytes as JSON.
    word = {"reason": REASON, "message": message[: MAX_TERMINATION_BYTES // 6]}
    try:
        path.write_text(json.dumps(word), encoding="utf-8")
    except OSError:
        return  # the log has it too


def _parse(path: Path, text: str) -> Any:  # noqa: ANN401 - YAML
    try:
        documents = [d for d in yaml.load_all(text, _Loader) if d is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise LoadError(f"{path} is not valid YAML: {_where(error)}") from error
    if len(documents) == 1:
        return documents[0]
    apps = [d for d in documents if isinstance(d, dict) and d.get("kind") == app.KIND]
    if len(apps) != 1:
        raise LoadError(f"{path} must hold exactly one {app.KIND}, it has {len(apps)}")
    return apps[0]


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error) or type(error).__name__
    return f"{what} in line {mark.line + 1}" if mark else what
