"""Desired and live children -> the writes that make them equal; equal ones cost none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_operator.core import manifest, match, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspy_operator.core.manifest import Manifest, Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """One child to apply.

    Attributes:
        desired: The manifest.
        live: The child as it is; None where it does not exist.
        repair: Whether somebody else changed what we had applied.
    """

    desired: Manifest
    live: Manifest | None
    repair: bool


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
) -> Plan:
    """Compare.

    Args:
        desired: The children that the app should have now.
        live: The children that carry the app's label, whoever made them.
        keep: Children that stay even where they are not desired at the moment.
        uid: The app's uid; nothing is deleted that another owner controls.
    """
    wanted = {manifest.ref_of(child): child for child in desired}
    steps = (_step(child, live.get(ref)) for ref, child in wanted.items())
    return Plan(
        applies=tuple(step for step in steps if step is not None),
        deletes=tuple(
            child
            for ref, child in live.items()
            if ref not in wanted and ref not in keep and names.controller_uid(child) == uid
        ),
    )


def _step(desired: Manifest, live: Manifest | None) -> Apply | None:
    if live is None:
        return Apply(desired=desired, live=None, repair=False)
    if not match.differs(desired, live):
        return None
    stamps = [manifest.annotation(m, names.APPLIED) for m in (desired, live)]
    return Apply(desired=desired, live=live, repair=stamps[0] == stamps[1])
