"""What is wrong with the pods of an app, in the words of whoever knows best.

The worst trouble of the pods of the present template speaks for the app; pods of older templates
are on their way out and say nothing about the present spec.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspy_operator.core.world import Ended, Pod, Rollout

_PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_HOPELESS_PULL_REASONS = frozenset({"InvalidImageName"})
_CONFIG_REASONS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_PASSING_REASONS = frozenset({"", "Starting", "Loading", "Draining", "ProgramLoading"})
"""Reasons of an unready worker that belong to every start and stop."""
_SENTENCE_LIMIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One reason why an app does not answer as it should.

    Attributes:
        reason: CamelCase word for machines.
        message: Sentence for people.
        stalled: Whether only a change of the spec, the source or the image can help.
        expected: Whether it belongs to every start, so that nobody needs to hear of it.
        rank: The lower, the closer to the cause.
    """

    reason: str
    message: str
    stalled: bool = False
    expected: bool = False
    rank: int = 9

    def with_note(self, note: str) -> Trouble:
        """Return the same trouble with a further sentence."""
        end = "" if self.message.endswith((".", "!", "?")) else "."
        return replace(self, message=f"{self.message}{end} {note}")


def of_pods(pods: Iterable[Pod], rollout: Rollout) -> Trouble | None:
    """Return the worst trouble of the pods that the present template made."""
    found = [_of_pod(p) for p in pods if p.template == rollout.template and not p.ready]
    troubles = [t for t in found if t is not None]
    if rollout.refusal:
        troubles.append(Trouble(reason="PodsRefused", message=rollout.refusal, rank=6))
    if not troubles:
        return _overdue() if rollout.overdue else None
    worst = min(troubles, key=lambda t: (t.rank, t.message))
    return replace(worst, stalled=worst.stalled or rollout.overdue)


def keys_message(keys: Iterable[str]) -> str:
    """Return the sentence about missing keys."""
    return f"The API key of {', '.join(keys)} is missing; pods notice it when it comes."


def _overdue() -> Trouble:
    return Trouble(
        reason="ProgressDeadlineExceeded",
        message="The pods did not become ready within 600 seconds.",
        stalled=True,
    )


def _of_pod(pod: Pod) -> Trouble | None:
    if pod.ended is not None and pod.ended.program_reason:
        return Trouble(
            reason="ProgramFailed", message=short(pod.ended.message), stalled=True, rank=1
        )
    return _of_waiting(pod) or _of_keys(pod) or _of_end(pod) or _of_rest(pod)


def _of_waiting(pod: Pod) -> Trouble | None:
    reason, message = pod.waiting or ("", "")
    if reason in _PULL_REASONS:
        return Trouble(
            reason="ImagePullFailed",
            message=_pull_message(reason, message),
            stalled=reason in _HOPELESS_PULL_REASONS,
            rank=2,
        )
    if reason in _CONFIG_REASONS:
        return Trouble(reason=reason, message=short(message or reason), rank=3)
    return None


def _pull_message(reason: str, message: str) -> str:
    """Keep the kubelet's text without the part that alternates between attempt and back-off."""
    text = message.split(": ErrImagePull: ", 1)[-1]
    return short(text or reason)


def _of_keys(pod: Pod) -> Trouble | None:
    if not pod.missing_keys:
        return None
    return Trouble(reason="LMCredentialsMissing", message=keys_message(pod.missing_keys), rank=4)


def _of_end(pod: Pod) -> Trouble | None:
    if pod.ended is None or (pod.ended.exit_code == 0 and pod.ended.reason == "Completed"):
        return None
    return Trouble(reason="WorkerCrashing", message=_end_message(pod.ended), rank=5)


def _end_message(ended: Ended) -> str:
    what = f"The worker ended with exit code {ended.exit_code}"
    why = f" ({ended.reason})" if ended.reason not in {"", "Error"} else ""
    said = f": {ended.message}" if ended.message else "."
    return short(f"{what}{why}{said}")


def _of_rest(pod: Pod) -> Trouble | None:
    if pod.unschedulable:
        return Trouble(reason="Unschedulable", message=short(pod.unschedulable), rank=7)
    report = pod.report
    if report is None or report.ready or report.not_ready_reason in _PASSING_REASONS:
        return None
    return Trouble(
        reason=report.not_ready_reason,
        message=short(report.not_ready_message or report.not_ready_reason),
        rank=8,
    )


def short(text: str) -> str:
    """Return a text that fits into a condition: an admission webhook may say what it likes."""
    text = text.strip()
    return text if len(text) <= _SENTENCE_LIMIT else f"{text[: _SENTENCE_LIMIT - 3]}..."
