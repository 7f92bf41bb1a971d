"""The garbage collector beside the requests."""

import gc
from collections.abc import Iterator

import pytest

from dspy_worker.serve import lifecycle


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_is_loaded_is_left_alone_and_rubbish_of_requests_still_goes() -> None:
    lifecycle._spare_the_collector()
    assert gc.get_freeze_count() > 10_000

    for _ in range(200_000):
        circle: list[object] = []
        circle.append(circle)
    assert gc.get_count()[0] < 20_000, "circles are collected as they come"
