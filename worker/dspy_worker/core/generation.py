"""Which answers were cleared by hand: marks that are part of every key.

A mark is set for all answers of an app, or for those of a variant, of a tenant, or of both. Keys
carry the marks that concern them, so that what was kept, or is still being made, under older marks
is not found any more.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = "0"
_DIGITS = 8


def field(variant: str = "", tag: str = "") -> str:
    """Return the name of the mark for these answers; without words, for all."""
    return f"{variant or '*'}/{tag or '*'}"


def parts(name: str) -> tuple[str, str]:
    """Return variant and tenant's tag of a mark's name, empty for all."""
    variant, _, tag = name.partition("/")
    return variant.replace("*", ""), tag.replace("*", "")


class Generations:
    """The marks that are known; marks are never forgotten, even if Redis loses them."""

    def __init__(self) -> None:
        """Know of no mark."""
        self._marks: dict[str, str] = {}

    @property
    def marks(self) -> Mapping[str, str]:
        """What is known."""
        return self._marks

    def learn(self, marks: Mapping[str, str]) -> list[str]:
        """Take marks over; return the names of those that are news."""
        news = [name for name, mark in marks.items() if self._marks.get(name) != mark]
        self._marks.update({name: marks[name] for name in news})
        return news

    def of(self, variant: str, tag: str) -> str:
        """Return what keys carry."""
        if not self._marks:
            return _FIRST
        names = (field(), field(variant), field(tag=tag), field(variant, tag))
        found = "/".join(self._marks.get(name, "") for name in names)
        if not found.strip("/"):
            return _FIRST
        return hashlib.sha256(found.encode()).hexdigest()[:_DIGITS]
