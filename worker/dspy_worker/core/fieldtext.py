"""Finds the output fields in a language model's answer while it arrives, piece by piece.

The pieces of text that come out are those of the fields alone: no headers, no quotes, no white
space around a value. However an answer is cut into pieces, the text of each field is the same. It
follows the rules by which DSPy's adapters read a complete answer; that reading, and not this one,
decides what the answer is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = re.compile(r"[^\S\n]*\[\[ ## (\w+) ## \]\]")
_OPENING, _CLOSING = "[[ ## ", " ## ]]"


class FieldText(Protocol):
    """What both kinds of answers have in common."""

    def feed(self, text: str) -> Iterator[tuple[str, str]]:
        """Take the next piece of an answer; yield pairs of field and text."""

    def end(self) -> Iterator[tuple[str, str]]:
        """Yield what was held back because more might have followed."""


def of_adapter(name: str, fields: frozenset[str]) -> FieldText:
    """Return what reads the answers to an adapter's prompts.

    Args:
        name: "Chat" or "JSON".
        fields: The fields that are wanted.
    """
    return JSONText(fields) if name == "JSON" else ChatText(fields)


class ChatText:
    """Reads answers with a header line such as `[[ ## label ## ]]` before each field."""

    def __init__(self, fields: frozenset[str]) -> None:
        """Tell these fields, each once: DSPy takes the first of two."""
        self._wanted = set(fields)
        self._field: str | None = None
        self._held = ""
        self._is_fresh = True
        self._has_begun = False
        self._space = ""

    def feed(self, text: str) -> Iterator[tuple[str, str]]:
        """Take the next piece of an answer; yield pairs of field and text."""
        self._held += text
        while self._held:
            if self._is_fresh and self._take_header():
                continue
            if self._is_fresh and _may_become_header(self._held):
                return
            line, newline, self._held = self._held.partition("\n")
            self._is_fresh = bool(newline)
            yield from self._tell(line + newline)

    def end(self) -> Iterator[tuple[str, str]]:
        """Yield what was held back because it might have become a header."""
        held, self._held = self._held, ""
        yield from self._tell(held)

    def _take_header(self) -> bool:
        found = _HEADER.match(self._held)
        if found is None:
            return False
        self._field = found[1] if found[1] in self._wanted else None
        self._wanted.discard(found[1])
        self._held = self._held[found.end() :]
        self._is_fresh = self._has_begun = False
        self._space = ""
        return True

    def _tell(self, text: str) -> Iterator[tuple[str, str]]:
        if self._field is None:
            return
        text = self._space + text if self._has_begun else text.lstrip()
        stripped = text.rstrip()
        self._space = text[len(stripped) :]
        if stripped:
            self._has_begun = True
            yield self._field, stripped


def _may_become_header(held: str) -> bool:
    """Tell whether the beginning of a line may be the beginning of a header."""
    if "\n" in held:
        return False
    rest = held.lstrip()
    if len(rest) <= len(_OPENING):
        return _OPENING.startswith(rest)
    if not rest.startswith(_OPENING):
        return False
    name = re.match(r"\w*", rest[len(_OPENING) :])
    tail = rest[len(_OPENING) + (name.end() if name else 0) :]
    return _CLOSING.startswith(tail)


class JSONText:
    """Reads answers that are one JSON object; texts come unquoted, other values as JSON."""

    def __init__(self, fields: frozenset[str]) -> None:
        """Tell these fields."""
        self._wanted = fields
        self._step = self._before
        self._key = ""
        self._text = ""
        self._depth = 0
        self._is_quoted = False
        self._is_escaped = False

    def feed(self, text: str) -> Iterator[tuple[str, str]]:
        """Take the next piece of an answer; yield pairs of field and text."""
        for char in text:
            told = self._step(char)
            if told:
                yield self._key, told
        if self._step in {self._string, self._value}:
            yield from self._flush()

    def end(self) -> Iterator[tuple[str, str]]:
        """Yield nothing: what is held back is half of a character."""
        yield from ()

    def _flush(self) -> Iterator[tuple[str, str]]:
        told = self._decoded() if self._step == self._string else self._plain()
        if told:
            yield self._key, told

    def _before(self, char: str) -> str:
        if char == "{":
            self._step = self._between
        return ""

    def _between(self, char: str) -> str:
        if char == '"':
            self._text = ""
            self._step = self._name
        elif char == "}":
            self._step = self._after
        return ""

    def _name(self, char: str) -> str:
        if char == '"' and not self._is_escaped:
            self._key = _unquoted(self._text)
            self._step = self._colon
        else:
            self._text += char
        self._is_escaped = char == "\\" and not self._is_escaped
        return ""

    def _colon(self, char: str) -> str:
        if char == ":" or char.isspace():
            return ""
        self._text, self._depth, self._is_quoted, self._is_escaped = "", 0, False, False
        if char == '"':
            self._step = self._string
            return ""
        self._step = self._value
        return self._value(char)

    def _string(self, char: str) -> str:
        if char == '"' and not self._is_escaped:
            told = self._decoded()
            self._step = self._between
            return told
        self._text += char
        self._is_escaped = char == "\\" and not self._is_escaped
        return ""

    def _value(self, char: str) -> str:
        """Follow a number, a word, a list or an object to its end."""
        if self._is_quoted:
            self._is_quoted = char != '"' or self._is_escaped
            self._is_escaped = char == "\\" and not self._is_escaped
        elif char in ",}" and self._depth == 0:
            told = self._plain(is_last=True)
            self._step = self._between if char == "," else self._after
            return told
        else:
            self._is_quoted = char == '"'
            self._depth += (char in "[{") - (char in "]}")
        self._text += char
        return ""

    def _after(self, char: str) -> str:  # noqa: ARG002 - what stands behind the object is not read
        return ""

    def _plain(self, *, is_last: bool = False) -> str:
        """Return what is certain of a value that is no text; white space behind it is not."""
        told = self._text.rstrip()
        self._text = "" if is_last else self._text[len(told) :]
        return told if self._key in self._wanted else ""

    def _decoded(self) -> str:
        """Return what is certain of a text: no half of an escape, and no half of a pair."""
        cut = len(self._text) - len(_unfinished(self._text))
        told, self._text = _unquoted(self._text[:cut]), self._text[cut:]
        return told if self._key in self._wanted else ""


_UNFINISHED: Final = re.compile(
    r"(?:\\u[dD][89abAB][0-9a-fA-F]{2})?\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}\Z"
)


def _unfinished(text: str) -> str:
    """Return the end of a quoted text that the next character may complete."""
    for found in re.finditer(r"\\(?:u[0-9a-fA-F]{4}|[^u])|\\u?[0-9a-fA-F]{0,3}\Z", text):
        begin = found.start()
        if found.end() == len(text) and _UNFINISHED.match(text, begin):
            return _with_first_half(text, begin)
    return ""


def _with_first_half(text: str, begin: int) -> str:
    """Extend an unfinished escape by the first half of a pair before it."""
    before = text[max(0, begin - 6) : begin]
    if re.fullmatch(r"\\u[dD][89abAB][0-9a-fA-F]{2}", before):
        return text[begin - 6 :]
    return text[begin:]


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
