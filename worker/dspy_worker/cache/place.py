"""Where an answer lies: the same name in all levels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Place:
    """The name of a question's answer.

    Attributes:
        variant: Which prompts answer.
        tag: The tenant's tag.
        generation: What was cleared by hand so far.
        key: Hash of the question.
    """

    variant: str
    tag: str
    generation: str
    key: str

    @property
    def name(self) -> str:
        """All of it; variant and tag come first, so that some can be cleared."""
        return f"{self.variant}:{self.tag}:{self.generation}:{self.key}"

    @property
    def digest(self) -> str:
        """The name in short, as the store notes it."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:_DIGITS]
