"""A question to the program and its answer, as the parts that keep or note them see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where an answer comes from that was not made for this request.

    Attributes:
        level: "memory", "redis" or "disk"; "flight" for the answer to an equal request that was
            under way.
        age_seconds: Time since it was made.
        ttl_seconds: Time for which it is still good; negative when it is stale.
    """

    level: str
    age_seconds: float = 0.0
    ttl_seconds: float = 0.0

    @property
    def is_stale(self) -> bool:
        """Whether it is older than answers should be."""
        return self.ttl_seconds < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the program answered: JSON values by output field.

    Attributes:
        prediction: The values.
        kept: Where it comes from; None where the program was asked for this request.
        question: Under which name it was kept just now, as a digest; empty where it was not.
    """

    prediction: Mapping[str, Any]
    kept: Kept | None = None
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One prediction as it is stored.

    Attributes:
        id: The prediction's name, as the client got it.
        unix_ms: When it was answered, in milliseconds since 1970.
        app: NAMESPACE/NAME of the app.
        variant: Which prompts answered; see `AppDocument.variant`.
        request_id: Name of the request.
        tenant: On whose account; may be empty.
        subject: Whom it is about; may be empty.
        inputs: JSON values by input field.
        prediction: JSON values by output field; None where there is no answer.
        error: CamelCase reason why there is none; empty where there is one.
        input_tokens: Tokens of the prompts.
        output_tokens: Tokens of the LM's answers.
        calls: Answers that the LM gave.
        cost_nanos: Price of them in billionths of a US dollar; None where it is not known.
        duration_ms: Time from the request's arrival to its answer.
        cached: Level of the cache that answered; empty where none did.
        degraded: Why the answer is worse than usual.
        question: Digest of the name under which the cache has kept the answer; empty where it has
            not. Whoever makes the same name from these inputs may give the answer again.
    """

    id: str
    unix_ms: int
    app: str
    variant: str
    request_id: str
    tenant: str
    subject: str
    inputs: Mapping[str, Any]
    prediction: Mapping[str, Any] | None
    error: str
    input_tokens: int
    output_tokens: int
    calls: int
    cost_nanos: int | None
    duration_ms: float
    cached: str
    degraded: tuple[str, ...] = field(default=())
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord:
    """What somebody says about one prediction, as it is stored.

    Attributes:
        id: Name of the feedback; feedback of the same name replaces what was said before.
        prediction_id: Name of the prediction.
        unix_ms: When it was given, in milliseconds since 1970.
        app: NAMESPACE/NAME of the app.
        variant: Which prompts answered; empty where the giver did not know.
        tenant: On whose account; may be empty.
        subject: Whom it is about; may be empty.
        score: How good the answer was; None where only words were given.
        label: A word for it; None where there is none.
        correction: What would have been right, JSON values by output field; may be partial.
        comment: Words for people; None where there are none.
        source: Who gave it, such as "user" or "judge"; may be empty.
    """

    id: str
    prediction_id: str
    unix_ms: int
    app: str
    variant: str
    tenant: str
    subject: str
    score: float | None = None
    label: str | None = None
    correction: Mapping[str, Any] | None = None
    comment: str | None = None
    source: str = ""
