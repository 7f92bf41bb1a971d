"""Shapes in a text: what can be found in it without understanding a word."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import Enum

from dspy_worker.practice import similarity


class Shape(Enum):
    """The shapes, the most telling one first: where two overlap, the earlier one wins."""

    EMAIL = "email"
    URL = "url"
    DATE = "date"
    MONEY = "money"
    CODE = "code"
    PHONE = "phone"
    NUMBER = "number"
    NAME = "name"
    PHRASE = "phrase"


_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_AMOUNT = r"\d+(?:,\d{3})*(?:\.\d+)?"
_WORD = r"[^\W\d_]"
PATTERNS: dict[Shape, re.Pattern[str]] = {
    Shape.EMAIL: re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    Shape.URL: re.compile(r"https?://[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]"),
    Shape.DATE: re.compile(
        rf"\d{{4}}-\d\d-\d\d|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}"
        rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?\b"
        rf"|\b\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?: \d{{4}})?"
    ),
    Shape.MONEY: re.compile(
        rf"[$€£] ?{_AMOUNT}|\b{_AMOUNT} ?(?:dollars|euros?|pounds|USD|EUR|GBP)\b|{_AMOUNT} ?€"
    ),
    Shape.CODE: re.compile(r"#?\b(?=[A-Z\d-]*\d)(?=\d*[A-Z-])[A-Z\d]+(?:-[A-Z\d]+)*\b|#\d+\b"),
    Shape.PHONE: re.compile(r"\+?\d{1,4}(?:[ -]\d{2,4}){2,4}\b"),
    Shape.NUMBER: re.compile(rf"(?<![\w.])-?{_AMOUNT}(?![\w])"),
    Shape.NAME: re.compile(rf"\b[A-Z]{_WORD}+(?: (?:(?:van|de|von|of) )?[A-Z]{_WORD}+)*"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of a text.

    Attributes:
        shape: What it looks like.
        text: The piece.
        before: Up to three stems in front of it, the nearest first.
        after: Up to two stems behind it, the nearest first.
        opens: Whether it opens a sentence: a capital letter means little there.
    """

    shape: Shape
    text: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    opens: bool = False


@functools.lru_cache(maxsize=4096)
def spans(text: str) -> tuple[Span, ...]:
    """Find the shapes of a text in reading order; no two overlap."""
    taken: list[tuple[int, int, Shape]] = []
    for shape, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            start, end = match.span()
            if not any(start < other[1] and other[0] < end for other in taken):
                taken.append((start, end, shape))
    return tuple(cut(text, start, end, shape) for start, end, shape in sorted(taken, key=_place))


def _place(entry: tuple[int, int, Shape]) -> int:
    return entry[0]


def cut(text: str, start: int, end: int, shape: Shape) -> Span:
    """Take a piece out of a text together with the words around it."""
    lead = text[:start].rstrip(" \"'(")
    return Span(
        shape=shape,
        text=text[start:end],
        before=tuple(_stems(text[max(0, start - 80) : start])[::-1][:3]),
        after=tuple(_stems(text[end : end + 60])[:2]),
        opens=not lead or lead[-1] in ".!?:\n",
    )


def _stems(text: str) -> list[str]:
    return [similarity.stem(word) for word in similarity.WORD.findall(text.lower())]


def shape_of(value: str) -> Shape:
    """Return the shape that a whole value has."""
    for shape, pattern in PATTERNS.items():
        if pattern.fullmatch(value):
            return shape
    return Shape.PHRASE


def mask(value: str) -> str:
    """Reduce a value to its pattern: "A-1234" and "B-99" are both "A-9"."""
    return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "9", value)))


def of_shape(text: str, *wanted: Shape) -> list[str]:
    """Return the pieces of a text that have one of the shapes, without repetition.

    Names that do not open a sentence come first.
    """
    found = [span for span in spans(text) if span.shape in wanted]
    if Shape.NAME in wanted:
        found.sort(key=lambda span: span.opens and " " not in span.text)
    return list(dict.fromkeys(span.text for span in found))


def numbers(text: str) -> list[float]:
    """Return the numbers of a text; amounts of money and "#12" count too."""
    return list(_spelled_numbers(text).values())


def spelled(text: str, value: float) -> str | None:
    """Return how a number is written in a text, or None when it is not there."""
    return next((piece for piece, one in _spelled_numbers(text).items() if one == value), None)


def _spelled_numbers(text: str) -> dict[str, float]:
    pieces = of_shape(text, Shape.NUMBER, Shape.MONEY, Shape.CODE)
    pairs = ((piece, to_number(piece)) for piece in pieces)
    return {piece: value for piece, value in pairs if value is not None}


def to_number(piece: str) -> float | None:
    """Read "$1,200.50", "-3" or "#12"; whole numbers come back as integers."""
    match = re.fullmatch(rf"#?(?:[$€£] ?)?(-?{_AMOUNT})(?: ?(?:€|[A-Za-z]+))?", piece)
    if not match or len(match[1]) > 15:  # noqa: PLR2004 - what a float holds exactly
        return None
    plain = match[1].replace(",", "")
    return float(plain) if "." in plain else int(plain)
