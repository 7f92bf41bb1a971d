"""Agents of DSPy run to their end on the practice LM."""

from __future__ import annotations

import dspy
import pytest

from dspy_worker.practice import agent, prompt


def look_up(query: str, limit: int = 3) -> str:
    """Look something up.

    Several lines of description do not matter.
    """
    return f"{query} is answered by forty-two."


def weather(city: str, days: int) -> str:
    """Tell the weather."""
    return f"{city}: sun for {days} days"


def steps_of(react: dspy.ReAct, **inputs: str) -> list[dict[str, object]]:
    """Play the loop of ReAct by hand: prompt, step, observation."""
    adapter, trajectory, steps = dspy.ChatAdapter(), {}, []
    for index in range(5):
        shown = react._format_trajectory(trajectory) if trajectory else ""
        messages = adapter.format(react.react.signature, [], {**inputs, "trajectory": shown})
        step = agent.step(prompt.parse(messages))
        steps.append(step)
        trajectory |= {
            f"thought_{index}": step["next_thought"],
            f"tool_name_{index}": step[agent.NAME],
            f"tool_args_{index}": step[agent.ARGUMENTS],
            f"observation_{index}": "seen",
        }
        if step[agent.NAME] == agent.FINISH:
            break
    return steps


def test_an_agent_uses_its_first_tool_once_and_finishes() -> None:
    steps = steps_of(dspy.ReAct("question -> answer", tools=[look_up]), question="Why?")

    assert [(step[agent.NAME], step[agent.ARGUMENTS]) for step in steps] == [
        ("look_up", {"query": "Why?"}),
        ("finish", {}),
    ]


def test_arguments_have_the_right_names_and_types() -> None:
    react = dspy.ReAct("question -> answer", tools=[weather])

    first = steps_of(react, question="Will it rain in Lisbon during the next 4 days?")[0]

    assert first[agent.ARGUMENTS] == {"city": "Lisbon", "days": 4}


def test_an_agent_without_tools_finishes_at_once() -> None:
    steps = steps_of(dspy.ReAct("question -> answer", tools=[]), question="Why?")

    assert [step[agent.NAME] for step in steps] == ["finish"]


def test_a_whole_agent_answers_with_what_the_tool_said(practice_model: dspy.LM) -> None:
    react = dspy.ReAct("question -> answer", tools=[look_up])

    with dspy.context(lm=practice_model):
        found = react(question="life")

    assert found.trajectory["tool_name_1"] == "finish"
    assert "life is answered" in found.answer


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=["chat", "json"])
def test_typed_answers_of_agents_are_read_by_both_adapters(
    practice_model: dspy.LM, adapter: dspy.Adapter
) -> None:
    react = dspy.ReAct("question: str -> answer: str, count: int", tools=[weather])

    with dspy.context(lm=practice_model, adapter=adapter):
        found = react(question="How many of the 7 days in Rome are sunny?")

    assert isinstance(found.count, int)
