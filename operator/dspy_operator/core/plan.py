"""Desired and live children -> the writes that make them equal; equal ones cost none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_operator.core import manifest, match, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspy_operator.core.manifest import Manifest, Ref
    from dspy_operator.core.options import Scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """One child to apply.

    Attributes:
        desired: The manifest.
        live: The child as it is; None where it does not exist.
        repair: Whether somebody else changed what we had applied.
        replicas: Number of pods that the second field manager has to own, because this apply
            hands the number over to an autoscaler; None where nothing is handed over.
    """

    desired: Manifest
    live: Manifest | None
    repair: bool
    replicas: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order: apply, then delete."""

    applies: tuple[Apply, ...]
    deletes: tuple[Manifest, ...]


def plan(
    desired: Iterable[Manifest],
    live: Mapping[Ref, Manifest],
    *,
    keep: frozenset[Ref],
    uid: str,
    scaling: Scaling | None = None,
) -> Plan:
    """Compare.

    Args:
        desired: The children that the app should have now.
        live: The children that carry the app's label, whoever made them.
        keep: Children that stay even where they are not desired at the moment.
        uid: The app's uid; nothing is deleted that another owner controls.
        scaling: The limits of the autoscaler; None where there is none.
    """
    wanted = {manifest.ref_of(child): child for child in desired}
    steps = (_step(child, live.get(ref), scaling) for ref, child in wanted.items())
    return Plan(
        applies=tuple(step for step in steps if step is not None),
        deletes=tuple(
            child
            for ref, child in live.items()
            if ref not in wanted and ref not in keep and names.controller_uid(child) == uid
        ),
    )


def _step(desired: Manifest, live: Manifest | None, scaling: Scaling | None) -> Apply | None:
    replicas = _handed_over(desired, live, scaling)
    if live is None:
        return Apply(desired=desired, live=None, repair=False, replicas=replicas)
    if not match.differs(desired, live):
        return None
    stamps = [manifest.annotation(m, names.APPLIED) for m in (desired, live)]
    return Apply(desired=desired, live=live, repair=stamps[0] == stamps[1], replicas=replicas)


def _handed_over(desired: Manifest, live: Manifest | None, scaling: Scaling | None) -> int | None:
    """Return the number of pods that must outlive the apply which leaves it out.

    A new Deployment has one pod without our doing; an existing one keeps its number, within the
    limits of the autoscaler, which would not wake up a Deployment of 0 replicas.
    """
    if scaling is None or manifest.annotation(desired, names.SCALED_BY) != names.BY_AUTOSCALER:
        return None
    if live is None:
        return scaling.least if scaling.least > 1 else None
    if manifest.annotation(live, names.SCALED_BY) == names.BY_AUTOSCALER:
        return None
    return scaling.within(live["spec"].get("replicas", 1))
