"""The answer as text, the way the asking adapter wants it written."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING

from dspy_worker.practice import agent, model, prompt, proposer, schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspy_worker.practice.model import Draw
    from dspy_worker.practice.prompt import Prompt
    from dspy_worker.practice.schema import Json

WHAT_I_AM = "I am a practice LM, a nearest-neighbor model; I answer the prompts of DSPy's adapters."
GARBAGE = "%% 7f <oops> the wires are crossed %%"
WRONG = "about a dozen or so"


class Mood(Enum):
    """How an answer is spoiled on purpose."""

    USUAL = "usual"
    GARBAGE = "garbage"
    WRONG_TYPES = "wrong_types"


def reply(messages: Sequence[Mapping[str, object]], draw: Draw, mood: Mood = Mood.USUAL) -> str:
    """Answer the messages of one request."""
    asked = prompt.parse(messages)
    if mood is Mood.GARBAGE:
        return GARBAGE
    if not asked.outputs:
        return WHAT_I_AM
    values = think(asked, draw)
    if mood is Mood.WRONG_TYPES:
        values = spoiled(asked, values)
    return as_json(values) if asked.as_json else as_chat(values)


def think(asked: Prompt, draw: Draw) -> dict[str, Json]:
    """Find out who asks - an agent, an optimizer or a plain task - and answer it."""
    if agent.is_step(asked):
        return agent.step(asked)
    if proposer.is_proposal(asked):
        return proposer.propose(asked, draw)
    return model.answer(asked, draw)


def spoiled(asked: Prompt, values: Mapping[str, Json]) -> dict[str, Json]:
    """Break the type of every field that has one; plain text has none to break."""
    return {
        name: value if wanted == schema.STRING else WRONG
        for (name, wanted), value in zip(asked.outputs.items(), values.values(), strict=True)
    }


def as_json(values: Mapping[str, Json]) -> str:
    """Write the answer for the JSON adapter."""
    return json.dumps(values, ensure_ascii=False)


def as_chat(values: Mapping[str, Json]) -> str:
    """Write the answer for the chat adapter; a value cannot forge a header."""
    fields = [
        f"[[ ## {name} ## ]]\n{schema.written(value).replace('[[ ##', '[ ##')}"
        for name, value in values.items()
    ]
    return "\n\n".join([*fields, "[[ ## completed ## ]]"])
