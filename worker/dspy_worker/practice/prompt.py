"""Reads the prompts that DSPy's chat and JSON adapters write.

Messages go in; out comes a `Prompt`: the instruction, the inputs, the wanted output fields with
their types as JSON schemas, and the demos with their values read back into those types.
"""

from __future__ import annotations

import ast
import functools
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspy_worker.practice import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dspy_worker.practice.schema import Json, Schema

HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*\n?", re.MULTILINE)
LISTED = re.compile(r"^\d+\. `(\w+)` \((.*?)\):(?= |$)(.*)$", re.MULTILINE)
NOTE = re.compile(r"^\{(\w+)\} {8}# note: the value you produce (.*)$", re.MULTILINE)
TAIL_NAME = re.compile(r"`(?:\[\[ ## )?(\w+)(?: ## \]\])?`")
TAIL = "Respond with "
JSON_STRUCTURE = "Outputs will be a JSON object with the following fields.\n\n"
OBJECTIVE = "your objective is:"
NOT_SUPPLIED = "Not supplied for this particular example."
SCHEMA_NOTE = "must adhere to the JSON schema: "
CHOICE_NOTE = ("must exactly match (no extra characters) one of: ", "must be one of: ")
SIMPLE_NOTES: dict[str, Schema] = {
    "must be True or False": {"type": "boolean"},
    "must be a single int value": {"type": "integer"},
    "must be a single float value": {"type": "number"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One example of the prompt: its inputs as one text, and its outputs in their types."""

    text: str
    outputs: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A task as the practice LM sees it.

    Attributes:
        objective: The instruction of the signature, without DSPy's frame around it.
        inputs: The input fields of the question.
        outputs: The wanted output fields in their order, each with its JSON schema.
        demos: The examples.
        final: The whole last message.
        as_json: Whether the JSON adapter asks.
    """

    objective: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, Schema]
    demos: tuple[Demo, ...] = ()
    final: str = ""
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the system message tells, whatever the question: it is read once and kept."""

    objective: str
    inputs: frozenset[str]
    outputs: Mapping[str, Schema] = field(default_factory=dict)


def text_of(content: object) -> str:
    """Return the text of a message, be it a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def parse(messages: Sequence[Mapping[str, object]]) -> Prompt:
    """Read the messages of one request."""
    turns = [(str(message.get("role")), text_of(message.get("content"))) for message in messages]
    system = "\n".join(text for role, text in turns if role in {"system", "developer"})
    rest = [turn for turn in turns if turn[0] not in {"system", "developer"}]
    final = rest[-1][1] if rest else ""
    question, _, tail = final.rpartition(TAIL)
    frame = read_frame(system)
    outputs = {name: frame.outputs.get(name, schema.STRING) for name in _wanted(tail)}
    return Prompt(
        objective=frame.objective,
        inputs=sections(question if tail else final, frame.inputs),
        outputs=outputs,
        demos=tuple(_demo(user, reply, frame) for user, reply in _pairs(rest)),
        final=final,
        as_json=tail.startswith("a JSON object"),
    )


def _wanted(tail: str) -> list[str]:
    names = [name for name in TAIL_NAME.findall(tail) if name != "completed"]
    return list(dict.fromkeys(names))


def _pairs(turns: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for (role, text), (next_role, reply) in itertools.pairwise(turns):
        if role == "user" and next_role == "assistant":
            yield text, reply


def sections(text: str, names: frozenset[str]) -> dict[str, str]:
    """Split a text at the headers of the named fields; headers inside a value are its text."""
    first: dict[str, re.Match[str]] = {}
    for mark in HEADER.finditer(text):
        if not names or mark[1] in names:
            first.setdefault(mark[1], mark)
    marks = list(first.values())
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {mark[1]: text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=False)}


@functools.lru_cache(maxsize=512)
def read_frame(system: str) -> Frame:
    """Read the field lists, the types and the instruction of a system message."""
    head, _, objective = system.partition(OBJECTIVE)
    ins, _, outs = head.partition("Your output fields are:")
    structure = outs.partition("All interactions will be structured")[2]
    notes = dict(NOTE.findall("\n".join([structure, *_json_lines(head)])))
    listed = LISTED.findall(outs.partition("All interactions will be structured")[0])
    return Frame(
        objective=(objective or system).strip(),
        inputs=frozenset(name for name, _, _ in LISTED.findall(ins)),
        outputs={
            name: read_type(annotation, notes.get(name, "")) for name, annotation, _ in listed
        },
    )


def _json_lines(head: str) -> list[str]:
    _, found, structure = head.partition(JSON_STRUCTURE)
    if not found:
        return []
    try:
        values, _ = json.JSONDecoder().raw_decode(structure)
    except ValueError:
        return []
    return [str(value) for value in values.values()]


def read_type(annotation: str, note: str) -> Schema:
    """Turn an annotation and DSPy's note about it into a JSON schema."""
    if note in SIMPLE_NOTES:
        return SIMPLE_NOTES[note]
    if note.startswith(SCHEMA_NOTE):
        try:
            found = json.loads(note.removeprefix(SCHEMA_NOTE))
        except ValueError:
            return schema.STRING
        return found if isinstance(found, dict) else schema.STRING
    if note.startswith(CHOICE_NOTE):
        return {"enum": _choices(annotation, note)}
    return schema.STRING


def _choices(annotation: str, note: str) -> list[Json]:
    """Read the values of a Literal from its annotation, which keeps their types."""
    try:
        return list(ast.literal_eval(annotation.removeprefix("Literal")))
    except (ValueError, SyntaxError):
        return [*note.partition(" one of: ")[2].split("; ")]


def _demo(user: str, reply: str, frame: Frame) -> Demo:
    inputs = sections(user, frame.inputs)
    return Demo(text=" ".join(inputs.values()) or user, outputs=_outputs(reply, frame))


def _outputs(reply: str, frame: Frame) -> dict[str, Json]:
    found = _json_object(reply) or sections(reply, frozenset({*frame.outputs, "completed"}))
    values: dict[str, Json] = {}
    for name, wanted in frame.outputs.items():
        value = found.get(name)
        if value is None or (isinstance(value, str) and value.startswith(NOT_SUPPLIED)):
            continue
        try:
            values[name] = schema.read(schema.written(value), wanted, wanted)
        except ValueError:
            continue  # a demo that breaks its own type teaches nothing
    return values


def _json_object(text: str) -> Mapping[str, Json]:
    if not text.startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
