"""What a worker's pod mounts, and where; volumes and mounts are two views of one list."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_operator.core import names
from dspy_worker import contract

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest

_MODE = 0o440
"""Readable for the pod's user by its fsGroup, and for nobody else."""
_MEBIBYTE = 1 << 20
_TMP_LIMIT = "256Mi"
CACHE_DIR = "/var/cache/dspy-worker"
"""Where the cache volume is mounted; `XDG_CACHE_HOME` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    name: str
    path: str
    volume: Manifest
    read_only: bool = True


def volumes(app: App) -> list[Manifest]:
    """Return the pod's volumes."""
    return [{"name": mount.name, **mount.volume} for mount in _mounts(app)]


def mounts(app: App) -> list[Manifest]:
    """Return the container's mounts."""
    return [
        {"name": m.name, "mountPath": m.path, **({"readOnly": True} if m.read_only else {})}
        for m in _mounts(app)
    ]


def _mounts(app: App) -> list[_Mount]:
    return [
        _Mount(
            name="tmp",
            path="/tmp",  # noqa: S108 - the pod's own emptyDir
            volume={"emptyDir": {"sizeLimit": _TMP_LIMIT}},
            read_only=False,
        ),
        _config_map("config", contract.CONFIG_DIR, names.config_map(app.name)),
        _config_map("ops", contract.OPS_TOKEN_DIR, names.ops_config_map(app.name)),
        *_cache(app),
        *_source(app),
        *_keys(app),
        *_connections(app),
        *_data(app),
    ]


def _cache(app: App) -> list[_Mount]:
    if app.options.cache_volume is None:
        return []
    claim = {"persistentVolumeClaim": {"claimName": names.cache_claim(app.name)}}
    return [_Mount(name="cache", path=CACHE_DIR, volume=claim, read_only=False)]


def _source(app: App) -> list[_Mount]:
    if app.source is None:
        return []
    mount = _config_map("source", contract.SOURCE_DIR, app.source)
    # Optional: a missing ConfigMap would hang the pod without a word. The condition SourceMissing
    # speaks before that, and the worker does when it finds no file.
    mount.volume["configMap"]["optional"] = True
    return [mount]


def _keys(app: App) -> list[_Mount]:
    return [
        _secret(
            f"key-{model.name}",
            f"{contract.KEYS_DIR}/{model.name}",
            (model.key_secret or "", model.key_entry),
            contract.KEY_FILE,
        )
        for model in app.keyed_models
    ]


def _connections(app: App) -> list[_Mount]:
    return [
        _secret(
            f"url-{connection.name}",
            f"{contract.CONNECTIONS_DIR}/{connection.name}",
            (connection.secret, connection.entry),
            contract.URL_FILE,
        )
        for connection in app.program.connections()
    ]


def _data(app: App) -> list[_Mount]:
    """Mount what outlives the worker's process, though not its pod."""
    size = app.program.data_bytes()
    if not size:
        return []
    volume = {"emptyDir": {"sizeLimit": f"{math.ceil(size / _MEBIBYTE)}Mi"}}
    return [_Mount(name="data", path=contract.DATA_DIR, volume=volume, read_only=False)]


def _secret(name: str, path: str, entry: tuple[str, str], file: str) -> _Mount:
    """Mount one entry of a Secret as a file.

    Optional: the worker waits for it and reports what it misses.
    """
    volume = {
        "secret": {
            "secretName": entry[0],
            "optional": True,
            "defaultMode": _MODE,
            "items": [{"key": entry[1], "path": file}],
        }
    }
    return _Mount(name=name, path=path, volume=volume)


def _config_map(name: str, path: str, config_map: str) -> _Mount:
    return _Mount(
        name=name, path=path, volume={"configMap": {"name": config_map, "defaultMode": _MODE}}
    )
