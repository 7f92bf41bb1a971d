"""Reads a parsed YAML or JSON document field by field; every complaint names the field's path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from dspy_worker.contract import money

_REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_REQUIRED: Any = object()


class DocumentError(ValueError):
    """The document cannot be used; only its author can mend it."""


class Node:
    """One object of the document together with the path that leads to it."""

    def __init__(self, value: object, path: str) -> None:
        """Refuse what is not an object.

        Raises:
            DocumentError: `value` is no mapping.
        """
        if not isinstance(value, Mapping):
            raise DocumentError(f"{path or 'the document'}: expected an object, got {_kind(value)}")
        self._value: Mapping[str, Any] = value
        self._path = path

    def error(self, message: str, key: str = "") -> DocumentError:
        """Return a complaint about this object, or about one of its fields."""
        where = self._at(key) if key else self._path
        return DocumentError(f"{where}: {message}" if where else message)

    def mapping(self) -> Mapping[str, Any]:
        """Return the object as it is."""
        return self._value

    def node(self, key: str, *, default: object = _REQUIRED) -> Node:
        """Return an object-valued field."""
        return Node(self._get(key, default), self._at(key))

    def optional(self, key: str) -> Node | None:
        """Return an object-valued field, or None where it is absent."""
        value = self._value.get(key)
        return None if value is None else Node(value, self._at(key))

    def nodes(self, key: str) -> Iterator[Node]:
        """Yield the objects of a list-valued field; an absent list is an empty one."""
        for index, value in enumerate(self._list(key)):
            yield Node(value, f"{self._at(key)}[{index}]")

    def text(self, key: str, *, default: object = _REQUIRED) -> str:
        """Return a string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(f"expected a string, got {_kind(value)}", key)
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a string, or None where it is absent."""
        return None if self._value.get(key) is None else self.text(key)

    def identifier(self, key: str) -> str:
        """Return a name in lower case, as Python writes it."""
        value = self.text(key)
        if not _IDENTIFIER.fullmatch(value):
            raise self.error(f"{value!r} must be lower-case letters, digits and '_'", key)
        return value

    def choice(self, key: str, choices: tuple[str, ...], *, default: str) -> str:
        """Return one of a few strings."""
        value = self.text(key, default=default)
        if value not in choices:
            raise self.error(f"{value!r} is not one of {', '.join(choices)}", key)
        return value

    def number(self, key: str, default: int, *, least: int = 1) -> int:
        """Return an integer that is not below `least`."""
        value = self._value.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(f"expected an integer of at least {least}, got {value!r}", key)
        return value

    def optional_number(self, key: str) -> int | None:
        """Return an integer of at least one, or None where it is absent."""
        return None if self._value.get(key) is None else self.number(key, 1)

    def optional_decimal(self, key: str) -> float | None:
        """Return a number that is written as a decimal string, or None where it is absent."""
        if self._value.get(key) is None:
            return None
        value = self.text(key)
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or number < 0:
            raise self.error(f"{value!r} is not a decimal string such as '0.7'", key)
        return float(number)

    def money(self, key: str) -> int:
        """Return an amount of US dollars, which is written as a decimal string, in nanos."""
        try:
            return money.nanos(self.text(key))
        except ValueError as error:
            raise self.error(str(error), key) from None

    def optional_money(self, key: str) -> int | None:
        """Return an amount of US dollars in nanos, or None where it is absent."""
        return None if self._value.get(key) is None else self.money(key)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._value.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"expected true or false, got {value!r}", key)
        return value

    def url(self, key: str) -> str:
        """Return an http or https URL without a trailing slash."""
        value = self.text(key)
        if not is_url(value):
            raise self.error(f"{value!r} is not an http or https URL", key)
        return value.rstrip("/")

    def reference(self, key: str) -> str:
        """Return a Python function as module:function."""
        return self._checked_reference(self.text(key), key)

    def references(self, key: str) -> list[str]:
        """Return a list of Python functions; an absent list is an empty one."""
        return [self._checked_reference(value, key) for value in self._list(key)]

    def _checked_reference(self, value: object, key: str) -> str:
        if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
            raise self.error(f"{value!r} is not a function written as module:function", key)
        return value

    def _list(self, key: str) -> Sequence[Any]:
        value = self._value.get(key, [])
        if not isinstance(value, list):
            raise self.error(f"expected a list, got {_kind(value)}", key)
        return value

    def _get(self, key: str, default: object) -> Any:  # noqa: ANN401 - JSON
        value = self._value.get(key, default)
        if value is _REQUIRED or value is None:
            raise self.error("is missing", key)
        return value

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


def is_url(text: str) -> bool:
    """Return whether a text is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an address, or a port that is no number
        return False


def _kind(value: object) -> str:
    names = {"str": "a string", "list": "a list", "NoneType": "nothing", "dict": "an object"}
    return names.get(type(value).__name__, f"{value!r}")
