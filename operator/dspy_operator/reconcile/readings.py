"""Specs as they were read last: most looks at an app come without a new generation of it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dspy_operator.core import app as app_spec
from dspy_operator.core import render

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest, Ref

_KEPT: Final = 1024
"""About ten kilobytes each; more apps than this are read anew at each look."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a generation of a spec says.

    Attributes:
        app: The spec as a value.
        belonging: Every child that belongs to it.
    """

    app: App
    belonging: frozenset[Ref]


class Readings:
    """Reads specs, each generation once while it is remembered."""

    def __init__(self, default_image: str) -> None:
        """Remember nothing yet; `default_image` is for specs that name none."""
        self._default_image = default_image
        self._known: OrderedDict[str, tuple[int, Reading]] = OrderedDict()

    def read(self, live: Manifest) -> Reading:
        """Return what a DSPyApp's spec says.

        Raises:
            SpecError: The worker could not load it; the message names the field's path.
        """
        uid, generation = live["metadata"]["uid"], live["metadata"]["generation"]
        known = self._known.get(uid)
        if known is not None and known[0] == generation:
            self._known.move_to_end(uid)
            return known[1]
        app = app_spec.parse(live, default_image=self._default_image)
        reading = Reading(app, render.refs(app))
        self._known[uid] = generation, reading
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return reading
