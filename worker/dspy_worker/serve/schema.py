"""Pydantic models of requests and answers, made once from the program's fields."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from dspy.adapters.types.base_type import CUSTOM_TYPE_START_IDENTIFIER
from pydantic.fields import FieldInfo

from dspy_worker.core import problem
from dspy_worker.errors import (
    BodyTooLarge,
    FieldError,
    InputsInvalid,
    MalformedBody,
    RequestError,
)
from dspy_worker.serve import opinion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from dspy_worker.serve.fields import Fields

_REQUEST = opinion.REQUEST
_ANSWER = pydantic.ConfigDict(extra="ignore", allow_inf_nan=False)
_MAX_ERRORS = 50
_MAX_DETAILED = 1000
"""With more complaints than this none is spelled out: each would take a kilobyte of memory."""
_MESSAGES = {
    "extra_forbidden": "there is no such field",
    "missing": "this field is required",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The models of one program.

    Attributes:
        inputs: Values of one request, by field.
        outputs: Values of one answer, by field.
        predict: Body of a predict request: {"inputs": {...}}.
        batch: Body of a batch request: {"inputs": [{...}, ...]}.
        feedback: Body of a feedback request.
    """

    inputs: type[pydantic.BaseModel]
    outputs: type[pydantic.BaseModel]
    predict: type[pydantic.BaseModel]
    batch: type[pydantic.BaseModel]
    feedback: type[opinion.Feedback]


def build(fields: Fields, request_types: Mapping[str, Any], *, max_batch: int = 64) -> Schema:
    """Make the models of a program.

    Args:
        fields: The program's fields.
        request_types: Types that requests must have instead of the fields' own.
        max_batch: Most inputs of a batch. The model knows it, so that reading stops there: a
            megabyte of empty objects is more than a million complaints.
    """
    inputs = pydantic.create_model(
        "Inputs", __config__=_REQUEST, **_definitions(fields.inputs, request_types)
    )
    outputs = pydantic.create_model(
        "Prediction", __config__=_ANSWER, **_definitions(fields.outputs, {})
    )
    items: Any = Annotated[
        types.GenericAlias(list, inputs), pydantic.Field(min_length=1, max_length=max_batch)
    ]
    return Schema(
        inputs=inputs,
        outputs=outputs,
        predict=pydantic.create_model("PredictRequest", __config__=_REQUEST, inputs=(inputs, ...)),
        batch=pydantic.create_model("BatchRequest", __config__=_REQUEST, inputs=(items, ...)),
        feedback=opinion.build(_definitions(fields.outputs, request_types)),
    )


def parse(model: type[pydantic.BaseModel], body: bytes) -> Any:  # noqa: ANN401 - `inputs` of the model
    """Read a request's body and return its `inputs`.

    Raises:
        MalformedBody: The body is no JSON.
        BodyTooLarge: It is a batch of too many inputs.
        InputsInvalid: The body is JSON, but does not fit; `fields` names each place.
    """
    return read(model, body, InputsInvalid).inputs


def read(model: type[pydantic.BaseModel], body: bytes, misfit: type[RequestError]) -> Any:  # noqa: ANN401 - an instance of the model
    """Read a request's body.

    Args:
        model: What it has to be.
        body: Its JSON text.
        misfit: What to raise if it is something else.

    Raises:
        MalformedBody: The body is no JSON.
        BodyTooLarge: It is a batch of too many inputs.
        RequestError: The body is JSON, but does not fit; `fields` names each place.
    """
    try:
        request = model.model_validate_json(body)
    except pydantic.ValidationError as error:
        if error.error_count() > _MAX_DETAILED:
            raise misfit(f"{misfit.title} in {error.error_count()} places.") from None
        found = error.errors(include_url=False, include_input=False)
    else:
        _refuse_marker(body, request, misfit)
        return request
    first = found[0]
    if first["type"] == "json_invalid":
        raise MalformedBody(_unreadable(body, first))
    if first["type"] == "too_long" and first["loc"] == ("inputs",):
        raise BodyTooLarge(f"A batch takes at most {first['ctx']['max_length']} inputs.")
    raise _misfit(found, misfit)


def _refuse_marker(body: bytes, request: object, misfit: type[RequestError]) -> None:
    """Refuse text that DSPy would take for an image or another part of the prompt.

    It writes such values as JSON behind a marker and looks for markers in the whole prompt, so a
    text with one could make the LM's server fetch any URL.
    """
    if b"\\u" not in body and CUSTOM_TYPE_START_IDENTIFIER.encode() not in body:
        return
    if CUSTOM_TYPE_START_IDENTIFIER in repr(request):
        raise misfit(f"The body must not contain {CUSTOM_TYPE_START_IDENTIFIER}.")


def _misfit(found: list[ErrorDetails], misfit: type[RequestError]) -> RequestError:
    """Return the error that names every place that does not fit."""
    fields = tuple(_field_error(detail) for detail in found[:_MAX_ERRORS])
    first = f"{fields[0].path or '/'}: {fields[0].message}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return misfit(f"{misfit.title}: {first}{more}", fields=fields)


def values(inputs: pydantic.BaseModel) -> dict[str, Any]:
    """Return the fields of a request as the program takes them."""
    return dict(vars(inputs))


def _field_error(detail: ErrorDetails) -> FieldError:
    kind = detail["type"]
    return FieldError(
        path=problem.pointer(*(step for step in detail["loc"])),
        message=_MESSAGES.get(kind, detail["msg"][:1].lower() + detail["msg"][1:]),
        code=kind,
    )


def _unreadable(body: bytes, detail: ErrorDetails) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"The body is not valid UTF-8: byte {error.start} cannot be decoded."
    if not body.strip():
        return "The body is empty; send JSON."
    return f"The body is not valid JSON: {detail['msg'].removeprefix('Invalid JSON: ')}."


def _definitions(fields: Mapping[str, FieldInfo], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _definition(name, info, wanted.get(name)) for name, info in fields.items()}


def _definition(name: str, info: FieldInfo, wanted: Any) -> tuple[Any, FieldInfo]:  # noqa: ANN401 - a type
    annotation: Any = info.annotation if wanted is None else wanted
    field = FieldInfo.from_annotation(annotation)
    field.metadata = list(info.metadata)
    field.description = _description(name, info)
    field.default, field.default_factory = info.default, info.default_factory
    return annotation, field


def _description(name: str, info: FieldInfo) -> str | None:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    text = extra.get("desc") or info.description
    return None if text is None or text == f"${{{name}}}" else str(text)
