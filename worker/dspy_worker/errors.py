"""Every error that the worker raises on purpose, each with the HTTP answer that it becomes.

* WorkerError
  x RequestError             400  the client must change the request
    + MalformedBody          400  the body is not readable JSON
    + HeaderInvalid          400  a header has a value that it cannot have
    + PathUnknown            404
    + PredictionUnknown      404  feedback on something that is no prediction of this app
    + MethodNotAllowed       405
    + BodyTooLarge           413
    + MediaTypeUnsupported   415
    + InputsInvalid          422  readable, but not what the program takes
    + FeedbackInvalid        422  readable, but no feedback
    + QueueFull              429  too many requests at once; has a Retry-After
    + BudgetExhausted        429  the app or the tenant has spent its money; has a Retry-After
  x Unauthorized             401  the ops port was asked without its token
  x ProgramRaised            500  the user's program failed
  x LMError                  502  the language model did not give a usable answer
    + LMAnswerUnusable       502  it answered, but not in the asked form
    + LMRejected             502  it refused the request or its key
    + LMUnavailable          502  it did not answer, or with a failure that may pass
  x Unavailable              503  this worker cannot answer now
    + Draining               503
    + LMCredentialsMissing   503
    + LMCircuitOpen          503  the language model failed too often to be asked now
    + BudgetUnavailable      503  nobody knows what is left of a budget that wants to know
  x DeadlineExceeded         504
* StoreError                 the prediction store cannot be used now; no request fails for it
  + BatchRefused             the database takes these rows never
* LoadError                  the document or the program cannot be served at all; ends the process

`serve/` turns a WorkerError into `application/problem+json`; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One complaint about one place of a request.

    Attributes:
        path: JSON pointer into the body, e.g. "/inputs/text".
        message: What is wrong and what would be right.
        code: Word for machines, e.g. "missing".
    """

    path: str
    message: str
    code: str


class WorkerError(Exception):
    """Base class: whatever the worker tells a client about a failed request.

    Attributes:
        status: HTTP status of the answer.
        slug: Ending of the problem's `type`, the same for all problems of this kind.
        title: Short words for people, the same for all problems of this kind.
        reason: CamelCase word for metrics and logs.
        retry_after: Seconds after which another attempt may succeed, or None.
        fields: Complaints about single fields.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "The worker failed"
    reason: ClassVar[str] = "WorkerError"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        fields: tuple[FieldError, ...] = (),
    ) -> None:
        """Keep the sentence that a client will read."""
        super().__init__(message)
        self.retry_after = retry_after
        self.fields = fields


class RequestError(WorkerError):
    """The client sent something that it must change."""

    status = 400
    slug = "bad-request"
    title = "The request cannot be understood"
    reason = "BadRequest"


class MalformedBody(RequestError):  # noqa: N818 - reads better in a problem
    """The body is no JSON, no UTF-8 or nested too deeply."""

    slug = "malformed-body"
    title = "The body is not readable JSON"
    reason = "MalformedBody"


class HeaderInvalid(RequestError):  # noqa: N818 - reads better in a problem
    """A header of the request has a value that it cannot have."""

    slug = "invalid-header"
    title = "A header is not usable"
    reason = "InvalidHeader"


class PathUnknown(RequestError):  # noqa: N818 - reads better in a problem
    """Nothing is served at this path."""

    status = 404
    slug = "not-found"
    title = "Nothing is served here"
    reason = "NotFound"


class PredictionUnknown(RequestError):  # noqa: N818 - reads better in a problem
    """The id is none that a pod of this app has made."""

    status = 404
    slug = "prediction-unknown"
    title = "No prediction of this app has this id"
    reason = "PredictionUnknown"


class MethodNotAllowed(RequestError):  # noqa: N818 - reads better in a problem
    """The path exists, but not with this method.

    Attributes:
        allow: The methods that it takes, for the header of that name.
    """

    status = 405
    slug = "method-not-allowed"
    title = "The method is not allowed here"
    reason = "MethodNotAllowed"

    def __init__(self, message: str, *, allow: str = "") -> None:
        """Keep the sentence and the methods."""
        super().__init__(message)
        self.allow = allow


class BodyTooLarge(RequestError):  # noqa: N818 - reads better in a problem
    """The body, or the batch in it, is larger than the app allows."""

    status = 413
    slug = "too-large"
    title = "The request is too large"
    reason = "TooLarge"


class MediaTypeUnsupported(RequestError):  # noqa: N818 - reads better in a problem
    """The body is not declared as JSON."""

    status = 415
    slug = "unsupported-media-type"
    title = "The body must be JSON"
    reason = "UnsupportedMediaType"


class InputsInvalid(RequestError):  # noqa: N818 - reads better in a problem
    """The body is JSON, but not what the program takes; `fields` says where."""

    status = 422
    slug = "invalid-inputs"
    title = "The inputs do not fit the program"
    reason = "InvalidInputs"


class FeedbackInvalid(RequestError):  # noqa: N818 - reads better in a problem
    """The body is JSON, but no feedback that the program's outputs allow; `fields` says where."""

    status = 422
    slug = "invalid-feedback"
    title = "The feedback does not fit"
    reason = "InvalidFeedback"


