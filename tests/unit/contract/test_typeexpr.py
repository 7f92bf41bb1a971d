"""The type expressions of a declared signature."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.contract.typeexpr import Choice, ListOf, Named, Scalar, TypeExpr, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("str", Scalar(name="str")),
        (" float ", Scalar(name="float")),
        ("list[int]", ListOf(item=Scalar(name="int"))),
        ("list[list[bool]]", ListOf(item=ListOf(item=Scalar(name="bool")))),
        ("Literal['a', 'b']", Choice(values=("a", "b"))),
        ('list[Literal["x", 1, True]]', ListOf(item=Choice(values=("x", 1, True)))),
        ("Address", Named(name="Address")),
    ],
)
def test_a_type_expression_is_read(text: str, expected: TypeExpr) -> None:
    assert parse(text, {"Address"}) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Adress", "type 'Adress' is unknown"),
        ("list", "list needs its content in brackets"),
        ("dict[str, int]", "'dict[str, int]' is not a type"),
        ("list[", "'list[' is not a type; write e.g. str or list[int]"),
        ("Literal[1.5]", "Literal takes only strings, integers, True and False"),
        ("Literal['a', 'a']", "Literal names a value twice"),
        ("__import__('os')", "is not a type"),
        ("list[" * 9 + "str" + "]" * 9, "lists may be nested at most 8 deep"),
        ("list[" * 400 + "str" + "]" * 400, "is not a type"),
        ("st\x00r", "is not a type"),
    ],
)
def test_a_wrong_type_expression_says_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_a_type_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse(text)
