"""Hears what the language model says while it speaks, for one request.

DSPy's own streaming listens above the engine, and its listeners lose the text of a field that
arrives in one piece. Here the engine itself tells what it hears: programs in threads stream too, a
repeated attempt is visible, and a piece costs less.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dspy

from dspy_worker.core import fieldtext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspy_worker.core.fieldtext import FieldText


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A piece of an output field.

    Attributes:
        call: Number of the language model's answer within the request, from 1. A field's text is
            that of the highest number: an unusable answer is asked for again.
        predictor: Name of the step of the program; empty where it has none.
        field: Name of the field.
        text: What follows what was told of this field in this call.
    """

    call: int
    predictor: str
    field: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """Who can be heard in a program, the same for all requests.

    Attributes:
        names: The program's steps by the identity of their objects.
        fields: The fields that clients may see.
        adapter: "Chat" or "JSON".
    """

    names: Mapping[int, str] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()
    adapter: str = "Chat"


class Listener:
    """Turns what is heard of one request into tokens; engines call it, from threads too."""

    def __init__(self, voices: Voices, tell: Callable[[Token], None]) -> None:
        """Listen.

        Args:
            voices: Who can be heard.
            tell: Called in the event loop that made the listener.
        """
        self._voices = voices
        self._tell = tell
        self._calls = itertools.count(1)
        self._loop = asyncio.get_running_loop()

    def answer(self) -> Answer:
        """Return what takes the text of the answer that begins now."""
        modules = dspy.settings.caller_modules
        return Answer(
            self,
            fieldtext.of_adapter(self._voices.adapter, self._voices.fields),
            call=next(self._calls),
            predictor=self._voices.names.get(id(modules[-1]), "") if modules else "",
        )

    def pass_on(self, tokens: list[Token]) -> None:
        """Tell tokens, from whatever thread."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for token in tokens:
            if here is self._loop:
                self._tell(token)
            else:
                self._loop.call_soon_threadsafe(self._tell, token)


class Answer:
    """One answer while it arrives."""

    def __init__(self, listener: Listener, reader: FieldText, *, call: int, predictor: str) -> None:
        """Begin with nothing heard."""
        self._listener = listener
        self._reader = reader
        self._call = call
        self._predictor = predictor

    def hear(self, text: str) -> None:
        """Take a piece of the answer."""
        self._pass_on(list(self._reader.feed(text)))

    def end(self) -> None:
        """Take note that it is complete."""
        self._pass_on(list(self._reader.end()))

    def _pass_on(self, told: list[tuple[str, str]]) -> None:
        if told:
            tokens = [
                Token(call=self._call, predictor=self._predictor, field=name, text=text)
                for name, text in told
            ]
            self._listener.pass_on(tokens)