class QueueFull(RequestError):  # noqa: N818 - reads better in a problem
    """All slots are busy and the queue is full."""

    status = 429
    slug = "queue-full"
    title = "Too many requests at once"
    reason = "QueueFull"


class BudgetExhausted(RequestError):  # noqa: N818 - reads better in a problem
    """What the request may cost does not fit into a budget any more.

    Attributes:
        budget: Name of the budget.
    """

    status = 429
    slug = "budget-exhausted"
    title = "The budget is spent"
    reason = "BudgetExhausted"

    def __init__(self, message: str, *, budget: str = "", retry_after: float | None = None) -> None:
        """Keep the sentence and the budget."""
        super().__init__(message, retry_after=retry_after)
        self.budget = budget


class Unauthorized(WorkerError):  # noqa: N818 - reads better in a problem
    """The request lacks the ops token."""

    status = 401
    slug = "unauthorized"
    title = "The ops token is missing or wrong"
    reason = "Unauthorized"


class ProgramRaised(WorkerError):  # noqa: N818 - reads better in a problem
    """The user's program raised, or returned something that does not fit its signature."""

    slug = "program-failed"
    title = "The program failed"
    reason = "ProgramRaised"


class LMError(WorkerError):
    """The language model did not give a usable answer."""

    status = 502
    slug = "lm-error"
    title = "The language model failed"
    reason = "LMError"


class LMAnswerUnusable(LMError):  # noqa: N818 - reads better in a problem
    """The language model answered, but not in the form that the signature asks for."""

    slug = "lm-answer-unusable"
    title = "The language model's answer is not usable"
    reason = "LMAnswerUnusable"


class LMRejected(LMError):  # noqa: N818 - reads better in a problem
    """The language model's server refused the request; the same request will be refused again."""

    slug = "lm-rejected"
    title = "The language model's server refused the request"
    reason = "LMRejected"


class LMUnavailable(LMError):  # noqa: N818 - reads better in a problem
    """The language model's server did not answer, or failed in a way that may pass."""

    slug = "lm-unavailable"
    title = "The language model's server is not available"
    reason = "LMUnavailable"


class Unavailable(WorkerError):  # noqa: N818 - reads better in a problem
    """This worker cannot answer now; another one, or this one later, can."""

    status = 503
    slug = "unavailable"
    title = "The worker is not available"
    reason = "Unavailable"


class Draining(Unavailable):
    """The worker is stopping and could not finish this request in time."""

    slug = "draining"
    title = "The worker is stopping"
    reason = "Draining"


class LMCredentialsMissing(Unavailable):
    """The key of a language model has not been found."""

    slug = "lm-credentials-missing"
    title = "The key of the language model is missing"
    reason = "LMCredentialsMissing"


class LMCircuitOpen(Unavailable):
    """A language model has failed too often and gets no calls for a while."""

    slug = "lm-circuit-open"
    title = "The language model gets no calls at present"
    reason = "LMCircuitOpen"


class BudgetUnavailable(Unavailable):
    """Redis, which knows what is left of a budget, cannot be asked."""

    slug = "budget-unavailable"
    title = "The budget cannot be looked up"
    reason = "BudgetUnavailable"


class DeadlineExceeded(WorkerError):  # noqa: N818 - reads better in a problem
    """The request could not be answered within its time."""

    status = 504
    slug = "deadline-exceeded"
    title = "The answer took too long"
    reason = "DeadlineExceeded"


class StoreError(Exception):
    """The prediction store cannot be used now; the message is one sentence without an address."""


class BatchRefused(StoreError):  # noqa: N818 - reads better where it is caught
    """The database is well and refuses these rows, now and always."""


class LoadError(Exception):
    """The document or the program cannot be served; the message is one sentence for its author."""
