"""Fields found in an answer that arrives in pieces."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import TYPE_CHECKING

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.core import fieldtext
from dspy_worker.edge import adapter

if TYPE_CHECKING:
    from collections.abc import Sequence

FIELDS = frozenset({"reasoning", "label"})
SIGNATURE = dspy.Signature("text -> reasoning: str, label: str")


def cut(answer: str, places: Sequence[int]) -> list[str]:
    """Cut an answer at these places, counted from its beginning."""
    edges = [0, *sorted(place % (len(answer) + 1) for place in places), len(answer)]
    return [answer[a:b] for a, b in itertools.pairwise(edges)]


def heard(kind: str, pieces: Sequence[str], fields: frozenset[str] = FIELDS) -> dict[str, str]:
    reader = fieldtext.of_adapter(kind, fields)
    told: dict[str, str] = defaultdict(str)
    for piece in pieces:
        for field, text in reader.feed(piece):
            told[field] += text
    for field, text in reader.end():
        told[field] += text
    return dict(told)


TEXTS = st.text(
    st.one_of(
        st.sampled_from(list('[]# \n"\\{}:,ab/u')),
        st.characters(codec="utf-8", exclude_categories=["Zl", "Zp", "Cc"]),
    ),
    max_size=40,
)
PLACES = st.lists(st.integers(0, 10_000), max_size=30)


@given(reasoning=TEXTS, label=TEXTS, places=PLACES)
def test_a_chat_answer_gives_the_same_texts_however_it_is_cut(
    reasoning: str, label: str, places: list[int]
) -> None:
    answer = (
        f"Let me see.\n[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## label ## ]]\n{label}\n\n"
        "[[ ## completed ## ]]\n"
    )
    read = adapter.make("Chat").parse(SIGNATURE, answer)
    told = heard("Chat", cut(answer, places))

    assert {name: told.get(name, "") for name in FIELDS} == read


@given(reasoning=TEXTS, label=TEXTS, places=PLACES, ascii_only=st.booleans())
def test_a_json_answer_gives_the_same_texts_however_it_is_cut(
    reasoning: str, label: str, places: list[int], *, ascii_only: bool
) -> None:
    value = {"reasoning": reasoning, "other": [1, {"label": "no"}], "label": label}
    answer = f"```json\n{json.dumps(value, ensure_ascii=ascii_only, indent=1)}\n```"
    told = heard("JSON", cut(answer, places))

    assert {name: told.get(name, "") for name in FIELDS} == {
        "reasoning": reasoning,
        "label": label,
    }


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    ).filter(lambda v: not isinstance(v, str)),
    places=PLACES,
)
def test_other_json_values_come_as_json(value: object, places: list[int]) -> None:
    answer = json.dumps({"reasoning": value, "label": "x"})
    told = heard("JSON", cut(answer, places))

    assert json.loads(told["reasoning"]) == value
    assert told["label"] == "x"


def test_text_comes_as_soon_as_it_cannot_be_a_header() -> None:
    reader = fieldtext.ChatText(FIELDS)
    pieces = [
        "[[ ## rea",
        "soning ## ]]\n",
        "Because",
        " of [[ thi",
        "s\n[[ ## la",
        "bel ## ]]",
        "\na",
    ]

    assert [list(reader.feed(piece)) for piece in pieces] == [
        [],
        [],
        [("reasoning", "Because")],
        [("reasoning", " of [[ thi")],
        [("reasoning", "s")],
        [],
        [("label", "a")],
    ]


def test_half_a_header_at_the_end_is_text() -> None:
    assert heard("Chat", ["[[ ## label ## ]]\na\n[[ ## com"]) == {"label": "a\n[[ ## com"}


def test_the_second_of_two_equal_fields_is_not_told() -> None:
    answer = "[[ ## label ## ]]\na\n[[ ## label ## ]]\nb\n"
    assert heard("Chat", [answer]) == {"label": "a"}


@pytest.mark.parametrize("kind", ["Chat", "JSON"])
def test_fields_that_nobody_wants_are_not_told(kind: str) -> None:
    answers = {
        "Chat": "[[ ## secret ## ]]\na\n[[ ## label ## ]]\nb",
        "JSON": '{"secret":"a","label":"b"}',
    }
    assert heard(kind, [answers[kind]]) == {"label": "b"}


@pytest.mark.parametrize("kind", ["Chat", "JSON"])
@given(text=st.text(max_size=80), places=PLACES)
def test_garbage_is_no_error(kind: str, text: str, places: list[int]) -> None:
    heard(kind, cut(text, places))
