"""The types of output fields as JSON schemas: what fits, how text is read, how values are written.

Only the part of JSON Schema that pydantic writes for common annotations is known. A `pattern` is
not: a field that asks for one gets a value that may not match it.
"""

from __future__ import annotations

import json
import math
from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Schema: TypeAlias = dict[str, Json]

STRING: Schema = {"type": "string"}


def resolve(schema: Json, root: Schema) -> Schema:
    """Follow references, and take the first alternative that is not null."""
    for _ in range(20):  # a chain of references is short; a circle must end
        if not isinstance(schema, dict):
            return {}
        reference, choices = schema.get("$ref"), alternatives(schema)
        if isinstance(reference, str):
            schema = _definition(reference, root)
        elif choices:
            schema = next((one for one in choices if one != {"type": "null"}), choices[0])
        else:
            return schema
    return {}


def alternatives(schema: Schema) -> list[Json]:
    """Return the members of `anyOf`, `oneOf` or `allOf`."""
    for word in ("anyOf", "oneOf", "allOf"):
        found = schema.get(word)
        if isinstance(found, list) and found:
            return found
    return []


def _definition(reference: str, root: Schema) -> Json:
    found: Json = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def kind(schema: Schema) -> str:
    """Return "enum", a type of JSON Schema, or "any"."""
    if "enum" in schema or "const" in schema:
        return "enum"
    name = schema.get("type")
    return name if isinstance(name, str) else "any"


def choices(schema: Schema) -> list[Json]:
    """Return the values that an enumeration allows."""
    allowed = schema.get("enum")
    if isinstance(allowed, list):
        return allowed
    return [schema["const"]] if "const" in schema else []


def properties(schema: Schema) -> dict[str, Json]:
    """Return the properties that an object schema names."""
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def number(schema: Schema, word: str) -> float | None:
    """Return a numeric bound of a schema."""
    found = schema.get(word)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def fits(value: Json, schema: Json, root: Schema) -> bool:
    """Say whether a value has the type that its schema asks for."""
    if isinstance(schema, dict) and "$ref" not in schema and alternatives(schema):
        judge = all if "allOf" in schema else any
        return judge(fits(value, one, root) for one in alternatives(schema))
    wanted = resolve(schema, root)
    match kind(wanted):
        case "enum":
            return any(type(value) is type(one) and value == one for one in choices(wanted))
        case "array":
            return isinstance(value, list) and _fits_array(value, wanted, root)
        case "object":
            return isinstance(value, dict) and _fits_object(value, wanted, root)
        case scalar:
            return _fits_scalar(value, scalar, wanted)


def _fits_scalar(value: Json, scalar: str, schema: Schema) -> bool:
    if scalar in {"any", "null", "boolean"}:
        return scalar == "any" or (value is None if scalar == "null" else isinstance(value, bool))
    if scalar == "string":
        return isinstance(value, str) and _fits_length(len(value), schema, "Length")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (scalar == "number" or isinstance(value, int)) and value == within(value, schema)


def _fits_length(size: int, schema: Schema, word: str) -> bool:
    least, most = number(schema, f"min{word}") or 0, number(schema, f"max{word}")
    return least <= size <= (math.inf if most is None else most)


def _fits_array(value: list[Json], schema: Schema, root: Schema) -> bool:
    heads = schema.get("prefixItems")
    if isinstance(heads, list):
        pairs = zip(value, heads, strict=False)
        return len(value) == len(heads) and all(fits(one, head, root) for one, head in pairs)
    if schema.get("uniqueItems") and len({written(one) for one in value}) < len(value):
        return False
    items = schema.get("items", {})
    return _fits_length(len(value), schema, "Items") and all(fits(v, items, root) for v in value)


def _fits_object(value: dict[str, Json], schema: Schema, root: Schema) -> bool:
    known, needed = properties(schema), schema.get("required")
    if isinstance(needed, list) and not set(map(str, needed)) <= value.keys():
        return False
    rest = schema.get("additionalProperties", True)
    if rest is False and not value.keys() <= known.keys():
        return False
    return all(fits(one, known.get(key, rest), root) for key, one in value.items())


def within(value: float, schema: Schema) -> float:
    """Move a number between the bounds of its schema; an integer stays one."""
    step = 1 if isinstance(value, int) else 1e-6
    lows = [number(schema, "minimum"), _moved(number(schema, "exclusiveMinimum"), step)]
    highs = [number(schema, "maximum"), _moved(number(schema, "exclusiveMaximum"), -step)]
    for low in (one for one in lows if one is not None):
        value = value if value >= low else _like(value, math.ceil(low), low)
    for high in (one for one in highs if one is not None):
        value = value if value <= high else _like(value, math.floor(high), high)
    return value


def _moved(bound: float | None, step: float) -> float | None:
    return None if bound is None else bound + step


def _like(value: float, whole: int, exact: float) -> float:
    return whole if isinstance(value, int) else float(exact)


def written(value: Json) -> str:
    """Write a value as DSPy's chat adapter writes it: text bare, Python's scalars, JSON inside."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else str(value)


def read(text: str, schema: Json, root: Schema) -> Json:
    """Read a value of a demo in the chat adapter's form.

    Raises:
        ValueError: The text is no value of that type.
    """
    wanted = resolve(schema, root)
    if kind(wanted) == "string":
        return text
    for one in choices(wanted):
        if written(one) == text:
            return one
    spelled = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    value: Json = json.loads(spelled)
    if not fits(value, schema, root):
        raise ValueError(f"{text!r} is not of the type {wanted}")
    return value
