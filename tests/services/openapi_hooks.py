"""What schemathesis has to know of a worker beyond its OpenAPI document.

It imports this module by the name in SCHEMATHESIS_HOOKS.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import jsonschema
import schemathesis

from dspy_worker.core.predictionid import LONGEST

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, HookContext, Response

EVENT_STREAM = "text/event-stream"
TIMEOUT_HEADER = "X-Request-Timeout-Seconds"
PATIENCE_SECONDS = 30
PREDICTION_VARIABLE = "PREDICTION_ID"
"""Names a prediction that the worker has made."""
EVENTS = {"status", "token", "result", "error"}


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Describe single events: OpenAPI 3.1 has no words for them, and schemathesis has."""
    answer = raw_schema["paths"]["/v1/predict/stream"]["post"]["responses"]["200"]
    answer["content"][EVENT_STREAM] = {
        "itemSchema": {
            "type": "object",
            "required": ["event", "data"],
            "properties": {"event": {"enum": sorted(EVENTS)}, "data": {"type": "string"}},
        }
    }


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Be patient, and speak of a prediction that was made.

    Nearly every number above 0 is far less than an answer takes, and no made-up id is one.
    """
    if case.headers and 0 < _number(case.headers.get(TIMEOUT_HEADER, "")) < PATIENCE_SECONDS:
        case.headers[TIMEOUT_HEADER] = str(PATIENCE_SECONDS)
    if isinstance(case.body, dict) and _may_be_real(case.body.get("predictionId")):
        case.body["predictionId"] = os.environ[PREDICTION_VARIABLE]


@schemathesis.check
def streams_end_with_their_result(ctx: CheckContext, response: Response, case: Case) -> None:
    """A stream has one last event, and that is what `/v1/predict` would have answered."""
    if not response.headers.get("content-type", [""])[0].startswith(EVENT_STREAM):
        return
    blocks = [block for block in response.text.split("\n\n") if block and block[0] != ":"]
    events = [(block.split("\n")[0][7:], json.loads(block.split("\n")[1][6:])) for block in blocks]
    names = [name for name, _ in events]
    assert names[-1] == "result", names
    assert names.count("result") == 1
    document = case.operation.schema.raw_schema
    operation = document["paths"]["/v1/predict"]["post"]
    wanted = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**wanted, "components": document["components"]}).validate(
        events[-1][1]
    )


def _may_be_real(name: object) -> bool:
    """Return whether to replace an id: one in two, of those that fit the document."""
    return isinstance(name, str) and 1 <= len(name) <= LONGEST and len(name) % 2 == 1


def _number(text: object) -> float:
    """Return the number that a header says; 0 if it says none."""
    try:
        return float(str(text))
    except ValueError:
        return 0.0
