"""Feedback on predictions: what is refused, what is counted, what is noted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from prometheus_client import CollectorRegistry

from dspy_worker.contract import app
from dspy_worker.core.answer import FeedbackRecord
from dspy_worker.core.limiter import Limits
from dspy_worker.edge import adapter, keys
from dspy_worker.edge.call import Origin
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.errors import BodyTooLarge, FeedbackInvalid, MalformedBody, PredictionUnknown
from dspy_worker.serve import feedback, openapi, program
from dspy_worker.serve.admission import Admission
from dspy_worker.serve.feedback import Desk, Tally
from dspy_worker.serve.predict import Label, Service
from dspy_worker.serve.seal import Seal
from dspy_worker.testing import FakeLM

if TYPE_CHECKING:
    from dspy_worker.core.answer import Record

VARIANT = "3f9a01c2d4e5"
LABEL = Label(app="demo/tickets", variant=VARIANT)
DOCUMENT = app.load(
    {
        "apiVersion": app.API_VERSION,
        "kind": app.KIND,
        "metadata": {"name": "tickets", "namespace": "demo"},
        "spec": {
            "program": {
                "signature": {
                    "inputs": [{"name": "text"}],
                    "outputs": [
                        {"name": "label", "type": "Literal['bug', 'other']"},
                        {"name": "rooms", "type": "list[int]"},
                        {"name": "place", "type": "Place"},
                    ],
                    "types": [{"name": "Place", "fields": [{"name": "city"}]}],
                },
                "module": {"type": "ChainOfThought"},
            },
            "models": [{"name": "main", "model": "m", "endpoint": "http://lm.example.com/v1"}],
        },
    }
)


class Pages:
    """A notebook that can be read."""

    takes = True

    def __init__(self) -> None:
        self.feedback: list[FeedbackRecord] = []

    def note(self, record: Record) -> None:
        raise NotImplementedError

    def note_feedback(self, record: FeedbackRecord) -> None:
        self.feedback.append(record)


@pytest.fixture(scope="module")
def loaded() -> program.Program:
    return program.load(DOCUMENT, lm=FakeLM(["?"]).lm(), adapter=adapter.make("Chat"))


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def desk(loaded: program.Program, pages: Pages) -> Desk:
    metrics = Metrics("tickets")
    service = Service(
        program=loaded,
        admission=Admission(Limits(concurrency=1, queue_size=1)),
        metrics=metrics,
        label=LABEL,
        notebook=pages,
    )
    seal = Seal(LABEL, keys.find_token(None), None)
    return Desk(service=service, seal=seal, tally=Tally("tickets", metrics.registry))


def give(desk: Desk, *, origin: Origin = Origin(), **said: object) -> dict[str, Any]:  # noqa: B008 - frozen
    body = {"predictionId": desk.seal.name(), **said}
    return desk.take(json.dumps(body).encode(), origin)


def counted(desk: Desk, kind: str, variant: str = VARIANT) -> float | None:
    labels = {"app": "tickets", "variant": variant, "kind": kind}
    return desk.service.metrics.registry.get_sample_value("dspy_feedback_total", labels)


def scores(desk: Desk) -> tuple[float | None, float | None]:
    """Return number and sum of the scores."""
    read = desk.service.metrics.registry.get_sample_value
    labels = {"app": "tickets", "variant": VARIANT}
    return read("dspy_feedback_score_count", labels), read("dspy_feedback_score_sum", labels)


def test_feedback_is_noted_with_all_it_says(desk: Desk, pages: Pages) -> None:
    said = {
        "predictionId": desk.seal.name(),
        "score": 0.25,
        "label": "wrong",
        "comment": "It was no bug.",
        "correction": {"label": "other"},
        "source": "reviewer",
    }
    origin = Origin(tenant="acme", subject="customer-7")

    told = desk.take(json.dumps(said).encode(), origin)

    (record,) = pages.feedback
    assert record.unix_ms > 0
    assert replace(record, unix_ms=0) == FeedbackRecord(
        id=told["id"],
        prediction_id=said["predictionId"],
        unix_ms=0,
        app="demo/tickets",
        variant=VARIANT,
        tenant="acme",
        subject="customer-7",
        score=0.25,
        label="wrong",
        correction={"label": "other"},
        comment="It was no bug.",
        source="reviewer",
    )
    assert told == {
        "id": record.id,
        "predictionId": said["predictionId"],
        "variant": VARIANT,
        "stored": True,
    }


@pytest.mark.parametrize(
    ("said", "path", "code"),
    [
        pytest.param({}, "", "missing", id="nothing"),
        pytest.param({"source": "user"}, "", "missing", id="nothing but a source"),
        pytest.param({"score": None, "label": None}, "", "missing", id="nothing in two fields"),
        pytest.param({"correction": {}}, "", "missing", id="a correction of nothing"),
        pytest.param({"score": 1.01}, "/score", "less_than_equal", id="more than perfect"),
        pytest.param({"score": -1}, "/score", "greater_than_equal", id="less than nothing"),
        pytest.param({"score": float("nan")}, "/score", "finite_number", id="not a number"),
        pytest.param({"score": True}, "/score", "float_type", id="a truth is no number"),
        pytest.param({"score": "1"}, "/score", "float_type", id="a text is no number"),
        pytest.param({"label": ""}, "/label", "string_too_short", id="an empty label"),
        pytest.param({"label": "x" * 201}, "/label", "string_too_long", id="a long label"),
        pytest.param({"comment": "x" * 4001}, "/comment", "string_too_long", id="a long comment"),
        pytest.param({"score": 1, "source": ""}, "/source", "string_too_short", id="no source"),
        pytest.param(
            {"score": 1, "source": "a b"}, "/source", "string_pattern_mismatch", id="odd source"
        ),
        pytest.param(
            {"score": 1, "source": "user\n"}, "/source", "string_pattern_mismatch", id="line break"
        ),
        pytest.param({"score": 1, "id": "ä"}, "/id", "string_pattern_mismatch", id="odd id"),
        pytest.param({"score": 1, "more": 1}, "/more", "extra_forbidden", id="an unknown field"),
        pytest.param(
            {"correction": {"reasoning": "x"}},
            "/correction/reasoning",
            "extra_forbidden",
            id="a field that answers do not show",
        ),
        pytest.param(
            {"correction": {"label": "cat"}}, "/correction/label", "literal_error", id="no choice"
        ),
        pytest.param(
            {"correction": {"rooms": ["1"]}}, "/correction/rooms/0", "int_type", id="wrong type"
        ),
        pytest.param(
            {"correction": {"label": None}}, "/correction/label", "literal_error", id="no null"
        ),
        pytest.param(
            {"correction": {"place": {"city": "Rome", "zip": 1}}},
            "/correction/place/zip",
            "extra_forbidden",
            id="an unknown field of a type",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    desk: Desk, pages: Pages, said: dict[str, Any], path: str, code: str
) -> None:
    with pytest.raises(FeedbackInvalid) as caught:
        give(desk, **said)

    assert [(field.path, field.code) for field in caught.value.fields] == [(path, code)]
    assert pages.feedback == []


def test_a_correction_names_some_fields_and_no_other(desk: Desk, pages: Pages) -> None:
    give(desk, correction={"rooms": [1, 2], "place": {"city": "Rome"}})

    assert pages.feedback[0].correction == {"rooms": [1, 2], "place": {"city": "Rome"}}


def test_a_field_may_be_null_instead_of_absent(desk: Desk, pages: Pages) -> None:
    give(desk, score=0, label=None, comment=None, correction=None, id=None)

    record = pages.feedback[0]
    assert (record.score, record.label, record.comment, record.correction) == (0, None, None, None)


@pytest.mark.parametrize("body", [b"", b"{", b'{"score": "\xff"}'])
def test_what_is_no_json_is_named(desk: Desk, body: bytes) -> None:
    with pytest.raises(MalformedBody):
        desk.take(body, Origin())


def test_text_that_dspy_would_take_for_a_part_of_the_prompt_is_refused(desk: Desk) -> None:
    """Corrections become examples in prompts."""
    with pytest.raises(FeedbackInvalid, match="must not contain"):
        give(desk, comment="<<CUSTOM-TYPE-START-IDENTIFIER>>[]<<CUSTOM-TYPE-END-IDENTIFIER>>")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x", id="no name at all"),
        pytest.param("0198c0de-7d1c-7c3a-9f52-0f6a2b1c3d4e", id="a name without a variant"),
        pytest.param(Seal(LABEL, keys.find_token(None), None).name(), id="of another secret"),
    ],
)
def test_a_prediction_of_somebody_else_is_unknown(desk: Desk, pages: Pages, name: str) -> None:
    with pytest.raises(PredictionUnknown):
        give(desk, predictionId=name, score=1)

    assert pages.feedback == []
    assert counted(desk, "score") is None


def test_the_variant_is_that_of_the_prediction(desk: Desk, pages: Pages) -> None:
    desk.seal._label = Label(app=LABEL.app, variant="0" * 12)

    give(desk, score=1)

    assert pages.feedback[0].variant == "0" * 12
    assert counted(desk, "score", "0" * 12) == 1


def test_each_kind_is_counted(desk: Desk) -> None:
    give(desk, score=0.5, comment="so so")
    give(desk, score=1, correction={"label": "bug"})

    kinds = ("score", "label", "correction", "comment")
    assert [counted(desk, kind) for kind in kinds] == [2, None, 1, 1]
    assert scores(desk) == (2, 1.5)


def test_what_is_sent_again_is_noted_again_and_counted_once(desk: Desk, pages: Pages) -> None:
    name = desk.seal.name()
    first = give(desk, predictionId=name, score=1)
    again = give(desk, predictionId=name, score=1)
    changed = give(desk, predictionId=name, score=0, comment="I looked again.")

    assert first["id"] == again["id"] == changed["id"]
    assert len(pages.feedback) == 3
    assert (counted(desk, "score"), counted(desk, "comment")) == (1, 1)
    assert scores(desk) == (1, 1)


def test_feedback_is_replaced_by_its_own_source_only(desk: Desk) -> None:
    name, other = desk.seal.name(), desk.seal.name()
    said = [
        {"predictionId": name},
        {"predictionId": name, "source": "reviewer"},
        {"predictionId": name, "id": "1"},
        {"predictionId": name, "id": "2"},
        {"predictionId": name, "id": "1", "source": "reviewer"},
        {"predictionId": other, "id": "1"},
        {"predictionId": other},
    ]

    ids = [give(desk, score=1, **one)["id"] for one in said]

    assert len(set(ids)) == len(said)
    assert ids == [give(desk, score=0, **one)["id"] for one in said]


def test_the_memory_of_what_was_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "REMEMBERED", 2)
    tally = Tally("tickets", CollectorRegistry())

    for number in range(5):
        tally.count(record(str(number)))

    assert len(tally._counted) == 2


def record(name: str) -> FeedbackRecord:
    return FeedbackRecord(
        id=name,
        prediction_id="p",
        unix_ms=1,
        app=LABEL.app,
        variant=VARIANT,
        tenant="",
        subject="",
        score=1.0,
    )


def test_a_large_number_of_complaints_is_only_counted(desk: Desk) -> None:
    with pytest.raises(FeedbackInvalid, match="in 2000 places"):
        give(desk, correction={"rooms": ["x"] * 2000})


def test_the_openapi_schema_says_the_same(desk: Desk, loaded: program.Program) -> None:
    document = openapi.document(DOCUMENT, loaded, "1")
    body = document["paths"]["/v1/feedback"]["post"]["requestBody"]["content"]["application/json"]
    known = {**body["schema"], "components": document["components"]}
    fits = jsonschema.Draft202012Validator(known).is_valid

    assert fits(body["example"])
    assert fits({"predictionId": "x", "score": None, "correction": {"label": "bug"}})
    for wrong in ({}, {"score": None}, {"score": 2}, {"correction": {}}, {"score": 1, "more": 1}):
        assert not fits({"predictionId": "x", **wrong})
        with pytest.raises((FeedbackInvalid, BodyTooLarge)):
            give(desk, **wrong)
