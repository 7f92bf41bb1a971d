"""The practice LM as a model of DSPy, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dspy_worker.practice import reply
from dspy_worker.practice.model import Draw
from dspy_worker.testing import FakeLM

if TYPE_CHECKING:
    import dspy
    from dspy import lm15


def _text(parts: object) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(part.text for part in parts or ())


def _answer(request: lm15.Request) -> str:
    system = {"role": "system", "content": _text(request.system)}
    turns = [{"role": one.role, "content": _text(one.parts)} for one in request.messages]
    return reply.reply([system, *turns], Draw(temperature=request.config.temperature or 0.0))


@pytest.fixture
def practice_model() -> dspy.LM:
    return FakeLM([_answer]).lm("practice")
