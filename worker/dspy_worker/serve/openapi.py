"""The OpenAPI 3.1 document of one program, made from its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from dspy_worker.core import deadline, problem

if TYPE_CHECKING:
    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.program import Program

VERSION = "3.1.1"
_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    "400": "The body is not readable JSON, or a header is wrong.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The inputs do not fit the program; `errors` says where.",
    "429": "Too many requests at once; see Retry-After.",
    "500": "The program failed.",
    "502": "The language model failed, or its answer was not usable.",
    "503": "The worker cannot answer now.",
    "504": "The answer took too long.",
}
_EXAMPLES: dict[str, Any] = {"string": "text", "integer": 1, "number": 0.5, "boolean": True}


def document(app: AppDocument, program: Program, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of an app's public port."""
    components = _components(program)
    example = _example({"$ref": _REF.format(model="Inputs")}, components)
    return {
        "openapi": VERSION,
        "info": {
            "title": app.name,
            "version": version,
            "description": program.instructions or f"A DSPy program of type {program.kind}.",
        },
        "paths": {
            "/v1/predict": {"post": _predict(example)},
            "/v1/batch": {"post": _batch(example, app.serving.max_batch_size)},
            "/v1/info": {"get": _info()},
        },
        "components": {"schemas": components},
    }


def _predict(example: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "operationId": "predict",
        "summary": "Ask the program once.",
        "parameters": [_timeout_parameter()],
        "requestBody": _body("PredictRequest", {"inputs": example}),
        "responses": {"200": _answer("The answer.", "PredictResponse"), **_problems()},
    }


def _batch(example: Any, most: int) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "operationId": "batch",
        "summary": f"Ask the program up to {most} times; answers come in order.",
        "parameters": [_timeout_parameter()],
        "requestBody": _body("BatchRequest", {"inputs": [example]}),
        "responses": {
            "200": _answer("An answer or a problem for each input.", "BatchResponse"),
            **_problems(),
        },
    }


def _info() -> dict[str, Any]:
    return {
        "operationId": "info",
        "summary": "Tell what is served here.",
        "responses": {
            "200": {
                "description": "Name, fields and limits.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    }


def _body(model: str, example: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    content = {"schema": {"$ref": _REF.format(model=model)}, "example": example}
    return {"required": True, "content": {"application/json": content}}


def _answer(description: str, model: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"X-Request-Id": _header("Name of the request, as in the logs.")},
        "content": {"application/json": {"schema": {"$ref": _REF.format(model=model)}}},
    }


def _problems() -> dict[str, Any]:
    content = {problem.MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    found: dict[str, Any] = {
        status: {"description": text, "content": content} for status, text in _PROBLEMS.items()
    }
    found["429"]["headers"] = {"Retry-After": _header("Seconds to wait.")}
    return found


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _timeout_parameter() -> dict[str, Any]:
    return {
        "name": deadline.HEADER,
        "in": "header",
        "required": False,
        "description": "Wait at most so many seconds; it can only shorten the app's limit.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }


def _components(program: Program) -> dict[str, Any]:
    models = program.schema
    _, definitions = models_json_schema(
        [
            (models.predict, "validation"),
            (models.batch, "validation"),
            (models.outputs, "serialization"),
        ],
        ref_template=_REF,
    )
    found: dict[str, Any] = definitions["$defs"]
    return {**found, **_fixed()}


def _fixed() -> dict[str, Any]:
    counts = {"type": "integer", "minimum": 0}
    usage = dict.fromkeys(("inputTokens", "outputTokens", "calls"), counts)
    prediction = {"$ref": _REF.format(model="Prediction")}
    name = {"type": "string", "format": "uuid"}
    trouble = {"$ref": _REF.format(model="Problem")}
    return {
        "Usage": {"type": "object", "properties": usage, "required": list(usage)},
        "PredictResponse": _object(
            prediction=prediction,
            id=name,
            usage={"$ref": _REF.format(model="Usage")},
            durationMs={"type": "number"},
        ),
        "BatchResponse": _object(
            results={
                "type": "array",
                "items": {
                    "oneOf": [_object(id=name, prediction=prediction), _object(problem=trouble)]
                },
            },
            usage={"$ref": _REF.format(model="Usage")},
            durationMs={"type": "number"},
        ),
        "Problem": _problem(),
    }


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    complaint = _object(
        path={"type": "string", "description": "JSON pointer into the body."},
        message=text,
        code=text,
    )
    found = _object(type=text, title=text, status={"type": "integer"}, detail=text)
    found["properties"]["requestId"] = text
    found["properties"]["errors"] = {"type": "array", "items": complaint}
    found["description"] = "A problem as RFC 9457 defines it."
    return found


def _object(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON schemas
    return {"type": "object", "properties": properties, "required": list(properties)}


def _example(schema: dict[str, Any], known: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return a value that fits a schema as pydantic writes it."""
    if "$ref" in schema:
        return _example(known[schema["$ref"].rsplit("/", 1)[-1]], known)
    if fixed := schema.get("enum") or [schema[key] for key in ("const",) if key in schema]:
        return fixed[0]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _example(options[0], known)
    if schema.get("type") == "array":
        return [_example(schema.get("items", {}), known)]
    if schema.get("type") == "object":
        wanted = schema.get("properties", {})
        return {name: _example(field, known) for name, field in wanted.items()}
    return _EXAMPLES.get(str(schema.get("type")))
