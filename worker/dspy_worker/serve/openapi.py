"""The OpenAPI 3.1 document of one program, made from its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.json_schema import models_json_schema

from dspy_worker.core import deadline, problem
from dspy_worker.serve import origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.program import Program

Refs: TypeAlias = "Mapping[str, dict[str, Any]]"

VERSION = "3.1.1"
_EXAMPLE_ID = "0198c0de-7d1c-7c3a-9f52-0f6a2b1c3d4e.3f9a01c2d4e5.0.7be1c09a52d3f864"
_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    "400": "The body is not readable JSON, or a header is wrong.",
    "404": "No prediction of this app has this id.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The body does not fit the program; `errors` says where.",
    "429": "Too many requests at once, or a budget is spent; see Retry-After.",
    "500": "The program failed.",
    "502": "The language model failed, or its answer was not usable.",
    "503": "The worker cannot answer now.",
    "504": "The answer took too long.",
}
_ASKING = ("400", "413", "415", "422", "429", "500", "502", "503", "504")
"""Problems of operations that ask the program."""
_TELLING = ("400", "404", "413", "415", "422", "500", "504")
_STREAM = (
    "Events: `status` (the request has a slot), `token` (a piece of an output field), and at the "
    "end one `result` (a PredictResponse) or one `error` (a Problem). The text of a field is that "
    "of the highest `call`: an unusable answer of the language model is asked for again."
)
_EVENTS = (
    'event: status\ndata: {"state":"running"}\n\n'
    'event: token\ndata: {"call":1,"predictor":"predict","field":"answer","text":"Par"}\n\n'
    'event: result\ndata: {"prediction":{"answer":"Paris"},"id":"0198c0de-7d1c-7c3a-..."}\n\n'
)
_FIXED = ("Usage", "PredictResponse", "BatchResponse", "FeedbackResponse", "Problem")
"""Schemas that are the same for all programs."""
_REQUEST_HEADER = {"X-Request-Id": "Name of the request, as in the logs."}
_DEGRADED_HEADER = {
    "X-Degraded": "fallback: another model has answered; budget: a cheaper one; stale: it is old."
}
_CACHE_HEADERS = {
    "Cache-Status": "Whether the answer was kept, as RFC 9211 has it.",
    "Age": "Seconds since a kept answer was made.",
}
_PREDICTION_HEADERS = {"X-Prediction-Id": "The `id` of the answer.", **_DEGRADED_HEADER}
_WAIT = "Wait at most so many seconds; it can only shorten the app's limit."
_CONTROL = "no-cache: no kept answer is wanted. no-store: and the answer must not be kept."
_FEEDBACK_LINK = {
    "operationId": "feedback",
    "requestBody": {"predictionId": "{$response.body#/id}"},
    "description": "Say how good the answer was.",
}
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
            "/v1/predict": {"post": _predict(example, refs, cached=app.cache is not None)},
            "/v1/predict/stream": {"post": _stream(example, refs)},
            "/v1/batch": {"post": _batch(example, app.serving.max_batch_size, refs)},
            "/v1/feedback": {"post": _feedback(refs)},
            "/v1/health": {"get": _health()},
            "/v1/info": {"get": _info()},
        },
        "components": {"schemas": components},
    }


def _predict(example: Any, refs: Refs, *, cached: bool) -> dict[str, Any]:  # noqa: ANN401 - JSON
    headers = {**_PREDICTION_HEADERS, **(_CACHE_HEADERS if cached else {})}
    return {
        "operationId": "predict",
        "summary": "Ask the program once.",
        "parameters": _parameters(),
        "requestBody": _body(refs["PredictRequest"], {"inputs": example}),
        "responses": {
            "200": {
                **_answer("The answer.", refs["PredictResponse"], **headers),
                "links": {"feedback": _FEEDBACK_LINK},
            },
            **_problems(refs["Problem"], _ASKING),
        },
    }


def _stream(example: Any, refs: Refs) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Describe the stream; OpenAPI 3.1 has no words for single events, so a text says it."""
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": _EVENTS}}
    headers = {name: _header(text) for name, text in _REQUEST_HEADER.items()}
    return {
        "operationId": "predictStream",
        "summary": "Ask the program once and hear the answer while it is made.",
        "description": _STREAM,
        "parameters": _parameters(),
        "requestBody": _body(refs["PredictRequest"], {"inputs": example}),
        "responses": {
            "200": {"description": "Server-sent events.", "headers": headers, "content": content},
            **_problems(refs["Problem"], _ASKING),
        },
    }


