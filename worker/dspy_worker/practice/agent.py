"""The next step of a ReAct program: use the first tool once, then finish.

A practice agent must end, whatever the tools say; it never plans.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from dspy_worker.practice import guess, schema
from dspy_worker.practice.guess import Place
from dspy_worker.practice.model import TRAJECTORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspy_worker.practice.prompt import Prompt
    from dspy_worker.practice.schema import Json, Schema

NAME, ARGUMENTS = "next_tool_name", "next_tool_args"
FINISH = "finish"
TOOL = re.compile(
    r"^\s*\(\d+\) (\w+)(?:,|\.) .*?It takes arguments (\{.*?\})\.$", re.MULTILINE | re.DOTALL
)
USED = "[[ ## tool_name_0 ## ]]"


def is_step(prompt: Prompt) -> bool:
    """Say whether the prompt asks which tool to use next."""
    return {NAME, ARGUMENTS} <= prompt.outputs.keys()


def step(prompt: Prompt) -> dict[str, Json]:
    """Decide the next step."""
    used = USED in prompt.inputs.get(TRAJECTORY, "")
    offered = {} if used else tools_in(prompt.objective)
    tool, parameters = next(iter(offered.items()), (FINISH, {}))
    told = "I have what I need." if tool == FINISH else f"I look it up with {tool}."
    arguments = {
        name: _argument(name, wanted, prompt.inputs)
        for name, wanted in parameters.items()
        if isinstance(wanted, dict) and "default" not in wanted
    }
    values: dict[str, Json] = {NAME: tool, ARGUMENTS: {**arguments}}
    return {name: values.get(name, told) for name in prompt.outputs}


def tools_in(instruction: str) -> dict[str, Schema]:
    """Read the tools that DSPy lists in the instruction of a ReAct step; the end is no tool."""
    tools: dict[str, Schema] = {}
    for name, arguments in TOOL.findall(instruction):
        try:
            found = ast.literal_eval(arguments)
        except (ValueError, SyntaxError):
            continue
        if name != FINISH and isinstance(found, dict):
            tools[name] = found
    return tools


def _argument(name: str, wanted: Schema, inputs: Mapping[str, str]) -> Json:
    texts = [text for field, text in inputs.items() if field != TRAJECTORY]
    text = inputs.get(name) or (texts[0] if texts else "")
    if schema.kind(schema.resolve(wanted, wanted)) == "string":
        return text if name in inputs else (guess.hinted(name, text) or [text])[0]
    return guess.value(Place(name=name, schema=wanted, root=wanted), text)
