"""Fakes for tests, ours and our users': a language model that answers from a script."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import dspy
from dspy import lm15

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Answer = str | Exception | Callable[[lm15.Request], str]

USAGE = lm15.Usage(input_tokens=10, output_tokens=5, total_tokens=15)


def chat(**fields: object) -> str:
    """Return an answer in the form that DSPy's ChatAdapter reads."""
    sections = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


class FakeLM:
    """Answers from a script and keeps the requests that it got.

    Attributes:
        requests: What was asked, in order.
    """

    def __init__(self, answers: Iterable[Answer], *, seconds: float = 0.0) -> None:
        """Prepare the script; its last entry is repeated for ever.

        Args:
            answers: Texts, exceptions to raise, or functions of the request.
            seconds: How long the asynchronous engine takes for an answer.
        """
        self.requests: list[lm15.Request] = []
        self._answers = list(answers)
        self._seconds = seconds

    def lm(self, model: str = "fake") -> dspy.LM:
        """Return a model for `dspy.context(lm=...)`."""
        return dspy.LM(
            f"openai/{model}",
            engine=_Engine(self),
            async_engine=_AsyncEngine(self, self._seconds),
            cache=False,
            num_retries=0,
        )

    def answer(self, request: lm15.Request) -> lm15.Response:
        """Return the next answer of the script."""
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        text = answer if isinstance(answer, str) else answer(request)
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant(text),
            finish_reason="stop",
            usage=USAGE,
        )


class _Engine:
    """The synchronous door to a `FakeLM`."""

    supported_params = frozenset({"temperature", "max_tokens"})

    def __init__(self, fake: FakeLM) -> None:
        self._fake = fake

    def complete(self, request: lm15.Request) -> lm15.Response:
        return self._fake.answer(request)

    def stream(self, request: lm15.Request) -> Any:  # noqa: ANN401 - an iterator of events
        return lm15.response_to_events(self.complete(request))


class _AsyncEngine:
    """The asynchronous door to a `FakeLM`."""

    def __init__(self, fake: FakeLM, seconds: float) -> None:
        self._fake, self._seconds = fake, seconds

    async def complete(self, request: lm15.Request) -> lm15.Response:
        await asyncio.sleep(self._seconds)
        return self._fake.answer(request)

    async def stream(self, request: lm15.Request) -> Any:  # noqa: ANN401 - an iterator of events
        for event in lm15.response_to_events(await self.complete(request)):
            yield event
