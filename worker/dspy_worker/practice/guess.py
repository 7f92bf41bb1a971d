"""A value of the right type from the bare text: what is left when no demo shows how it is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.practice import schema, shapes, similarity
from dspy_worker.practice.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspy_worker.practice.schema import Json, Schema

HINTS: tuple[tuple[str, tuple[Shape, ...]], ...] = (
    ("mail", (Shape.EMAIL,)),
    ("url|link|site", (Shape.URL,)),
    ("date|day|when|deadline", (Shape.DATE,)),
    ("phone|mobile", (Shape.PHONE, Shape.NUMBER)),
    ("amount|price|cost|total|money|refund", (Shape.MONEY, Shape.NUMBER)),
    ("order|invoice|ticket|number|code|sku|serial|^id$|_id$", (Shape.CODE, Shape.NUMBER)),
    ("name|person|people|customer|company|city|country|place|author", (Shape.NAME,)),
)
FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "nobody@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
FRACTIONS = re.compile("confidence|probability|score|share|ratio")
DEEPEST = 4
FEW = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value is wanted: the field's name, its schema, the schema of the whole, the depth."""

    name: str
    schema: Json
    root: Schema
    depth: int = 0

    @property
    def wanted(self) -> Schema:
        """The schema with its references followed."""
        return schema.resolve(self.schema, self.root)

    def inside(self, name: str, inner: Json) -> Place:
        """Step into an object or a list."""
        return Place(name=name, schema=inner, root=self.root, depth=self.depth + 1)


def value(place: Place, text: str) -> Json:
    """Guess a value that fits the place.

    A circle of types ends by the shortest value that is allowed: no list item, null, no optional
    property.
    """
    nullable = {"type": "null"} in schema.alternatives(_as_schema(place.schema))
    if nullable and place.depth > DEEPEST:
        return None
    wanted = place.wanted
    match schema.kind(wanted):
        case "enum":
            return nearest_choice(schema.choices(wanted), text)
        case "array":
            return _array(place, text)
        case "object":
            return _object(place, text)
        case scalar:
            return _scalar(place.name, scalar, wanted, text)


def _as_schema(found: Json) -> Schema:
    return found if isinstance(found, dict) else {}


def nearest_choice(choices: list[Json], text: str) -> Json:
    """Return the choice whose words are nearest to the text."""
    return max(choices, key=lambda one: similarity.cosine(schema.written(one), text), default=None)


def _scalar(name: str, scalar: str, wanted: Schema, text: str) -> Json:
    match scalar:
        case "null":
            return None
        case "boolean":
            named = set(similarity.words(name.replace("_", " ")))
            return bool(named & set(similarity.words(text)))
        case "integer" | "number":
            return _number(name, scalar, wanted, text)
        case _:
            return _string(name, wanted, text)


def _number(name: str, scalar: str, wanted: Schema, text: str) -> float:
    if scalar == "number" and FRACTIONS.search(name):
        return float(schema.within(round(0.5 + 0.5 * similarity.share(name, text), 2), wanted))
    found = shapes.numbers(text)
    if scalar == "number":
        return schema.within(float(found[0]) if found else 0.0, wanted)
    whole = [one for one in found if isinstance(one, int)]
    return schema.within(whole[0] if whole else 0, wanted)


def _string(name: str, wanted: Schema, text: str) -> str:
    form = wanted.get("format")
    if isinstance(form, str) and form in FORMATS:
        return _formatted(form, text)
    found = hinted(name, text)
    phrase = found[0] if found else " ".join(text.split()[:FEW])
    least, most = schema.number(wanted, "minLength"), schema.number(wanted, "maxLength")
    return phrase.ljust(int(least or 0), ".")[: None if most is None else int(most)]


def _formatted(form: str, text: str) -> str:
    shape = {"date": Shape.DATE, "email": Shape.EMAIL, "uri": Shape.URL}.get(form)
    found = shapes.of_shape(text, shape) if shape else []
    iso = [one for one in found if form != "date" or re.fullmatch(r"\d{4}-\d\d-\d\d", one)]
    return iso[0] if iso else FORMATS[form]


def hinted(name: str, text: str) -> list[str]:
    """Return the pieces of the text that the name of the field asks for."""
    for pattern, wanted in HINTS:
        if re.search(pattern, name.lower()):
            by_shape = (shapes.of_shape(text, shape) for shape in wanted)
            return next((found for found in by_shape if found), [])
    return []


def _array(place: Place, text: str) -> list[Json]:
    wanted = place.wanted
    heads = wanted.get("prefixItems")
    if isinstance(heads, list):
        return [value(place.inside(place.name, head), text) for head in heads]
    least = int(schema.number(wanted, "minItems") or 0)
    item = place.inside(place.name, wanted.get("items", {}))
    if place.depth >= DEEPEST:
        return [value(item, text) for _ in range(least)]
    found = several(item, text)[: int(schema.number(wanted, "maxItems") or FEW)]
    return found + [value(item, text) for _ in range(least - len(found))]


def several(item: Place, text: str) -> list[Json]:
    """Return what a list of such items may hold: what the text names, each once."""
    wanted = item.wanted
    pieces: Sequence[Json]
    match schema.kind(wanted):
        case "string" if "format" not in wanted:
            pieces = hinted(item.name, text) or sorted(set(similarity.words(text)))
        case "integer":
            pieces = [one for one in shapes.numbers(text) if isinstance(one, int)]
        case _:
            return [value(item, text)]
    return [one for one in pieces if schema.fits(one, item.schema, item.root)]


def _object(place: Place, text: str) -> dict[str, Json]:
    wanted = place.wanted
    needed = wanted.get("required")
    required = set(map(str, needed)) if isinstance(needed, list) else set()
    return {
        name: value(place.inside(name, inner), text)
        for name, inner in schema.properties(wanted).items()
        if name in required or place.depth < DEEPEST
    }
