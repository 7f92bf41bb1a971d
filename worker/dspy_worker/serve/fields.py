"""Which fields a user's Python program takes and returns.

A program says so with an attribute `signature`. Without one, a program with a single predictor has
that predictor's fields, and a `forward` with named parameters names the inputs. Anything else would
be a guess, so it is refused with a sentence that says what to write.
"""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dspy
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspy_worker.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping

REASONING = "reasoning"
_ADVICE = (
    "give its class an attribute such as signature = dspy.Signature('question: str -> answer: str')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Fields of requests and answers, by name, in order."""

    inputs: Mapping[str, FieldInfo]
    outputs: Mapping[str, FieldInfo]


def of_signature(signature: type[dspy.Signature]) -> Fields:
    """Return the fields of a signature."""
    return Fields(inputs=dict(signature.input_fields), outputs=dict(signature.output_fields))


def of_module(module: dspy.Module, *, reasoning: bool) -> Fields:
    """Return the fields of a user's program.

    Args:
        module: The program.
        reasoning: Whether the field `reasoning`, which ChainOfThought adds, belongs to answers.

    Raises:
        LoadError: The program does not say what its fields are.
    """
    declared = _declared(module)
    if declared is not None:
        return of_signature(declared)
    predictors = module.predictors()
    if len(predictors) != 1:
        raise LoadError(
            f"the program {type(module).__name__} has {len(predictors)} predictors, so its fields "
            f"cannot be told; {_ADVICE}"
        )
    fields = of_signature(predictors[0].signature)
    outputs = {k: v for k, v in fields.outputs.items() if reasoning or k != REASONING}
    return Fields(inputs=_parameters(module) or fields.inputs, outputs=outputs)


def entry(kind: type[dspy.Module]) -> str | None:
    """Return the method that answers: "aforward" or "forward", or None if there is neither.

    A class that overrides only `forward` of a DSPy module inherits an `aforward` that knows
    nothing of it, so the nearest class that has one of them decides.
    """
    for one in kind.__mro__:
        for name in ("aforward", "forward"):
            if name in vars(one):
                return name
    return None


def _declared(module: dspy.Module) -> type[dspy.Signature] | None:
    if isinstance(module, dspy.Predict):
        return None  # its signature may hold a reasoning that nobody asked for
    declared = getattr(module, "signature", None)
    if declared is None:
        return None
    if isinstance(declared, str):
        declared = dspy.Signature(declared)
    if not (isinstance(declared, type) and issubclass(declared, dspy.Signature)):
        raise LoadError(
            f"the attribute signature of {type(module).__name__} is no dspy.Signature; {_ADVICE}"
        )
    return declared


def _parameters(module: dspy.Module) -> dict[str, FieldInfo]:
    """Return the named parameters of a program's own `forward`, or nothing if it has none."""
    name = entry(type(module))
    if name is None:
        return {}
    forward = getattr(type(module), name)
    hints = typing.get_type_hints(forward)
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    if any(p.kind in {p.VAR_KEYWORD, p.VAR_POSITIONAL, p.POSITIONAL_ONLY} for p in parameters):
        return {}
    return {p.name: _field(hints.get(p.name, str), p.default) for p in parameters}


def _field(annotation: Any, default: Any) -> FieldInfo:  # noqa: ANN401 - any type, any value
    info = FieldInfo.from_annotation(annotation)
    info.default = PydanticUndefined if default is inspect.Parameter.empty else default
    return info
