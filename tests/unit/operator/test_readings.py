"""A spec is read once for each of its generations."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_operator.errors import SpecError
from dspy_operator.reconcile.readings import Readings
from tests.unit.operator import fakes


def live(generation: int, **spec: object) -> dict[str, Any]:
    found = fakes.app(**spec)
    found["metadata"] |= {"uid": "uid-1", "generation": generation}
    return found


def test_a_generation_is_read_once_and_the_next_one_anew() -> None:
    readings = Readings("worker:1")

    first = readings.read(live(1))

    assert readings.read(live(1)) is first
    second = readings.read(live(2, image="worker:2"))
    assert (first.app.image, second.app.image) == ("worker:1", "worker:2")


def test_an_app_of_the_same_name_is_another_app() -> None:
    readings = Readings("worker:1")
    readings.read(live(1))
    other = live(1, image="worker:2")
    other["metadata"]["uid"] = "uid-2"

    assert readings.read(other).app.uid == "uid-2"


def test_a_spec_that_cannot_be_read_is_refused_each_time() -> None:
    readings = Readings("worker:1")
    readings.read(live(1))

    for _ in range(2):
        with pytest.raises(SpecError):
            readings.read(live(2, models=[]))
