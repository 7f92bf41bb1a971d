"""Lines of the journal: what goes in comes out, and what is damaged does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.core import notes
from dspy_worker.core.notes import Erasure
from tests.store_records import FEEDBACK, RECORD

ERASURE = Erasure(subject_sha256="ab", tenant=None, unix_ms=5)


@pytest.mark.parametrize("note", [RECORD, replace(RECORD, degraded=("a:b",)), FEEDBACK, ERASURE])
def test_a_note_is_one_line_and_comes_back(note: notes.Note) -> None:
    line = notes.write(note)

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert notes.read(line) == note


@given(st.data())
def test_a_line_with_any_byte_changed_or_cut_is_no_note(data: st.DataObject) -> None:
    line = notes.write(RECORD)
    place = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.integers(1, 255))

    assert notes.read(line[:place]) is None
    assert notes.read(line[:place] + bytes([line[place] ^ other]) + line[place + 1 :]) is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), values, max_size=3))
def test_any_value_of_a_program_can_be_noted(prediction: dict[str, Any]) -> None:
    found = notes.read(notes.write(replace(RECORD, prediction=prediction)))

    assert found is not None
    assert b"\\u0000" not in notes.dump(found)
    assert "\0" not in notes.words(replace(RECORD, prediction=prediction))


def test_what_json_does_not_know_is_replaced() -> None:
    strange = replace(
        RECORD,
        prediction={"a": "x\0y", "b": "\ud800", "c": float("nan"), "d": object, "e": 1 << 99},
    )

    found = notes.read(notes.write(strange))

    assert found == replace(
        RECORD,
        prediction={"a": "x\ufffdy", "b": "?", "c": None, "d": str(object), "e": float(1 << 99)},
    )


def test_a_field_that_a_newer_worker_has_written_is_left_out() -> None:
    line = notes.write(RECORD)
    body = line[11:-1].replace(b'"id":', b'"later":7,"id":')
    again = b"p %08x %b\n" % (notes._checksum(b"p", body), body)

    assert notes.read(again) == RECORD


def test_words_are_those_of_inputs_and_prediction_and_not_too_many() -> None:
    assert notes.words(RECORD) == "I was charged twice 3 True billing a"
    assert len(notes.words(replace(RECORD, inputs={"text": "ab " * 10**6}))) <= notes.MOST_WORDS
