"""Streams that are open while pods are replaced come to their end."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from devcluster.apps import Apps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.access import Access

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TEXT = {"text": "I was charged twice for my subscription this month"}
RATE, SECONDS = 10, 75


@pytest.fixture
def here(operator_installed: Access) -> Iterator[Apps]:
    name = operator_installed.create_namespace("streams")
    apps = Apps(cluster=operator_installed, namespace=name)
    apps.start_practice_lm()
    apps.apply_file("examples/tickets/app.yaml")
    apps.wait_ready("tickets")
    yield apps
    operator_installed.delete_namespace(name)


def speak_slowly(here: Apps) -> None:
    """Let the LM take two seconds for each answer, so that many streams are open at any moment."""
    plan = json.dumps({"kind": "slow_stream", "ms": 100}).encode()
    with here.forward("practice-lm") as url:
        request = urllib.request.Request(
            f"{url}/control/faults", plan, {"Content-Type": "application/json"}, method="PUT"
        )
        urllib.request.urlopen(request, timeout=10).close()


def test_no_stream_breaks_while_pods_are_replaced_and_removed(here: Apps) -> None:
    speak_slowly(here)
    here.start_load("tickets", TEXT, rate=RATE, seconds=SECONDS, path="/v1/predict/stream")

    patch = {"spec": {"program": {"signature": {"instructions": "Sort it. Be precise."}}}}
    here.kubectl("patch", "dspyapp", "tickets", "--type=merge", f"--patch={json.dumps(patch)}")
    time.sleep(1)
    here.wait_ready("tickets")
    here.kubectl("scale", "dspyapp/tickets", "--replicas=1")
    here.wait_ready("tickets")

    summary = here.finish_load()
    assert summary["failed"] == 0, summary
    assert summary["sent"] == RATE * SECONDS
    assert summary["p50_ms"] > 500, "streams were open for a while"
