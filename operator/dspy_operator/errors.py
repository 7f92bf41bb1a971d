"""Every error that the operator raises on purpose.

* OperatorError
  x SpecError             the user must change the object; a retry cannot help
  + ClusterError          the Kubernetes API refused or did not answer; a retry may help
    + UnavailableError    nobody answers: connection errors, timeouts, 429, 5xx
    + ForbiddenError      our rights, a quota or an admission policy say no
    + NotFoundError       the object is gone
    + ConflictError       somebody else was faster or owns the field
    + GoneError           the resourceVersion is too old; list again
    + NotLeadingError       another operator may be at work; nothing was sent
    + RefusedError        the API server calls an object invalid
  + NameTakenError        an object with the name of a child belongs to somebody else

The queue reads `retry_after` and `retry_limit`; conditions, events and metrics read `reason`.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base class: one `except` clause catches whatever the operator raises on purpose.

    Attributes:
        reason: CamelCase word for machines. It becomes the `reason` of a status condition and the
            `reason` label of `dspy_operator_errors_total`.
        retry_after: Seconds before the first further attempt, or None when only a change of the
            world can help. Each failure in a row doubles the wait.
        retry_limit: Longest wait in seconds.
    """

    reason: str = "OperatorError"
    retry_after: float | None = None
    retry_limit: float = 300.0

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Keep the sentence that a user will read in `kubectl describe`."""
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = retry_after


class SpecError(OperatorError):
    """The object asks for something that cannot be done; only its author can fix it."""

    reason = "InvalidSpec"


class ClusterError(OperatorError):
    """The Kubernetes API refused a request.

    Attributes:
        status: HTTP status of the answer; 0 where there was none.
    """

    reason = "ClusterError"
    retry_after: float | None = 0.5
    status: int = 0

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        """Keep the API server's own words, they are the best there are."""
        super().__init__(message, retry_after=retry_after)
        self.status = status


class UnavailableError(ClusterError):
    """Nobody answers, or the server asks us to come later."""

    reason = "APIUnavailable"
    retry_limit = 5.0


class ForbiddenError(ClusterError):
    """Rights, a quota or an admission policy say no. It may pass, so keep trying."""

    reason = "Forbidden"
    retry_limit = 15.0


class NotFoundError(ClusterError):
    """The object, its namespace or its kind is not there."""

    reason = "NotFound"


class ConflictError(ClusterError):
    """A precondition failed, or another manager owns a field."""

    reason = "Conflict"


class GoneError(ClusterError):
    """The resourceVersion is too old to go on watching from."""

    reason = "Gone"


class NotLeadingError(ClusterError):
    """This process does not hold the lease any more; the write was not sent."""

    reason = "NotLeading"


class RefusedError(ClusterError):
    """The API server calls an object invalid; the user's values are in it."""

    reason = "ObjectRefused"
    retry_after: float | None = 30.0


class NameTakenError(OperatorError):
    """An object with a child's name is there already and does not belong to the app."""

    reason = "NameTaken"
    retry_after: float | None = 10.0
    retry_limit = 60.0


class ContestedError(OperatorError):
    """A child is written by us and by somebody else in turns; we go on, but slowly."""

    reason = "Contested"
    retry_after: float | None = 2.0
    retry_limit = 10.0
