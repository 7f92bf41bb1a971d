"""Names of predictions: read by whoever has the key, made by nobody else."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dspy_worker.core import ids, predictionid
from dspy_worker.core.predictionid import PredictionId

KEY = predictionid.key("secret", "demo/tickets")
MADE = PredictionId(uuid="0198c0de-7d1c-7c3a-9f52-0f6a2b1c3d4e", variant="3f9a01c2d4e5", epoch=120)
NAME = predictionid.write(MADE, KEY)

moments = st.integers(0, 2**48 - 1)
randoms = st.integers(0, 2**ids.RANDOM_BITS - 1)
variants = st.text("0123456789abcdef", min_size=12, max_size=12)
names = st.builds(
    lambda moment, random, variant, epoch: PredictionId(
        uuid=ids.uuid7(moment, random), variant=variant, epoch=epoch
    ),
    moments,
    randoms,
    variants,
    st.integers(0, 999_999_999),
)
characters = st.characters() | st.sampled_from("0123456789abcdefABCDEF.-\n")


@given(names)
def test_what_was_written_can_be_read(made: PredictionId) -> None:
    name = predictionid.write(made, KEY)

    assert predictionid.read(name, [KEY]) == made
    assert len(name) <= predictionid.LONGEST
    assert str(uuid.UUID(name.partition(".")[0])) == made.uuid


@given(st.integers(0, len(NAME) - 1), characters)
def test_another_character_anywhere_is_noticed(place: int, character: str) -> None:
    assume(NAME[place] != character)

    assert predictionid.read(NAME[:place] + character + NAME[place + 1 :], [KEY]) is None


@given(st.integers(0, len(NAME)), st.text(characters, min_size=1, max_size=3))
def test_an_addition_anywhere_is_noticed(place: int, more: str) -> None:
    assert predictionid.read(NAME[:place] + more + NAME[place:], [KEY]) is None


@given(st.integers(0, len(NAME) - 1), st.integers(1, len(NAME)))
def test_an_omission_anywhere_is_noticed(begin: int, length: int) -> None:
    assert predictionid.read(NAME[:begin] + NAME[begin + length :], [KEY]) is None


@given(names, names)
def test_parts_of_two_names_make_no_third(one: PredictionId, other: PredictionId) -> None:
    first, second = (predictionid.write(made, KEY).split(".") for made in (one, other))
    assume(first != second)

    for place in range(4):
        mixed = [*first[:place], second[place], *first[place + 1 :]]
        if mixed not in (first, second):
            assert predictionid.read(".".join(mixed), [KEY]) is None


@given(st.text(max_size=100))
def test_any_other_text_is_no_name(text: str) -> None:
    assert predictionid.read(text, [KEY]) is None


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(predictionid.key("other", "demo/tickets"), id="another secret"),
        pytest.param(predictionid.key("secret", "demo/mail"), id="another app with this secret"),
        pytest.param(b"secret", id="the secret itself"),
        pytest.param(b"", id="no key"),
    ],
)
def test_a_name_made_with_another_key_is_foreign(foreign: bytes) -> None:
    name = predictionid.write(MADE, foreign)

    assert predictionid.read(name, [KEY]) is None
    assert predictionid.read(name, [KEY, foreign]) == MADE


def test_without_keys_every_name_is_foreign() -> None:
    assert predictionid.read(NAME, []) is None


def test_names_sort_by_time() -> None:
    written = [
        predictionid.write(PredictionId(uuid=ids.uuid7(moment, 5), variant="0" * 12), KEY)
        for moment in (1, 2, 1_763_000_000_000)
    ]

    assert sorted(written) == written
