"""Brings a request, its answer and the plan of faults together: all but the network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dspy_worker.practice import counters, faults, prompt, reply, wire
from dspy_worker.practice.faults import Kind
from dspy_worker.practice.model import Draw
from dspy_worker.practice.reply import Mood

if TYPE_CHECKING:
    from pathlib import Path

    from dspy_worker.practice.faults import Effect
    from dspy_worker.practice.wire import Request

MOST_FIXED = 1000


@dataclass(slots=True, kw_only=True)
class Desk:
    """What the requests of one server share.

    Attributes:
        fixed: Whether each kind of prompt gets one constant answer, for benchmarks.
        key_file: File with the accepted keys, one a line; read at each request, so that a test
            can change a key under a running server. None accepts every key and none.
        plan: The faults in force.
        counts: What `/stats` tells.
    """

    fixed: bool = False
    key_file: Path | None = None
    plan: faults.Plan = field(default_factory=faults.Plan)
    counts: counters.Counters = field(default_factory=counters.Counters)
    repetitions: counters.Repetitions = field(default_factory=counters.Repetitions)
    constants: dict[tuple[str, str], str] = field(default_factory=dict)

    def accepts(self, authorization: str) -> bool:
        """Say whether the key of a request is among the accepted ones."""
        if self.key_file is None:
            return True
        keys = self.key_file.read_text(encoding="utf-8").split()
        return authorization.removeprefix("Bearer ").strip() in keys

    def effect(self, request: Request) -> Effect:
        """Decide what goes wrong with a call, and count it."""
        if not self.plan.faults:
            return faults.NO_EFFECT
        text = "\n".join(prompt.text_of(message.get("content")) for message in request.messages)
        effect = self.plan.effect(text, stream=request.stream)
        self.counts.faults.update(kind.value for kind in effect.kinds)
        return effect

    def answers(self, request: Request, effect: Effect) -> list[str]:
        """Return the texts of the wanted choices."""
        mood = _mood(effect)
        if self.fixed and mood is Mood.USUAL:
            return [self._constant(request)] * request.choices
        nth = self.repetitions.next(request.identity) if request.temperature else 0
        draws = (
            Draw(temperature=request.temperature, nth=nth * request.choices + index)
            for index in range(request.choices)
        )
        return [reply.reply(request.messages, draw, mood) for draw in draws]

    def _constant(self, request: Request) -> str:
        first, last = (prompt.text_of(request.messages[at].get("content")) for at in (0, -1))
        key = (first, last[last.rfind(prompt.TAIL) :])
        if key not in self.constants:
            if len(self.constants) >= MOST_FIXED:
                self.constants.clear()
            self.constants[key] = _constant(request)
        return self.constants[key]

    def usage(self, request: Request, texts: list[str]) -> wire.Usage:
        """Estimate and count the tokens of a call."""
        chars = sum(len(prompt.text_of(one.get("content"))) for one in request.messages)
        used = wire.usage(chars, texts)
        self.counts.prompt_tokens += used.prompt
        self.counts.completion_tokens += used.completion
        return used


def _mood(effect: Effect) -> Mood:
    if Kind.GARBAGE in effect.kinds:
        return Mood.GARBAGE
    return Mood.WRONG_TYPES if Kind.WRONG_TYPES in effect.kinds else Mood.USUAL


def _constant(request: Request) -> str:
    """Answer a kind of prompt as if its inputs were empty, so that who asks first is no matter."""
    asked = prompt.parse(request.messages)
    if not asked.outputs:
        return reply.WHAT_I_AM
    empty = replace(asked, inputs=dict.fromkeys(asked.inputs, ""), demos=(), final="")
    values = reply.think(empty, Draw())
    return reply.as_json(values) if asked.as_json else reply.as_chat(values)
