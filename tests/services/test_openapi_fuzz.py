"""Requests that schemathesis makes from the OpenAPI document, sent to a real worker.

About FIXME requests; `make chaos` sends many more by OPENAPI_FUZZ_EXAMPLES.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests import worker_process
from tests.services import openapi_hooks

if TYPE_CHECKING:
    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

EXAMPLES = int(os.environ.get("OPENAPI_FUZZ_EXAMPLES", "10"))
"""Requests of each kind; several kinds make one operation."""
SEED = 20261121
PROGRAM = {
    "signature": {
        "instructions": "Label it.\n- animal: zebra\n- tool: saw",
        "inputs": [
            {"name": "text"},
            {"name": "count", "type": "int"},
            {"name": "share", "type": "float"},
            {"name": "kinds", "type": "list[Literal['a', 'b']]"},
            {"name": "place", "type": "Place"},
        ],
        "outputs": [
            {"name": "label", "type": "Literal['animal', 'tool']"},
            {"name": "found", "type": "Place"},
        ],
        "types": [
            {
                "name": "Place",
                "fields": [{"name": "city"}, {"name": "rooms", "type": "list[int]"}],
            }
        ],
    },
    "module": {"type": "ChainOfThought"},
}
# A batch that is too long is 413, which schemathesis does not take for a refusal of its own accord.
SETTINGS = """
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "413", "415", "422"]
"""


def test_requests_that_fit_the_document_or_just_not_are_answered_as_it_says(
    lm: PracticeLM, tmp_path: Path
) -> None:
    described = worker_process.document(lm.url, PROGRAM, maxRequestBytes=20_000, maxBatchSize=5)
    with worker_process.running(tmp_path, described) as worker:
        outcome = fuzz(worker, tmp_path)
        served = requests_of(worker)
        report = json.loads((tmp_path / "report.json").read_text())

    print(json.dumps(report["test_cases"]), json.dumps(served))
    assert outcome.returncode == 0, outcome.stdout
    assert report["test_cases"]["with_failures"] == 0
    assert min(served[path] for path in ("/v1/predict", "/v1/predict/stream", "/v1/batch")) > 50
    assert lm.stats()["calls"] > 20
    assert '"level":"error"' not in worker.log.read_text()


def fuzz(worker: Worker, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "schemathesis.toml").write_text(SETTINGS)
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        *("--config-file", str(folder / "schemathesis.toml")),
        *("run", f"{worker.url}/openapi.json", "--max-examples", str(EXAMPLES)),
        *("--seed", str(SEED), "--generation-database", "none", "--no-color"),
        *("--report", "json", "--report-json-path", str(folder / "report.json")),
        "--continue-on-failure",
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.services.openapi_hooks",
        openapi_hooks.PREDICTION_VARIABLE: prediction(worker),
    }
    return subprocess.run(
        command,
        env=environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def prediction(worker: Worker) -> str:
    place = {"city": "Rome", "rooms": [1]}
    response = worker.predict(text="A zebra.", count=1, share=0.5, kinds=["a"], place=place)
    return str(response.json()["id"])


def requests_of(worker: Worker) -> dict[str, int]:
    """Return how many requests the worker has answered, by path."""
    found: dict[str, int] = {}
    for line in httpx.get(f"{worker.ops}/metrics").text.splitlines():
        if line.startswith("dspy_requests_total"):
            labels, _, value = line.rpartition(" ")
            path = labels.split('route="')[1].split('"')[0]
            found[path] = found.get(path, 0) + int(float(value))
    return found
