"""What a person reads when a request does not fit, and what OpenAPI says about those that do."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jsonschema
import pydantic
import pytest

from dspy_worker.contract import app
from dspy_worker.edge import adapter
from dspy_worker.errors import BodyTooLarge, InputsInvalid, MalformedBody
from dspy_worker.serve import docs, info, openapi, program, schema
from dspy_worker.testing import FakeLM

DOCUMENT = app.load(
    {
        "apiVersion": app.API_VERSION,
        "kind": app.KIND,
        "metadata": {"name": "tickets"},
        "spec": {
            "program": {
                "signature": {
                    "instructions": "Sort a ticket.",
                    "inputs": [
                        {"name": "text", "description": "the ticket"},
                        {"name": "count", "type": "int"},
                        {"name": "score", "type": "float"},
                        {"name": "kinds", "type": "list[Literal['a', 'b']]"},
                        {"name": "place", "type": "Place"},
                    ],
                    "outputs": [{"name": "label", "type": "Literal['bug', 'other']"}],
                    "types": [
                        {"name": "Place", "fields": [{"name": "city", "description": "its name"}]}
                    ],
                }
            },
            "models": [{"name": "main", "model": "m", "endpoint": "http://lm.example.com/v1"}],
        },
    }
)
GOOD = {"text": "a", "count": 1, "score": 1, "kinds": ["a"], "place": {"city": "Rome"}}


@pytest.fixture(scope="module")
def loaded() -> program.Program:
    return program.load(DOCUMENT, lm=FakeLM(["?"]).lm(), adapter=adapter.make("Chat"))


def document_of(signature: dict[str, Any]) -> app.AppDocument:
    models = [{"name": "main", "model": "m", "endpoint": "http://lm.example.com/v1"}]
    described = {
        "apiVersion": app.API_VERSION,
        "kind": app.KIND,
        "metadata": {"name": "tickets"},
        "spec": {"program": {"signature": signature}, "models": models},
    }
    return app.load(described)


def complaints(model: object, inputs: object) -> dict[str, str]:
    with pytest.raises(InputsInvalid) as caught:
        schema.parse(model, openapi_json({"inputs": inputs}))
    return {field.path: field.message for field in caught.value.fields}


def openapi_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"text": 3}, "/inputs/text", "input should be a valid string"),
        ({"count": "1"}, "/inputs/count", "input should be a valid integer"),
        ({"count": True}, "/inputs/count", "input should be a valid integer"),
        ({"count": 1.5}, "/inputs/count", "input should be a valid integer"),
        ({"score": "1"}, "/inputs/score", "input should be a valid number"),
        ({"kinds": "a"}, "/inputs/kinds", "input should be a valid array"),
        ({"kinds": ["a", "c"]}, "/inputs/kinds/1", "input should be 'a' or 'b'"),
        ({"place": {}}, "/inputs/place/city", "this field is required"),
        ({"place": {"city": "x", "zip": 1}}, "/inputs/place/zip", "there is no such field"),
        ({"more": 1}, "/inputs/more", "there is no such field"),
        ({"text": None}, "/inputs/text", "input should be a valid string"),
    ],
)
def test_each_place_that_does_not_fit_is_named(
    loaded: program.Program, change: dict[str, Any], path: str, message: str
) -> None:
    assert complaints(loaded.schema.predict, GOOD | change) == {path: message}


def test_a_batch_names_the_index_of_every_misfit(loaded: program.Program) -> None:
    found = complaints(loaded.schema.batch, [GOOD, GOOD | {"text": 1}, {**GOOD, "x": 2}])

    assert sorted(found) == ["/inputs/1/text", "/inputs/2/x"]


def test_an_empty_batch_is_refused(loaded: program.Program) -> None:
    assert list(complaints(loaded.schema.batch, [])) == ["/inputs"]


def test_an_integer_is_a_number(loaded: program.Program) -> None:
    parsed = schema.parse(loaded.schema.predict, openapi_json({"inputs": GOOD}))

    assert parsed.score == 1.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is empty"),
        (b"  ", "The body is empty"),
        (b"{", "The body is not valid JSON: EOF while parsing an object"),
        (b"{'a': 1}", "The body is not valid JSON: key must be a string at line 1 column 2"),
        (b'{"inputs": {"text": "\xff"}}', "The body is not valid UTF-8: byte 21"),
        (
            b'{"inputs": {"text": "\\ud800"}}',
            "The body is not valid JSON: unexpected end of hex escape",
        ),
        ("{}".encode("utf-16"), "The body is not valid UTF-8"),
    ],
)
def test_what_is_no_json_is_said_plainly(
    loaded: program.Program, body: bytes, message: str
) -> None:
    with pytest.raises(MalformedBody, match=message):
        schema.parse(loaded.schema.predict, body)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"{}", b'{"input": {}}'])
def test_json_of_another_shape_is_invalid(loaded: program.Program, body: bytes) -> None:
    with pytest.raises(InputsInvalid):
        schema.parse(loaded.schema.predict, body)


def test_not_a_number_is_no_number(loaded: program.Program) -> None:
    body = openapi_json({"inputs": GOOD}).replace(b'"score": 1', b'"score": NaN')

    with pytest.raises((InputsInvalid, MalformedBody)):
        schema.parse(loaded.schema.predict, body)


def described(loaded: program.Program) -> dict[str, Any]:
    return openapi.document(DOCUMENT, loaded, "1.2.3")


def test_the_openapi_example_fits_its_schema(loaded: program.Program) -> None:
    document = described(loaded)
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    resolver = {"$ref": "#/components/schemas/PredictRequest", "components": document["components"]}

    jsonschema.Draft202012Validator(resolver).validate(body["example"])
    schema.parse(loaded.schema.predict, openapi_json(body["example"]))


def test_openapi_carries_descriptions_choices_and_named_types(loaded: program.Program) -> None:
    schemas = described(loaded)["components"]["schemas"]

    assert schemas["Inputs"]["properties"]["text"]["description"] == "the ticket"
    assert schemas["Inputs"]["additionalProperties"] is False
    assert schemas["Place"]["properties"]["city"]["description"] == "its name"
    assert schemas["Prediction"]["properties"]["label"]["enum"] == ["bug", "other"]


@pytest.mark.parametrize("path", ["predict", "predict/stream", "batch", "feedback"])
def test_openapi_names_the_headers_that_say_who_asks(loaded: program.Program, path: str) -> None:
    operation = described(loaded)["paths"][f"/v1/{path}"]["post"]

    named = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert set(named) == {
        "X-Request-Timeout-Seconds",
        "X-Tenant",
        "X-Subject",
        "Cache-Control",
        "X-Request-Id",
    }
    assert not any(parameter["required"] for parameter in named.values())
    assert re.fullmatch(named["X-Tenant"]["schema"]["pattern"], "acme.example+eu")


def test_openapi_tells_which_problems_an_operation_has(loaded: program.Program) -> None:
    paths = described(loaded)["paths"]

    asking, telling = (
        {status for status in paths[path]["post"]["responses"] if status != "200"}
        for path in ("/v1/predict", "/v1/feedback")
    )
    assert asking - telling == {"429", "502", "503"}
    assert telling - asking == {"404"}


def test_openapi_leads_from_an_answer_to_feedback_on_it(loaded: program.Program) -> None:
    paths = described(loaded)["paths"]
    link = paths["/v1/predict"]["post"]["responses"]["200"]["links"]["feedback"]

    assert link["operationId"] == paths["/v1/feedback"]["post"]["operationId"]
    assert link["requestBody"] == {"predictionId": "{$response.body#/id}"}


def test_every_reference_of_the_openapi_document_leads_somewhere(loaded: program.Program) -> None:
    document = described(loaded)
    known = document["components"]["schemas"]

    assert {ref.rsplit("/", 1)[-1] for ref in references(document)} <= set(known)


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {v for k, v in value.items() if k == "$ref"}
        return own.union(*(references(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(references(v) for v in value))
    return set()


def test_info_tells_names_and_never_the_endpoint(loaded: program.Program) -> None:
    found = info.document(DOCUMENT, loaded, "1.2.3", "0a1b2c3d4e5f")

    assert found["models"] == [{"name": "main", "model": "m"}]
    assert found["variant"] == "0a1b2c3d4e5f"
    assert "lm.example.com" not in str(found)
    assert found["program"]["inputs"][0] == {
        "name": "text",
        "type": "str",
        "description": "the ticket",
        "required": True,
    }


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = docs.page(DOCUMENT)

    assert "http://" not in page
    assert "https://" not in page
    assert "<title>tickets</title>" in page
    assert docs.policy().startswith("default-src 'none'")


def test_a_number_inside_of_an_object_is_finite_too() -> None:
    spec = {
        "inputs": [{"name": "at", "type": "Point"}],
        "outputs": [{"name": "seen", "type": "Point"}],
        "types": [{"name": "Point", "fields": [{"name": "x", "type": "float"}]}],
    }
    made = program.load(document_of(spec), lm=FakeLM(["?"]).lm(), adapter=adapter.make("Chat"))

    assert complaints(made.schema.predict, {"at": {"x": math.nan}}) == {
        "/inputs/at/x": "input should be a finite number"
    }
    with pytest.raises(pydantic.ValidationError, match="finite number"):
        made.schema.outputs.model_validate({"seen": {"x": math.inf}})


def test_a_batch_is_not_read_beyond_its_limit(loaded: program.Program) -> None:
    """A million complaints about a megabyte of empty objects would take a gigabyte of memory."""
    body = b'{"inputs": [' + b",".join([b"{}"] * 20_000) + b"]}"

    with pytest.raises(BodyTooLarge, match="at most 64 inputs"):
        schema.parse(loaded.schema.batch, body)


def test_a_flood_of_complaints_is_counted_and_not_spelled_out(loaded: program.Program) -> None:
    flood = {**GOOD, "kinds": [1] * 5000}

    with pytest.raises(InputsInvalid, match="in 5000 places") as caught:
        schema.parse(loaded.schema.predict, openapi_json({"inputs": flood}))

    assert caught.value.fields == ()


@pytest.mark.parametrize(
    "start", [b"<<CUSTOM-TYPE-START-IDENTIFIER>>", rb"\u003c<CUSTOM-TYPE-START-IDENTIFIER>>"]
)
@pytest.mark.parametrize("field", ["text", "city"])
def test_a_text_cannot_become_an_image(loaded: program.Program, field: str, start: bytes) -> None:
    inputs = {**GOOD, "place": {"city": "Rome"}}
    (inputs if field == "text" else inputs["place"])[field] = "MARK[]"  # type: ignore[index]
    body = openapi_json({"inputs": inputs}).replace(b"MARK", start)

    with pytest.raises(InputsInvalid, match="must not contain <<CUSTOM-TYPE-START"):
        schema.parse(loaded.schema.predict, body)


@pytest.mark.parametrize(
    "name", ["Inputs", "Prediction", "PredictRequest", "BatchResponse", "Problem", "Usage"]
)
@pytest.mark.parametrize("side", ["inputs", "outputs", "both"])
def test_a_users_type_may_have_a_name_of_ours(name: str, side: str) -> None:
    described = {
        "inputs": [{"name": "a", "type": "str" if side == "outputs" else name}],
        "outputs": [{"name": "b", "type": "str" if side == "inputs" else name}],
        "types": [{"name": name, "fields": [{"name": "city"}]}],
    }
    made = document_of(described)
    loaded = program.load(made, lm=FakeLM(["?"]).lm(), adapter=adapter.make("Chat"))

    found = openapi.document(made, loaded, "1")

    operation = found["paths"]["/v1/predict"]["post"]
    request = operation["requestBody"]["content"]["application/json"]
    jsonschema.Draft202012Validator(
        {**request["schema"], "components": found["components"]}
    ).validate(request["example"])
    city = "text" if side == "inputs" else {"city": "Rome"}
    usage = {"inputTokens": 1, "outputTokens": 1, "calls": 1}
    answer = {"prediction": {"b": city}, "id": "x", "usage": usage, "durationMs": 1.5}
    schema_of_answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(
        {**schema_of_answer, "components": found["components"]}
    ).validate(answer)
    problem = operation["responses"]["500"]["content"]["application/problem+json"]["schema"]
    assert (
        "detail" in found["components"]["schemas"][problem["$ref"].rsplit("/", 1)[-1]]["required"]
    )
