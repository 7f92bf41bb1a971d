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


def mark(now_ms: int, chance: str, before: str = "") -> str:
    """Return a new mark, which is greater than the one before.

    Args:
        now_ms: Milliseconds since 1970.
        chance: A random word, so that two marks of one moment differ.
        before: The mark in force; empty for none.
    """
    least = int(before.partition("-")[0]) + 1 if before else 0
    return f"{max(now_ms, least):015d}-{chance}"


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
        """All that are known."""
        return self._marks

    def learn(self, marks: Mapping[str, str]) -> list[str]:
        """Take newer marks over; return their names."""
        news = [name for name, mark in marks.items() if mark > self._marks.get(name, "")]
        self._marks.update({name: marks[name] for name in news})
        return news

    def unknown_to(self, marks: Mapping[str, str]) -> dict[str, str]:
        """Return the marks that somebody with these has not heard of."""
        return {name: mark for name, mark in self._marks.items() if mark > marks.get(name, "")}

    def of(self, variant: str, tag: str) -> str:
        """Return what keys carry."""
        if not self._marks:
            return _FIRST
        names = (field(), field(variant), field(tag=tag), field(variant, tag))
        found = "/".join(self._marks.get(name, "") for name in names)
        if not found.strip("/"):
            return _FIRST
        return hashlib.sha256(found.encode()).hexdigest()[:_DIGITS]
