"""What a client may say about a prediction: the model of a feedback request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from dspy_worker.core import predictionid

if TYPE_CHECKING:
    from collections.abc import Mapping


REQUEST = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, title=None)
"""How strictly requests of all kinds are read."""
KINDS = {"score": "number", "label": "string", "correction": "object", "comment": "string"}
"""What may be said, and the JSON type of it."""
_NAME = r"^[A-Za-z0-9._-]+$"


def _says_something(schema: dict[str, Any]) -> None:
    """Tell in the JSON schema what `Feedback.is_said` checks."""
    schema["anyOf"] = [
        {"required": [kind], "properties": {kind: {"type": type_}}} for kind, type_ in KINDS.items()
    ]


class Feedback(pydantic.BaseModel):
    """What all programs' feedback has in common; `build` adds the corrected fields."""

    model_config = REQUEST | pydantic.ConfigDict(json_schema_extra=_says_something)

    prediction_id: Annotated[
        str,
        Field(
            alias="predictionId",
            min_length=1,
            max_length=predictionid.LONGEST,
            description="The `id` of the prediction that this is about.",
        ),
    ]
    id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=128,
            pattern=_NAME,
            description="Tells several opinions of one source about one prediction apart.",
        ),
    ] = None
    source: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=_NAME,
            description="Whose opinion it is; a later one of the same source replaces it.",
        ),
    ] = "user"
    score: Annotated[
        float | None, Field(ge=0, le=1, description="From 0, useless, to 1, perfect.")
    ] = None
    label: Annotated[
        str | None, Field(min_length=1, max_length=200, description="A word for what it is.")
    ] = None
    comment: Annotated[
        str | None, Field(min_length=1, max_length=4000, description="Words for people.")
    ] = None
    correction: Annotated[
        pydantic.BaseModel | None,
        Field(description="What would have been right: the output fields that were not."),
    ] = None

    @pydantic.model_validator(mode="after")
    def is_said(self) -> Feedback:
        """Refuse feedback that says nothing."""
        if all(getattr(self, kind) is None for kind in KINDS):
            raise PydanticCustomError("missing", "say at least one of {kinds}", {"kinds": _list()})
        if self.correction is not None and not self.correction.model_fields_set:
            raise PydanticCustomError("missing", "the correction names no field")
        return self


def build(outputs: Mapping[str, tuple[Any, FieldInfo]]) -> type[Feedback]:
    """Return the model of feedback on a program.

    Args:
        outputs: Type and description of each output field.
    """
    fields: dict[str, Any] = {name: _optional(*field) for name, field in outputs.items()}
    config = REQUEST | pydantic.ConfigDict(json_schema_extra={"minProperties": 1})
    correction = pydantic.create_model("Correction", __config__=config, **fields)
    description = Feedback.model_fields["correction"].description
    return pydantic.create_model(
        "FeedbackRequest",
        __base__=Feedback,
        correction=(correction | None, Field(default=None, description=description)),
    )


def corrected(feedback: Feedback) -> dict[str, Any] | None:
    """Return the corrected fields as JSON values; None if there are none."""
    if feedback.correction is None:
        return None
    named = feedback.correction.model_fields_set
    return feedback.correction.model_dump(mode="json", include=named, warnings=False)


def _optional(annotation: Any, info: FieldInfo) -> tuple[Any, FieldInfo]:  # noqa: ANN401 - a type
    """Return a field that may be absent; it has no value then, so no default is shown."""
    field = FieldInfo.from_annotation(annotation)
    field.metadata, field.description = list(info.metadata), info.description
    field.default_factory = lambda: None
    return annotation, field


def _list() -> str:
    *others, last = KINDS
    return f"{', '.join(others)} and {last}"
