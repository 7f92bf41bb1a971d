"""What stands in front of a program: answers a question from what is kept, or asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dspy_worker.core.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dspy_worker.edge.call import Call


class Shelf(Protocol):
    """Keeps answers of one program."""

    async def answer(
        self,
        inputs: Callable[[], Mapping[str, Any]],
        call: Call,
        ask: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> Answer:
        """Return an answer that is kept, or what `ask` returns.

        Args:
            inputs: Gives the checked inputs as JSON values, by field.
            call: The request's call: its origin says whose answers may be used, its `waited` is
                added to while another request's answer is waited for.
            ask: Asks the program.

        Raises:
            WorkerError: What `ask` raised, when there is nothing to answer instead.
        """

    def recall(self, inputs: Callable[[], Mapping[str, Any]], call: Call) -> Answer | None:
        """Return a good answer that is at hand, without waiting for anything; else None."""

    def holds(self, inputs: Callable[[], Mapping[str, Any]], call: Call) -> bool:
        """Return whether an answer is at hand, so that a request is not refused before it is asked.

        Only the memory of this pod is looked at.
        """


class NoShelf:
    """Keeps nothing."""

    async def answer(
        self,
        inputs: Callable[[], Mapping[str, Any]],  # noqa: ARG002 - no key is made
        call: Call,  # noqa: ARG002
        ask: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> Answer:
        """Ask, always."""
        return Answer(prediction=await ask())

    def recall(self, inputs: Callable[[], Mapping[str, Any]], call: Call) -> Answer | None:  # noqa: ARG002
        """Return None: nothing is kept."""
        return None

    def holds(self, inputs: Callable[[], Mapping[str, Any]], call: Call) -> bool:  # noqa: ARG002
        """Return False: nothing is kept."""
        return False
