"""Extraction by analogy: a value stands in the text where the demos' values stood in theirs.

A candidate is better the more its shape, its pattern and the words around it are like those of the
values that the demos took from their own inputs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.practice import shapes, similarity
from dspy_worker.practice.shapes import Shape, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

PATTERN_WEIGHT = 0.5
BASE_TRUST = 0.3
LONGEST_PHRASE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One demo's value together with the text it came from and how near that text is."""

    nearness: float
    text: str
    value: str


def is_extraction(cases: Sequence[Case]) -> bool:
    """Say whether most of the values stand word for word in the texts of their demos."""
    hits = sum(1 for case in cases if case.value and _find(case.text, case.value))
    return hits * 2 > len(cases)


def _find(text: str, value: str) -> Span | None:
    match = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE)
    return shapes.cut(text, *match.span(), shapes.shape_of(value)) if match else None


def best(text: str, cases: Sequence[Case], sigma: float = 0.0) -> str | None:
    """Return the piece of the text that is the likeliest counterpart of the demos' values.

    Args:
        text: Where to look.
        cases: What the demos took from their texts.
        sigma: How far a fixed error may move the score of a candidate.
    """
    models = [(case.nearness, span) for case in cases if (span := _find(case.text, case.value))]
    scored = [
        (
            _score(candidate, models) + sigma * similarity.noise("err", text, candidate.text),
            candidate,
        )
        for candidate in _candidates(text, {span.shape for _, span in models}, models)
        if any(_resembles(candidate, span) for _, span in models)
    ]
    return max(scored, key=lambda pair: pair[0])[1].text if scored else None


def every(text: str, cases: Sequence[Case]) -> list[str]:
    """Return all pieces of the text that look like values of the demos, or are such values."""
    known = dict.fromkeys(case.value for case in cases if _find(text, case.value))
    wanted = {shapes.shape_of(case.value) for case in cases} - {Shape.PHRASE}
    return list(dict.fromkeys([*shapes.of_shape(text, *wanted), *known]))


def _candidates(text: str, wanted: set[Shape], models: Sequence[tuple[float, Span]]) -> list[Span]:
    found = [span for span in shapes.spans(text) if span.shape in wanted]
    if Shape.PHRASE not in wanted:
        return found
    sizes = {len(span.text.split()) for _, span in models if span.shape is Shape.PHRASE}
    return found + [phrase for size in sizes for phrase in _phrases(text, size)]


def _phrases(text: str, size: int) -> list[Span]:
    marks = list(re.finditer(r"[\w'-]+", text)) if size <= LONGEST_PHRASE else []
    ends = zip(marks, marks[size - 1 :], strict=False)
    return [shapes.cut(text, first.start(), last.end(), Shape.PHRASE) for first, last in ends]


def _resembles(candidate: Span, model: Span) -> bool:
    """A phrase has no shape of its own: without a common neighbor it is no candidate."""
    return candidate.shape is model.shape and (
        candidate.shape is not Shape.PHRASE or _around(candidate, model) > 0
    )


def _score(candidate: Span, models: Sequence[tuple[float, Span]]) -> float:
    total = sum(
        (BASE_TRUST + nearness) * _likeness(candidate, span)
        for nearness, span in models
        if span.shape is candidate.shape
    )
    return total / len(models)


def _likeness(candidate: Span, model: Span) -> float:
    same = shapes.mask(candidate.text) == shapes.mask(model.text)
    return PATTERN_WEIGHT * same + _around(candidate, model) - 0.25 * candidate.opens


def _around(candidate: Span, model: Span) -> float:
    """Weigh the stems that both have as neighbors: the nearer, the more."""
    return sum(
        1.0 / (1 + here)
        for mine, theirs in ((candidate.before, model.before), (candidate.after, model.after))
        for here, stem in enumerate(mine)
        if stem in theirs
    )
