"""The OpenAPI 3.1 document of one program, made from its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.json_schema import models_json_schema

from dspy_worker.core import deadline, problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.program import Program

Refs: TypeAlias = "Mapping[str, dict[str, Any]]"

VERSION = "3.1.1"
_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    "400": "The body is not readable JSON, or a header is wrong.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The inputs do not fit the program; `errors` says where.",
    "429": "Too many requests at once, or a budget is spent; see Retry-After.",
    "500": "The program failed.",
    "502": "The language model failed, or its answer was not usable.",
    "503": "The worker cannot answer now.",
    "504": "The answer took too long.",
}
_STREAM = (
    "Events: `status` (the request has a slot), `token` (a piece of an output field), and at the "
    "end one `result` (a PredictResponse) or one `error` (a Problem). The text of a field is that "
    "of the highest `call`: an unusable answer of the language model is asked for again."
)
_EVENTS = (
    'event: status\ndata: {"state":"running"}\n\n'
    'event: token\ndata: {"call":1,"predictor":"predict","field":"answer","text":"Par"}\n\n'
    'event: result\ndata: {"prediction":{"answer":"Paris"},"id":"0198c0de"}\n\n'
)
_FIXED = ("Usage", "PredictResponse", "BatchResponse", "Problem")
"""Schemas that are the same for all programs."""
_EXAMPLES: dict[str, Any] = {"string": "text", "integer": 1, "number": 0.5, "boolean": True}


def document(app: AppDocument, program: Program, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of an app's public port."""
    refs, components = _components(program)
    example = _example(refs["Inputs"], components)
    return {
        "openapi": VERSION,
        "info": {
            "title": app.name,
            "version": version,
            "description": program.instructions or f"A DSPy program of type {program.kind}.",
        },
        "paths": {
            "/v1/predict": {"post": _predict(example, refs)},
            "/v1/predict/stream": {"post": _stream(example, refs)},
            "/v1/batch": {"post": _batch(example, app.serving.max_batch_size, refs)},
            "/v1/health": {"get": _health()},
            "/v1/info": {"get": _info()},
        },
        "components": {"schemas": components},
    }


def _predict(example: Any, refs: Refs) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "operationId": "predict",
        "summary": "Ask the program once.",
        "parameters": [_timeout_parameter()],
        "requestBody": _body(refs["PredictRequest"], {"inputs": example}),
        "responses": {
            "200": _answer("The answer.", refs["PredictResponse"]),
            **_problems(refs["Problem"]),
        },
    }


def _stream(example: Any, refs: Refs) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Describe the stream; OpenAPI 3.1 has no words for single events, so a text says it."""
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": _EVENTS}}
    headers = {"X-Request-Id": _header("Name of the request, as in the logs.")}
    return {
        "operationId": "predictStream",
        "summary": "Ask the program once and hear the answer while it is made.",
        "description": _STREAM,
        "parameters": [_timeout_parameter()],
        "requestBody": _body(refs["PredictRequest"], {"inputs": example}),
        "responses": {
            "200": {"description": "Server-sent events.", "headers": headers, "content": content},
            **_problems(refs["Problem"]),
        },
    }


def _batch(example: Any, most: int, refs: Refs) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "operationId": "batch",
        "summary": f"Ask the program up to {most} times; answers come in order.",
        "parameters": [_timeout_parameter()],
        "requestBody": _body(refs["BatchRequest"], {"inputs": [example]}),
        "responses": {
            "200": _answer("An answer or a problem for each input.", refs["BatchResponse"]),
            **_problems(refs["Problem"]),
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


def _health() -> dict[str, Any]:
    text = {"type": "string"}
    component = _object(name=text, state={"enum": ["ok", "failing"]}, detail=text)
    schema = _object(
        status={"enum": ["ok", "degraded"]}, components={"type": "array", "items": component}
    )
    return {
        "operationId": "health",
        "summary": "Tell how the language models are that the program may ask.",
        "responses": {
            "200": {
                "description": "While the worker can answer at all.",
                "content": {"application/json": {"schema": schema}},
            }
        },
    }


def _body(schema: dict[str, Any], example: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    content = {"schema": schema, "example": example}
    return {"required": True, "content": {"application/json": content}}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {
            "X-Request-Id": _header("Name of the request, as in the logs."),
            "X-Degraded": _header(
                "fallback, where a fallback model has answered; budget, where a cheaper one has."
            ),
        },
        "content": {"application/json": {"schema": schema}},
    }


def _problems(schema: dict[str, Any]) -> dict[str, Any]:
    content = {problem.MEDIA_TYPE: {"schema": schema}}
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


def _components(program: Program) -> tuple[Refs, dict[str, Any]]:
    """Return references to our schemas, by our name for them, and all schemas.

    A user's type may have one of our names; then pydantic or `_free` gives ours another.
    """
    models = program.schema
    described: dict[str, tuple[Any, Any]] = {
        "Inputs": (models.inputs, "validation"),
        "PredictRequest": (models.predict, "validation"),
        "BatchRequest": (models.batch, "validation"),
        "Prediction": (models.outputs, "serialization"),
    }
    made, definitions = models_json_schema(list(described.values()), ref_template=_REF)
    found: dict[str, Any] = definitions["$defs"]
    names = {ours: _free(ours, found) for ours in _FIXED}
    refs = {ours: made[model] for ours, model in described.items()}
    refs |= {ours: {"$ref": _REF.format(model=name)} for ours, name in names.items()}
    fixed = _fixed(refs)
    return refs, {**found, **{names[ours]: fixed[ours] for ours in _FIXED}}


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name


def _fixed(refs: Refs) -> dict[str, Any]:
    counts = {"type": "integer", "minimum": 0}
    usage = dict.fromkeys(("inputTokens", "outputTokens", "calls"), counts)
    cost = {
        "type": "string",
        "description": "US dollars as a decimal; only where the price of all calls is known.",
    }
    name = {"type": "string", "format": "uuid"}
    return {
        "Usage": {
            "type": "object",
            "properties": {**usage, "costUsd": cost},
            "required": list(usage),
        },
        "PredictResponse": _answered(
            prediction=refs["Prediction"],
            id=name,
            usage=refs["Usage"],
            durationMs={"type": "number"},
        ),
        "BatchResponse": _object(
            results={
                "type": "array",
                "items": {
                    "oneOf": [
                        _answered(id=name, prediction=refs["Prediction"]),
                        _object(problem=refs["Problem"]),
                    ]
                },
            },
            usage=refs["Usage"],
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


def _answered(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON schemas
    """Return the schema of an answer, which may say that it is degraded."""
    found = _object(**properties)
    found["properties"]["degraded"] = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Only where the answer is worse than usual: fallback:MODEL, budget:BUDGET.",
    }
    return found


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
