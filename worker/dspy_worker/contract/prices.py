"""What providers take for their models: a dated table, and what a document says instead.

The table is looked up by the endpoint's provider and the exact name of the model. A name that
is not in it has no price: a model with a known name behind another address may cost anything.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspy_worker.contract import money
from dspy_worker.contract.money import Price

if TYPE_CHECKING:
    from dspy_worker.contract import reader

TABLE = Path(__file__).with_name("prices.json")


def find(endpoint: str, model: str) -> Price | None:
    """Return the table's price of a model, or None where it has none."""
    for provider in _table()["providers"]:
        known = provider["models"].get(model)
        if known is not None and re.match(provider["endpoint"], endpoint):
            return _price(*known)
    return None


def read(node: reader.Node) -> Price:
    """Return the price that a document gives.

    Raises:
        DocumentError: The message names the field's path and what would be right.
    """
    fresh = node.money("inputPerMillion")
    cached = node.optional_money("cachedInputPerMillion")
    return Price(
        input=fresh,
        output=node.money("outputPerMillion"),
        cached=fresh if cached is None else cached,
    )


def _price(fresh: str, output: str, cached: str | None = None) -> Price:
    return Price(
        input=money.nanos(fresh),
        output=money.nanos(output),
        cached=money.nanos(fresh if cached is None else cached),
    )


@functools.cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found
