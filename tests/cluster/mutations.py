"""Wrong specs by the hundred: each leaf of a valid app, unset, mistyped, too small, too large.

Derived from the CRD's own schema, so that a new field is mutated without anybody thinking of it.
The list is the same in each run.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
Json = Any
LONG = 2000


@dataclass(frozen=True)
class Mutation:
    """One change of a valid spec.

    Attributes:
        path: The field that was changed.
        what: What was done to it, in a word.
        spec: The whole spec after it.
    """

    path: Path
    what: str
    spec: dict[str, Json]

    @property
    def field(self) -> str:
        """Return the name of the field itself, or of the list that the entry is in."""
        return next(str(part) for part in reversed(self.path) if isinstance(part, str))

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))}: {self.what}"


def mutations(spec: dict[str, Json], schema: dict[str, Json]) -> Iterator[Mutation]:
    """Yield every mutation of a spec that its schema suggests."""
    for path, value, node in leaves(spec, schema, ()):
        for what, wrong in wrongs(value, node):
            if wrong != value:
                yield Mutation(path, what, put(spec, path, wrong))
        if path:
            yield Mutation(path, "unset", put(spec, path, None, remove=True))
        if isinstance(value, dict) and "properties" in node:
            yield Mutation(path, "unknown", put(spec, (*path, "mystery"), 1))
        if isinstance(value, list) and value:
            yield Mutation(path, "twice", put(spec, path, [*value, copy.deepcopy(value[0])]))


def leaves(
    value: Json, node: dict[str, Json], path: Path
) -> Iterator[tuple[Path, Json, dict[str, Json]]]:
    """Yield each part of a value with the schema node that describes it, the whole first."""
    yield path, value, node
    if isinstance(value, dict):
        extra = node.get("additionalProperties", {})
        for name, inner in value.items():
            described = node.get("properties", {}).get(name, extra)
            yield from leaves(inner, described, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:1]):
            yield from leaves(inner, node.get("items", {}), (*path, number))


def wrongs(value: Json, node: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    """Yield wrong and extreme values for a place."""
    yield from _of_another_type(value)
    if isinstance(value, bool):
        yield "flipped", not value
    elif isinstance(value, int):
        yield from _numbers(node)
    elif isinstance(value, str):
        yield from _texts(node)
    elif isinstance(value, list):
        yield "empty", []
        yield "long", value * (node.get("maxItems", LONG) + 1)
    elif isinstance(value, dict):
        yield "empty", {}


def _of_another_type(value: Json) -> Iterator[tuple[str, Json]]:
    others: list[Json] = ["text", 7, True, [1], {"a": 1}, None, 1.5]
    for other in others:
        if type(other) is not type(value):
            yield f"a {type(other).__name__}", other


def _numbers(node: dict[str, Json]) -> Iterator[tuple[str, int]]:
    yield "negative", -1
    yield "huge", 2**62
    if "minimum" in node:
        yield "smallest", node["minimum"]
        yield "too small", node["minimum"] - 1
    if "maximum" in node:
        yield "largest", node["maximum"]
        yield "too large", node["maximum"] + 1


def _texts(node: dict[str, Json]) -> Iterator[tuple[str, str]]:
    yield "empty", ""
    yield "blank", " "
    yield "a line break", "a\nb"
    yield "other letters", "größe-\u202e-\U0001f600"
    yield "too long", "a" * (node.get("maxLength", LONG) + 1)
    yield "a template", "{{ 7 * 7 }}$(id)`id`"
    for choice in node.get("enum", ()):
        yield f"choice {choice}", choice


def put(spec: dict[str, Json], path: Path, value: Json, *, remove: bool = False) -> dict[str, Json]:
    """Return a copy of a spec with one place changed or removed."""
    made = copy.deepcopy(spec)
    if not path:
        return dict(value) if isinstance(value, dict) else {"value": value}
    place: Json = made
    for part in path[:-1]:
        place = place[part]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return made
