"""What anybody may know of the models behind a worker."""

from __future__ import annotations

import json

import pytest

from dspy_worker.contract import app
from dspy_worker.core.limiter import Limits
from dspy_worker.edge import keys
from dspy_worker.edge.guard import Guard
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.serve.admission import Admission
from dspy_worker.serve.health import Health

DOCUMENT = app.load(
    {
        "apiVersion": app.API_VERSION,
        "kind": app.KIND,
        "metadata": {"name": "qa"},
        "spec": {
            "program": {"signature": {"inputs": [{"name": "a"}], "outputs": [{"name": "b"}]}},
            "models": [
                {
                    "name": "main",
                    "model": "m",
                    "endpoint": "http://secret-host/v1",
                    "keySecretRef": {"name": "lm"},
                    "breaker": {"minimumCalls": 1},
                }
            ],
        },
    }
)
(MODEL,) = DOCUMENT.models


def health(guard: Guard, key: str | None = "sk-1") -> Health:
    return Health(
        document=DOCUMENT,
        keys={"main": keys.FixedKey("DSPY_KEY_MAIN", key)},
        admission=Admission(Limits(concurrency=1, queue_size=1)),
        throttled=lambda: False,
        guards={"main": guard},
    )


def opened() -> Guard:
    guard = Guard(MODEL, Metrics("qa"))
    guard.settle(guard.enter(first=True), failed=True, seconds=0.1)
    return guard


@pytest.mark.parametrize(
    ("guard", "key", "status", "state"),
    [
        pytest.param(Guard(MODEL, Metrics("qa")), "sk-1", "ok", "ok", id="well"),
        pytest.param(opened(), "sk-1", "degraded", "failing", id="an open circuit"),
        pytest.param(Guard(MODEL, Metrics("qa")), None, "degraded", "failing", id="no key"),
    ],
)
def test_a_model_that_cannot_be_asked_is_failing(
    guard: Guard, key: str | None, status: str, state: str
) -> None:
    told = health(guard, key).components()

    assert (told["status"], told["components"][0]["state"]) == (status, state)
    assert told["components"][0]["name"] == "lm/main"
    assert not any(word in json.dumps(told) for word in ("secret-host", "sk-1", "DSPY_KEY"))


def test_an_open_circuit_does_not_make_the_worker_unready() -> None:
    assert health(opened()).obstacle() == ("", "")
