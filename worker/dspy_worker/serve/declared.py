"""Builds a declared program: a signature, a module and demos as the document writes them."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import dspy
import pydantic

from dspy_worker.contract import typeexpr
from dspy_worker.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspy_worker.contract.app import Field, NamedType, Program
    from dspy_worker.contract.app import Signature as Declared

_SCALARS = {"str": str, "int": int, "bool": bool, "float": float}


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """Python types for the named types of a signature.

    Attributes:
        lenient: For prompts and answers; what an LM adds to an object is ignored.
        strict: For requests; what a client adds to an object is refused. Each is a subclass of its
            lenient sibling.
    """

    lenient: Mapping[str, type[pydantic.BaseModel]]
    strict: Mapping[str, type[pydantic.BaseModel]]


def named_types(entries: Iterable[NamedType]) -> Types:
    """Return the Python types of a signature's named types."""
    lenient: dict[str, type[pydantic.BaseModel]] = {}
    strict: dict[str, type[pydantic.BaseModel]] = {}
    for entry in entries:
        lenient[entry.name] = _model(entry, lenient, pydantic.BaseModel)
        strict[entry.name] = _model(entry, strict, lenient[entry.name], extra="forbid", strict=True)
    return Types(lenient=lenient, strict=strict)


def annotation(expr: typeexpr.TypeExpr, named: Mapping[str, type[pydantic.BaseModel]]) -> Any:  # noqa: ANN401 - a type
    """Return the Python type of a type expression."""
    match expr:
        case typeexpr.Scalar(name=name):
            return _SCALARS[name]
        case typeexpr.ListOf(item=item):
            return types.GenericAlias(list, annotation(item, named))
        case typeexpr.Choice(values=values):
            return Literal[values]
        case typeexpr.Named(name=name):
            return named[name]


def signature(declared: Declared, named: Types) -> type[dspy.Signature]:
    """Return the DSPy signature of a declared one."""
    fields = {
        **{f.name: _field(f, named, dspy.InputField) for f in declared.inputs},
        **{f.name: _field(f, named, dspy.OutputField) for f in declared.outputs},
    }
    return cast(
        "type[dspy.Signature]", dspy.Signature(fields, declared.instructions.strip() or None)
    )


def request_types(declared: Declared, named: Types) -> dict[str, Any]:
    """Return the type of each field as a request must have it; feedback names outputs."""
    asked = (*declared.inputs, *declared.outputs)
    return {field.name: annotation(field.type, named.strict) for field in asked}


def module(program: Program, asked: type[dspy.Signature], tools: list[dspy.Tool]) -> dspy.Module:
    """Return the module that answers a declared signature, with its demos."""
    match program.module.type:
        case "Predict":
            built = dspy.Predict(asked)
        case "ChainOfThought":
            built = dspy.ChainOfThought(asked)
        case "ReAct":
            limit = program.module.max_iterations
            built = dspy.ReAct(asked, tools, **({} if limit is None else {"max_iters": limit}))
    _teach(built, program, asked)
    return built


def _teach(built: dspy.Module, program: Program, asked: type[dspy.Signature]) -> None:
    """Give the demos to the predictor that writes the outputs: the only one, or ReAct's last."""
    demos = [dspy.Example(**demo) for demo in program.demos]
    for index, demo in enumerate(program.demos):
        _check_demo(demo, asked, f"spec.program.demos[{index}]")
    if demos:
        built.predictors()[-1].demos = demos


def _check_demo(demo: Mapping[str, Any], asked: type[dspy.Signature], path: str) -> None:
    for name, value in demo.items():
        if name in asked.fields:
            _check_value(value, asked.fields[name].annotation, f"{path}.{name}")


def _check_value(value: object, wanted: Any, path: str) -> None:  # noqa: ANN401 - a type
    try:
        pydantic.TypeAdapter(wanted).validate_python(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise LoadError(f"{path} does not fit its field: {first['msg']}") from None


def _field(field: Field, named: Types, make: Any) -> tuple[Any, Any]:  # noqa: ANN401 - InputField or OutputField
    described = {"desc": field.description} if field.description else {}
    return annotation(field.type, named.lenient), make(**described)


def _model(
    entry: NamedType,
    known: Mapping[str, type[pydantic.BaseModel]],
    base: type[pydantic.BaseModel],
    **config: Any,  # noqa: ANN401 - pydantic's class arguments
) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {
        f.name: (
            annotation(f.type, known),
            pydantic.Field(description=f.description or None),
        )
        for f in entry.fields
    }
    return pydantic.create_model(
        entry.name,
        __base__=base,
        __doc__=entry.description or None,
        __cls_kwargs__={"allow_inf_nan": False, **config},
        **fields,
    )