def _batch(example: Any, most: int, refs: Refs) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "operationId": "batch",
        "summary": f"Ask the program up to {most} times; answers come in order.",
        "parameters": _parameters(),
        "requestBody": _body(refs["BatchRequest"], {"inputs": [example]}),
        "responses": {
            "200": _answer(
                "An answer or a problem for each input.", refs["BatchResponse"], **_DEGRADED_HEADER
            ),
            **_problems(refs["Problem"], _ASKING),
        },
    }


def _feedback(refs: Refs) -> dict[str, Any]:
    example = {"predictionId": _EXAMPLE_ID, "score": 0, "comment": "The wrong department."}
    return {
        "operationId": "feedback",
        "summary": "Say how good a prediction was, or what would have been right.",
        "parameters": _parameters(),
        "requestBody": _body(refs["FeedbackRequest"], example),
        "responses": {
            "200": _answer("It is counted.", refs["FeedbackResponse"]),
            **_problems(refs["Problem"], _TELLING),
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
        "summary": "Tell how the language models are, and what else the worker depends on.",
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


def _answer(description: str, schema: dict[str, Any], **headers: str) -> dict[str, Any]:
    told = {**_REQUEST_HEADER, **headers}
    return {
        "description": description,
        "headers": {name: _header(text) for name, text in told.items()},
        "content": {"application/json": {"schema": schema}},
    }


def _problems(schema: dict[str, Any], statuses: Iterable[str]) -> dict[str, Any]:
    content = {problem.MEDIA_TYPE: {"schema": schema}}
    headers = {name: _header(text) for name, text in _REQUEST_HEADER.items()}
    waits = {**headers, "Retry-After": _header("Seconds to wait.")}
    return {
        status: {
            "description": _PROBLEMS[status],
            "headers": waits if status == "429" else headers,
            "content": content,
        }
        for status in statuses
    }


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _parameters() -> list[dict[str, Any]]:
    """Describe the headers of requests that say who asks and how."""
    seconds = {"type": "number", "exclusiveMinimum": 0}
    name = {"type": "string", "pattern": f"^{origin.NAME}$"}
    return [
        _parameter(deadline.HEADER, _WAIT, seconds),
        _parameter("X-Tenant", "On whose account the request is.", name),
        _parameter("X-Subject", "Whom it is about, so that it can be erased.", name),
        _parameter("Cache-Control", _CONTROL, {"type": "string"}),
        _parameter("X-Request-Id", _REQUEST_HEADER["X-Request-Id"], {"type": "string"}),
    ]


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema,
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
        "FeedbackRequest": (models.feedback, "validation"),
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
    name = {"type": "string", "description": "Names the prediction; feedback refers to it."}
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
        "FeedbackResponse": _object(
            id={"type": "string", "description": "Names the feedback."},
            predictionId=name,
            variant={"type": "string", "description": "Which prompts had answered."},
            stored={"type": "boolean", "description": "Whether it is kept, and not only counted."},
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
        "description": "Only where it is worse than usual: fallback:MODEL, budget:BUDGET, stale.",
    }
    found["properties"]["cached"] = {
        "description": "Only where the answer was not made for this request.",
        **_object(
            level={"enum": ["memory", "redis", "disk", "flight"]},
            ageSeconds={"type": "number", "minimum": 0},
        ),
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
