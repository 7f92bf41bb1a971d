"""Requests that schemathesis makes from the OpenAPI document, sent to a real worker.

`make chaos` sends several times as many, by OPENAPI_FUZZ_EXAMPLES.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import worker_process
from tests.services import openapi_hooks

if TYPE_CHECKING:
    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

EXAMPLES = int(os.environ.get("OPENAPI_FUZZ_EXAMPLES", "10"))
"""Requests of each kind and operation; those for the limits of each field come on top."""
SEED = 20261121
DECLARED = {
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
PYTHON = {"python": {"entrypoint": "triage:build"}}
# Types of users are as strict as users make them: a date of theirs may be a number of seconds too.
SOURCE = """
import datetime
from typing import Annotated, Literal, Optional

import dspy
import pydantic


class Item(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    name: Annotated[str, pydantic.Field(min_length=1, max_length=20)]
    price: Annotated[float, pydantic.Field(ge=0)]
    due: Optional[datetime.date] = None


class Triage(dspy.Signature):
    text: str = dspy.InputField()
    items: list[Item] = dspy.InputField()
    weights: dict[str, float] = dspy.InputField()
    when: Optional[datetime.datetime] = dspy.InputField()
    label: Literal["animal", "tool"] = dspy.OutputField()
    first: Optional[Item] = dspy.OutputField()


class Program(dspy.Module):
    signature = Triage

    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("text -> label: Literal['animal', 'tool']")

    def forward(self, text, items, weights, when):
        return dspy.Prediction(label=self.step(text=text).label, first=items[0] if items else None)


def build():
    return Program()
"""
SETTINGS = """
[checks.negative_data_rejection]
# 413, for a batch that is too long, is not among those that are expected by default.
expected-statuses = ["400", "404", "405", "413", "415", "422"]
"""


@pytest.mark.parametrize(
    ("program", "inputs"),
    [
        pytest.param(
            DECLARED,
            {
                "text": "A zebra.",
                "count": 1,
                "share": 0.5,
                "kinds": ["a"],
                "place": {"city": "Rome", "rooms": [1]},
            },
            id="declared",
        ),
        pytest.param(
            PYTHON, {"text": "A zebra.", "items": [], "weights": {}, "when": None}, id="in a thread"
        ),
    ],
)
def test_requests_that_fit_the_document_or_just_not_are_answered_as_it_says(
    lm: PracticeLM, tmp_path: Path, program: dict[str, Any], inputs: dict[str, Any]
) -> None:
    (tmp_path / "triage.py").write_text(SOURCE)
    described = worker_process.document(lm.url, program, maxRequestBytes=20_000, maxBatchSize=5)
    with worker_process.running(tmp_path, described) as worker:
        made = worker.predict(**inputs).json()["id"]
        outcome = fuzz(worker, tmp_path, made)
        served = requests_of(worker)

    found = json.loads((tmp_path / "report.json").read_text())["test_cases"]
    print(f"{found['generated']} requests: {served}")
    assert outcome.returncode == 0, outcome.stdout
    assert found["generated"] > 300
    assert found["with_failures"] == found["errored"] == 0
    for path in ("/v1/predict", "/v1/predict/stream", "/v1/batch", "/v1/feedback"):
        assert served[path, 200] > 5
        assert served[path, 422] > 5
    assert '"level":"error"' not in worker.log.read_text()


def fuzz(worker: Worker, folder: Path, made: str) -> subprocess.CompletedProcess[str]:
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
        openapi_hooks.PREDICTION_VARIABLE: made,
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


def requests_of(worker: Worker) -> Counter[tuple[str, int]]:
    """Return how many requests the worker has answered, by path and status."""
    found: Counter[tuple[str, int]] = Counter()
    for line in httpx.get(f"{worker.ops}/metrics").text.splitlines():
        if counted := re.fullmatch(
            r'dspy_requests_total\{.*code="(\d+)",route="(.*)"\} (.*)', line
        ):
            found[counted[2], int(counted[1])] += int(float(counted[3]))
    return found
