"""Servers that a worker uses beside the language models, each by a URL in a Secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_worker.contract import reader

REDIS = "redis"
POSTGRES = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One server.

    Attributes:
        name: `REDIS` or `POSTGRES`.
        secret: Name of the Secret with the URL.
        entry: Key inside that Secret.
    """

    name: str
    secret: str
    entry: str


def read(node: reader.Node, name: str) -> Connection:
    """Return the connection that an object with a `urlSecretRef` describes.

    Raises:
        DocumentError: The message names the field's path and what would be right.
    """
    ref = node.node("urlSecretRef")
    return Connection(name=name, secret=ref.text("name"), entry=ref.text("key", default="url"))
