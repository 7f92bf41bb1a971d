"""Kubeconfig files, written as JSON (which is YAML) with the credentials inside."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devcluster.certificates import Authority, Pair

ADMIN = "admin"
ADMIN_GROUP = "system:masters"


def render(server: str, authority: Path, user: str, pair: Pair) -> str:
    """Return a kubeconfig for one user at one server."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "devcluster",
                "cluster": {"server": server, "certificate-authority-data": _encode(authority)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _encode(pair.certificate),
                    "client-key-data": _encode(pair.key),
                },
            }
        ],
        "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": user}}],
        "current-context": "devcluster",
    }
    return json.dumps(content, indent=2) + "\n"


def write(
    path: Path, server: str, authority: Authority, user: str, groups: Sequence[str] = ()
) -> Path:
    """Write a kubeconfig with a certificate of its own and return its path."""
    text = render(server, authority.pair.certificate, user, authority.client(user, groups))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
