"""What the long run makes of its samples, and that its document is one that the worker reads."""

from __future__ import annotations

import pytest

from bench import soak
from bench.soak import Sample
from dspy_worker.contract import app

LM = "http://127.0.0.1:8000/v1"


def sample(requests: int, memory_mib: float) -> Sample:
    return Sample(
        requests=requests,
        failed=0,
        memory_mib=memory_mib,
        cache_mib=1.0,
        spooled_mib=0.5,
        lost=0,
    )


def test_the_slope_is_that_of_the_later_samples_for_a_hundred_thousand_requests() -> None:
    samples = [sample(1, 50), sample(1000, 90), sample(2500, 100), sample(5000, 101)]
    samples += [sample(7500, 102), sample(10_000, 103)]

    assert soak.slope(samples, 10_000) == pytest.approx(40)


def test_the_report_has_a_row_for_each_sample() -> None:
    samples = [sample(1, 50), sample(2500, 100), sample(10_000, 100)]

    text = soak.report(10_000, samples)

    assert "| 10,000 | 100.0 MiB | 1.00 MiB | 0.5 MiB | 0 | 0 |" in text
    assert "+0.00 MiB per 100,000 requests" in text


def test_nothing_is_left_out_of_the_document() -> None:
    document = app.load(soak.document(LM))

    assert document.redis
    assert document.cache
    assert document.store
    assert document.budgets
    assert all(model.price for model in document.asked())
