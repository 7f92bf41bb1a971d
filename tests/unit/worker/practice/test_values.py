"""Schemas, shapes, similarity and the wire: the small parts under the practice LM."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspy_worker.practice import counters, guess, schema, shapes, similarity, wire
from dspy_worker.practice.guess import Place
from dspy_worker.practice.shapes import Shape

CIRCLE: schema.Schema = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["name", "next", "kids"],
        }
    },
}

SCALARS = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 3, "maxLength": 5},
        {"type": "string", "format": "date"},
        {"type": "integer", "minimum": 3, "exclusiveMaximum": 9},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["a", 2, None]},
        {"const": "x"},
    ]
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(lambda one: {"type": "array", "items": one, "minItems": 1}, inner)
        | st.builds(lambda one: {"anyOf": [one, {"type": "null"}]}, inner)
        | st.builds(
            lambda many: {"type": "object", "properties": many, "required": list(many)},
            st.dictionaries(st.sampled_from(["email", "name", "total"]), inner, max_size=3),
        )
    ),
    max_leaves=6,
)


@example(
    wanted={"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 1},
    name="email",
    text="0",
)
@given(wanted=SCHEMAS, name=st.sampled_from(["email", "amount", "tags", "x"]), text=st.text())
def test_a_guess_fits_its_schema(wanted: schema.Schema, name: str, text: str) -> None:
    value = guess.value(Place(name=name, schema=wanted, root=wanted), text)

    assert schema.fits(value, wanted, wanted)


def test_a_circle_of_types_ends() -> None:
    value = guess.value(Place(name="node", schema=CIRCLE, root=CIRCLE), "some text")

    assert schema.fits(value, CIRCLE, CIRCLE)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("email", "string", "jo@example.com"),
        ("customer_name", "string", "Jo Doe"),
        ("order_number", "string", "A-1204"),
        ("due_date", "string", "2026-05-01"),
        ("total_amount", "string", "$12.50"),
        ("count", "integer", 3),
        ("weight", "number", 3.0),
        ("urgent", "boolean", True),
    ],
)
def test_a_name_tells_what_to_look_for(name: str, kind: str, expected: object) -> None:
    text = "This is urgent: Jo Doe <jo@example.com> wants 3 of A-1204 for $12.50 by 2026-05-01."

    wanted: schema.Schema = {"type": kind}

    assert guess.value(Place(name=name, schema=wanted, root=wanted), text) == expected


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("jo.doe+x@mail.example.com", Shape.EMAIL),
        ("https://example.com/a?b=c", Shape.URL),
        ("3 May 2026", Shape.DATE),
        ("31/12/2026", Shape.DATE),
        ("1,240 euros", Shape.MONEY),
        ("$0.99", Shape.MONEY),
        ("INV-20418", Shape.CODE),
        ("#77", Shape.CODE),
        ("+49 170 1234", Shape.PHONE),
        ("-3.5", Shape.NUMBER),
        ("Vincent van Gogh", Shape.NAME),
        ("in the rain", Shape.PHRASE),
    ],
)
def test_a_shape_is_known_by_its_look(text: str, shape: Shape) -> None:
    assert shapes.shape_of(text) is shape


@given(text=st.text())
def test_shapes_never_overlap_and_stand_in_the_text(text: str) -> None:
    assert all(span.text in text for span in shapes.spans(text))


@given(left=st.text(), right=st.text())
def test_likeness_is_symmetric_and_at_most_one(left: str, right: str) -> None:
    found = similarity.cosine(left, right)

    assert found == pytest.approx(similarity.cosine(right, left))
    assert 0 <= found <= 1 + 1e-9


def test_noise_is_about_normal() -> None:
    draws = [similarity.noise("seed", number) for number in range(2000)]
    mean = sum(draws) / len(draws)

    assert abs(mean) < 0.1
    assert 0.8 < sum((draw - mean) ** 2 for draw in draws) / len(draws) < 1.2


def test_a_key_is_told_by_its_fingerprint() -> None:
    assert counters.fingerprint("Bearer secret") == "2bb80d537b1d"
    assert counters.fingerprint("") == counters.NO_KEY


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"messages": []}',
        b'{"messages": ["x"]}',
        b'{"messages": [{}], "n": "x"}',
    ],
)
def test_a_body_that_is_no_completion_is_refused(body: bytes) -> None:
    with pytest.raises(wire.RequestError):
        wire.read(body)


@given(text=st.text())
def test_the_pieces_of_a_stream_make_the_whole(text: str) -> None:
    assert "".join(wire.PIECE.findall(text)) == text
