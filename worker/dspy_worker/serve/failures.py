"""What a failed prediction means for the client.

DSPy wraps errors, and so do programs; the most telling one is somewhere in the chain of causes.
Texts of users' errors and of the LM's server stay out of answers: they may quote inputs or names
of internal hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy.utils import exceptions as dspy_errors

from dspy_worker.errors import (
    LMAnswerUnusable,
    LMError,
    LMRejected,
    LMUnavailable,
    ProgramRaised,
    WorkerError,
)
from dspy_worker.serve import usercode

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dspy

_KINDS = (
    (dspy_errors.LMAuthError, "refused the worker's key"),
    (dspy_errors.LMBillingError, "refused the request for reasons of billing or quota"),
    (dspy_errors.ContextWindowExceededError, "refused the prompt as too long for the model"),
    (dspy_errors.LMUnsupportedModelError, "does not know the model"),
    (dspy_errors.LMInvalidRequestError, "refused the request as invalid"),
)
_PASSING = (
    (dspy_errors.LMRateLimitError, "is over its rate limit"),
    (dspy_errors.LMTimeoutError, "did not answer in time"),
    (dspy_errors.LMServerError, "failed"),
    (dspy_errors.LMTransportError, "cannot be reached"),
)


def explain(error: BaseException) -> WorkerError:
    """Return what a client may read about a failure inside the program."""
    for cause in chain(error):
        if isinstance(cause, WorkerError):
            return cause
        if isinstance(cause, dspy_errors.AdapterParseError):
            return _unusable(cause)
        if isinstance(cause, dspy_errors.LMError) and (known := _lm_error(cause)):
            return known
    if any(isinstance(cause, dspy_errors.LMUnexpectedError) for cause in chain(error)):
        return LMError("The language model's server sent an answer that cannot be read.")
    where = usercode.location(error)
    return ProgramRaised(
        f"The program raised {type(error).__name__}{' in ' + where if where else ''}."
    )


def _unusable(error: dspy_errors.AdapterParseError) -> LMAnswerUnusable:
    asked = getattr(error, "signature", None)
    names = ", ".join(asked.output_fields) if asked is not None else "the outputs"
    return LMAnswerUnusable(
        f"The language model was asked twice and did not answer in the form of: {names}."
    )


def _lm_error(error: dspy.LMError) -> LMError | None:
    status = f" (HTTP {error.status})" if getattr(error, "status", None) else ""
    for kind, what in _KINDS:
        if isinstance(error, kind):
            return LMRejected(f"The language model's server {what}{status}.")
    for kind, what in _PASSING:
        if isinstance(error, kind):
            retry_after = getattr(error, "retry_after", None)
            return LMUnavailable(
                f"The language model's server {what}{status}.", retry_after=retry_after
            )
    if isinstance(error, dspy_errors.LMUnexpectedError):
        return None  # its cause may tell more
    return LMError(f"The language model could not be asked: {type(error).__name__}{status}.")


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, the first cause last.

    A group, as `asyncio.TaskGroup` raises it, counts as its first error.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
