"""Write the worker's price table from the data of the package genai-prices (MIT).

`python tools/prices.py` writes worker/dspy_worker/contract/prices.json; with `--check` it only
tells whether the file is what the installed version gives. A model whose price depends on the
length of the prompt or the time of day, or that takes more than tokens, is left out: the table
has no room for that, and a wrong price would be worse than none.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from genai_prices import data, types

TABLE = Path(__file__).parents[1] / "worker/dspy_worker/contract/prices.json"
PACKAGE = "genai-prices"
PLAIN = {"input_mtok", "output_mtok", "cache_read_mtok"}
"""What the table knows of a price."""
HARMLESS = {"cache_write_mtok", "cache_write_1h_mtok", "input_audio_mtok", "cache_audio_read_mtok"}
"""Prices that matter only to requests that an OpenAI-compatible endpoint of text does not get."""
HARMLESS |= {"output_audio_mtok", "web_searches_kcount", "storage_searches_kcount"}


def names(match: Any) -> set[str]:  # noqa: ANN401 - one of several clauses
    """Return the names that a clause takes literally."""
    if isinstance(match, types.ClauseEquals):
        return {match.equals}
    if isinstance(match, types.ClauseOr):
        return {name for clause in match.or_ for name in names(clause)}
    return set()


def current(prices: Any, today: dt.date) -> Any:  # noqa: ANN401 - one price or several
    """Return the price of a day; None where it depends on more than the day."""
    if not isinstance(prices, list):
        return prices
    found = None
    for entry in prices:
        rule = entry.constraint
        if rule is not None and not isinstance(rule, types.StartDateConstraint):
            return None
        if rule is None or rule.start_date <= today:
            found = entry.prices
    return found


def row(price: Any) -> list[str] | None:  # noqa: ANN401 - the package's own type
    """Return input, output and, where there is one, cached input in dollars per million tokens."""
    given = {k: v for k, v in vars(price).items() if v is not None and not k.startswith("_")}
    fits = not set(given) - PLAIN - HARMLESS and {"input_mtok", "output_mtok"} <= set(given)
    if not fits or not all(isinstance(given[k], Decimal) for k in PLAIN & set(given)):
        return None
    order = ("input_mtok", "output_mtok", "cache_read_mtok")
    return [f"{given[k]:f}" for k in order if k in given]


def models(provider: types.Provider, today: dt.date) -> dict[str, list[str]]:
    """Return the rows of a provider's models by each of their names."""
    found: dict[str, list[str]] = {}
    for model in provider.models:
        price = current(model.prices, today)
        fitting = row(price) if price is not None else None
        if fitting:
            found |= dict.fromkeys({model.id, *names(model.match)}, fitting)
    return dict(sorted(found.items()))


def table(today: dt.date) -> str:
    """Return the text of the file."""
    head = {
        "source": f"{PACKAGE} {importlib.metadata.version(PACKAGE)}, MIT license",
        "date": today.isoformat(),
        "unit": "US dollars per million tokens: input, output, cached input",
    }
    lines = []
    for provider in data.providers:
        rows = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in models(provider, today).items()]
        where = f'"id": {json.dumps(provider.id)}, "endpoint": {json.dumps(provider.api_pattern)}'
        if rows:
            inner = ",\n   ".join(rows)
            lines.append(f'  {{{where}, "models": {{\n   {inner}}}}}')
    about = ",\n ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in head.items())
    return f'{{{about},\n "providers": [\n' + ",\n".join(lines) + "]}\n"


def main(arguments: list[str]) -> int:
    """Write the file, or tell whether it is stale; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args(arguments).check
    if check:
        old = TABLE.read_text()
        return int(old != table(dt.date.fromisoformat(json.loads(old)["date"])))
    TABLE.write_text(table(dt.datetime.now(dt.UTC).date()))
    print(f"written: {TABLE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
