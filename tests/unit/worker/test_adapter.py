"""The lean adapters write the same bytes as DSPy's own, and ask again at most once."""

from __future__ import annotations

from typing import Any, Literal

import dspy
import pydantic
import pytest
from dspy.utils.exceptions import AdapterParseError
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_worker.edge import adapter
from dspy_worker.testing import FakeLM, chat


class Place(pydantic.BaseModel):
    """Where it is."""

    city: str
    floor: int | None = None


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(),
    float: st.floats(),
    bool: st.booleans(),
    list[str]: st.lists(TEXTS, max_size=3),
    list[int]: st.lists(st.integers(), max_size=3),
    dict[str, int]: st.dictionaries(TEXTS, st.integers(), max_size=2),
    str | None: st.none() | TEXTS,
    Literal["a", "b"]: st.sampled_from(["a", "b"]),
    Place: st.builds(Place, city=TEXTS, floor=st.none() | st.integers()),
    list[Place]: st.lists(st.builds(Place, city=TEXTS), max_size=2),
}
DESCRIBED = st.fixed_dictionaries({}, optional={"desc": TEXTS})
ANYTHING = st.one_of(*VALUES.values())
NAMES = ["text", "count", "place", "label", "score", "items"]

STOCK = {"Chat": dspy.ChatAdapter, "JSON": dspy.JSONAdapter}


@st.composite
def questions(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
    """Draw a signature, demos (some incomplete) and inputs (some of another type)."""
    names = draw(st.permutations(NAMES))
    split = draw(st.integers(1, len(names) - 1))
    types = {name: draw(st.sampled_from(list(VALUES))) for name in names}
    fields = {
        name: (types[name], (dspy.InputField if i < split else dspy.OutputField)(**draw(DESCRIBED)))
        for i, name in enumerate(names)
    }
    signature = dspy.Signature(fields, draw(TEXTS) or None)
    demos = draw(
        st.lists(
            st.lists(st.sampled_from(names), unique=True).flatmap(
                lambda some: st.fixed_dictionaries({n: VALUES[types[n]] for n in some})
            ),
            max_size=3,
        )
    )
    inputs = {n: draw(VALUES[types[n]] | ANYTHING) for n in names[:split] if draw(st.booleans())}
    return signature, demos, inputs


def written(speaker: dspy.Adapter, *question: object) -> object:
    """Return the messages, or the error: DSPy cannot write a list of numbers as a text."""
    try:
        return speaker.format(*question)
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("name", ["Chat", "JSON"])
@given(question=questions())
@settings(max_examples=60, deadline=None)
def test_same_bytes_as_the_stock_adapter(
    name: str, question: tuple[Any, list[dict[str, Any]], dict[str, Any]]
) -> None:
    lean = adapter.make(name)

    expected = written(STOCK[name](), *question)

    assert written(lean, *question) == expected
    assert written(lean, *question) == expected, "the second time, from the cache"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        pytest.param(dspy.Image, dspy.Image("data:image/png;base64,iVBORw0KGgo="), id="image"),
        pytest.param(list[dspy.Image], [dspy.Image("https://example.com/a.png")], id="images"),
        pytest.param(list, [dspy.Image("https://example.com/a.png")], id="an undeclared image"),
        pytest.param(
            dspy.History, dspy.History(messages=[{"text": "a", "label": "b"}]), id="history"
        ),
    ],
)
def test_what_dspy_expands_itself_is_left_to_it(annotation: object, value: object) -> None:
    signature = dspy.Signature(
        {"extra": (annotation, dspy.InputField()), "label": (str, dspy.OutputField())}, "Look."
    )

    expected = dspy.ChatAdapter().format(signature, [], {"extra": value})

    assert adapter.make("Chat").format(signature, [], {"extra": value}) == expected


def test_an_image_in_a_demo_is_left_to_dspy() -> None:
    signature = dspy.Signature({"x": (list, dspy.InputField()), "y": (str, dspy.OutputField())})
    demos = [{"x": [dspy.Image("https://example.com/a.png")], "y": "cat"}]

    expected = dspy.ChatAdapter().format(signature, demos, {"x": []})

    assert adapter.make("Chat").format(signature, demos, {"x": []}) == expected


def test_prefixes_of_ever_new_demos_do_not_pile_up() -> None:
    lean = adapter.make("Chat")
    signature = dspy.Signature("q -> a")

    for i in range(adapter.MAX_PREFIXES + 50):
        lean.format(signature, [{"q": str(i), "a": "b"}], {"q": "x"})

    assert len(lean._prefixes) == adapter.MAX_PREFIXES


def test_the_classes_keep_the_names_that_streaming_looks_for() -> None:
    assert type(adapter.make("Chat")).__name__ == "ChatAdapter"
    assert type(adapter.make("JSON")).__name__ == "JSONAdapter"


async def test_an_unreadable_answer_is_asked_for_once_more_with_the_same_prompt() -> None:
    fake = FakeLM(["no idea", chat(a="yes")])
    reasks: list[int] = []
    lean = adapter.make("Chat", lambda: reasks.append(1))

    with dspy.context(lm=fake.lm(), adapter=lean):
        answer = await dspy.Predict("q -> a").acall(q="really?")

    assert (answer.a, len(reasks)) == ("yes", 1)
    assert fake.requests[0].messages == fake.requests[1].messages


@pytest.mark.parametrize("name", ["Chat", "JSON"])
async def test_a_second_unreadable_answer_is_final(name: str) -> None:
    fake = FakeLM(["no idea"])

    with dspy.context(lm=fake.lm(), adapter=adapter.make(name)), pytest.raises(AdapterParseError):
        await dspy.Predict("q -> a: int").acall(q="really?")

    assert len(fake.requests) == 2


def test_threads_get_the_same_bound() -> None:
    fake = FakeLM(["no idea"])

    with (
        dspy.context(lm=fake.lm(), adapter=adapter.make("Chat")),
        pytest.raises(AdapterParseError),
    ):
        dspy.Predict("q -> a")(q="really?")

    assert len(fake.requests) == 2
