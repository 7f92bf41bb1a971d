"""The types that a field of a declared signature may have, and how they are written.

type    = scalar | "list[" type "]" | "Literal[" choice {"," choice} "]" | Name
scalar  = "str" | "int" | "bool" | "float"
choice  = a Python string, integer or boolean literal
Name    = an entry of `signature.types` that was declared before
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Container

SCALARS = ("str", "int", "bool", "float")
MAX_DEPTH = 8
"""Deepest nesting of list[...] that is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One of `SCALARS`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list whose items have one type."""

    item: TypeExpr


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of a fixed set of values, as `typing.Literal`."""

    values: tuple[str | int | bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An object that `signature.types` declares."""

    name: str


TypeExpr: TypeAlias = Scalar | ListOf | Choice | Named


def parse(text: str, known: Container[str] = ()) -> TypeExpr:
    """Read a type expression.

    Args:
        text: The expression, e.g. `list[Literal['a', 'b']]`.
        known: Names of the types that may be used.

    Raises:
        ValueError: The message says what is wrong and what would be right.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is not a type; write e.g. str or list[int]") from None
    return _read(tree, known, depth=0)


def _read(node: ast.expr, known: Container[str], *, depth: int) -> TypeExpr:
    match node:
        case ast.Name(id=name) if name in SCALARS:
            return Scalar(name=name)
        case ast.Name(id=name):
            return _named(name, known)
        case ast.Subscript(value=ast.Name(id="list"), slice=item) if depth < MAX_DEPTH:
            return ListOf(item=_read(item, known, depth=depth + 1))
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return _choice(choices)
        case ast.Subscript(value=ast.Name(id="list")):
            raise ValueError(f"lists may be nested at most {MAX_DEPTH} deep")
        case _:
            raise ValueError(
                f"{ast.unparse(node)!r} is not a type; use str, int, bool, float, list[T], "
                "Literal['a', 'b'] or a name from signature.types"
            )


def _named(name: str, known: Container[str]) -> Named:
    if name in known:
        return Named(name=name)
    if name in {"list", "Literal"}:
        raise ValueError(f"{name} needs its content in brackets, e.g. list[str] or Literal['a']")
    raise ValueError(
        f"type {name!r} is unknown: use str, int, bool, float, list[T], Literal['a', 'b'] or "
        "declare it in signature.types before it is used"
    )


def _choice(node: ast.expr) -> Choice:
    items = node.elts if isinstance(node, ast.Tuple) else [node]
    values = tuple(
        item.value
        for item in items
        if isinstance(item, ast.Constant) and isinstance(item.value, str | int | bool)
    )
    if len(values) != len(items) or not values:
        raise ValueError("Literal takes only strings, integers, True and False")
    if len(set(map(repr, values))) != len(values):
        raise ValueError("Literal names a value twice")
    return Choice(values=values)
