"""A real worker's life: keys that come and change, users' programs, starts that fail, the drain."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dspy_worker import contract
from tests import practice_fixture, worker_process
from tests.patience import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

SIGNATURE = {
    "instructions": "Label it.\n- animal: zebra\n- tool: saw",
    "inputs": [{"name": "text"}],
    "outputs": [{"name": "label"}],
}
PROGRAM = {"signature": SIGNATURE}
WITH_KEY = {"keySecretRef": {"name": "lm"}}
SYNC = """
import dspy

class Sync(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    def forward(self, text: str):
        return self.ask(text=text)

def build():
    return Sync()
"""
TOOLS = """
def stock(item: str) -> int:
    '''How many of an item are left.'''
    return 7
"""


def test_a_rotated_key_works_without_a_restart(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"
    accepted.write_text("old-key\n")
    with practice_fixture.running("--require-key", str(accepted)) as lm:
        described = worker_process.document(lm.url, PROGRAM, model=WITH_KEY)
        (tmp_path / "keys" / "main").mkdir(parents=True)
        (tmp_path / "keys" / "main" / "key").write_text("old-key")
        with worker_process.running(tmp_path, described) as worker:
            first = worker.predict(text="zebra")
            accepted.write_text("new-key\n")
            refused = worker.predict(text="zebra")
            worker.set_key("new-key")
            again = worker.predict(text="zebra")
            log = worker.log.read_text()

    assert (first.status_code, again.status_code) == (200, 200)
    assert (refused.status_code, refused.json()["type"]) == (
        502,
        "urn:dspy-operator:problem:lm-rejected",
    )
    assert "old-key" not in refused.text + log
    assert lm.url not in refused.text + log


def test_a_key_that_is_missing_is_a_reason_and_not_a_crash(lm: PracticeLM, tmp_path: Path) -> None:
    described = worker_process.document(lm.url, PROGRAM, model=WITH_KEY)
    with worker_process.running(tmp_path, described) as worker:
        unready, refused = worker.ready(), worker.predict(text="zebra")
        worker.set_key("some-key")
        ready = _until_ready(worker)
        answered = worker.predict(text="zebra")
        credential = worker.state()["credentials"][0]

    assert (unready.status_code, unready.json()["reason"]) == (503, "LMCredentialsMissing")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["type"].endswith(":lm-credentials-missing")
    assert ready
    assert answered.status_code == 200
    assert credential["present"]
    assert len(credential["fingerprint"]) == 12


def _until_ready(worker: Worker) -> bool:
    for _ in range(60):
        if worker.ready().status_code == 200:
            return True
        time.sleep(0.05)
    return False


def test_a_key_can_come_from_the_environment(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"
    accepted.write_text("env-key\n")
    with practice_fixture.running("--require-key", str(accepted)) as lm:
        described = worker_process.document(lm.url, PROGRAM, model={"name": "big-lm"})
        with worker_process.running(tmp_path, described, DSPY_KEY_BIG_LM="env-key") as worker:
            assert worker.predict(text="zebra").status_code == 200


def test_a_program_with_only_a_forward_uses_more_threads_than_eight(
    lm: PracticeLM, tmp_path: Path
) -> None:
    (tmp_path / "users_sync.py").write_text(SYNC)
    described = worker_process.document(
        lm.url,
        {"python": {"entrypoint": "users_sync:build"}},
        concurrency=24,
        threads=24,
    )
    lm.faults(kind="latency", ms=400)
    with (
        worker_process.running(tmp_path, described) as worker,
        ThreadPoolExecutor(24) as pool,
    ):
        found = list(pool.map(lambda i: worker.predict(text=f"zebra {i}"), range(24)))

    assert {r.status_code for r in found} == {200}
    assert lm.stats()["peak_in_flight"] > 8


def test_a_client_that_leaves_frees_the_slot_of_a_thread(lm: PracticeLM, tmp_path: Path) -> None:
    (tmp_path / "users_sync.py").write_text(SYNC)
    program = {"python": {"entrypoint": "users_sync:build"}}
    described = worker_process.document(lm.url, program, concurrency=1, threads=2)
    lm.faults(kind="latency", ms=20_000, match="slow")
    with worker_process.running(tmp_path, described) as worker:
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{worker.url}/v1/predict", json={"inputs": {"text": "slow"}}, timeout=0.3)
        began = time.monotonic()
        answered = worker.predict(text="zebra")

    assert answered.status_code == 200
    assert time.monotonic() - began < 20, "the slot came before the thread had ended"


def test_react_uses_a_tool_of_the_user(lm: PracticeLM, tmp_path: Path) -> None:
    (tmp_path / "users_tools.py").write_text(TOOLS)
    program = {
        "signature": {
            "inputs": [{"name": "question"}],
            "outputs": [{"name": "answer"}],
        },
        "module": {"type": "ReAct", "tools": ["users_tools:stock"], "maxIterations": 3},
    }
    described = worker_process.document(lm.url, program)
    with worker_process.running(tmp_path, described) as worker:
        response = worker.predict(question="What is the stock of pens?")

    assert response.status_code == 200
    assert set(response.json()["prediction"]) == {"answer"}
    assert response.json()["usage"]["calls"] >= 2


@pytest.mark.parametrize("adapter", ["Chat", "JSON"])
def test_both_adapters_answer(lm: PracticeLM, tmp_path: Path, adapter: str) -> None:
    described = worker_process.document(lm.url, {**PROGRAM, "adapter": adapter})
    with worker_process.running(tmp_path, described) as worker:
        assert worker.predict(text="A zebra.").json()["prediction"] == {"label": "animal"}


def run(folder: Path, described: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a worker that is expected to end by itself."""
    command = worker_process.command(folder, described)
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_program_that_cannot_be_imported_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "users_broken.py").write_text("import dspy\nimport not_there\n")
    program = {"python": {"entrypoint": "users_broken:build"}}

    ended = run(tmp_path, worker_process.document("http://127.0.0.1:9/v1", program))

    assert ended.returncode == contract.EXIT_PROGRAM_FAILED
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        "dspy-worker: spec.program.python.entrypoint: importing 'users_broken' failed in "
        "users_broken.py line 2: ModuleNotFoundError: No module named 'not_there'"
    )


def test_a_taken_port_is_said_plainly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = worker_process.command(
            tmp_path, worker_process.document("http://127.0.0.1:9/v1", PROGRAM)
        )
        command[command.index("--port") + 1] = str(port)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode != 0
    assert f"cannot listen on port {port}: address already in use" in ended.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not valid YAML: "),
        ("kind: Pod\napiVersion: v1\n", "expected kind DSPyApp of dspy-operator.io/v1alpha1"),
        ("[]", "expected an object, got a list"),
    ],
)
def test_a_document_that_cannot_be_used_is_said_plainly(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(text)

    ended = subprocess.run(
        [*worker_process.COMMAND, "check", str(path)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == contract.EXIT_PROGRAM_FAILED
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_check_prints_the_fields(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(json.dumps(worker_process.document("http://127.0.0.1:9/v1", PROGRAM)))

    ended = subprocess.run(
        [*worker_process.COMMAND, "check", str(path)], capture_output=True, text=True, check=True
    )

    assert "tickets can be served: Predict" in ended.stdout
    assert "text: str" in ended.stdout


class Load:
    """Clients that ask without a pause, and remember every answer and every failure."""

    def __init__(self, url: str, clients: int) -> None:
        self.statuses: list[int] = []
        self.lost: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send nothing new and wait for the answers that are still to come."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                try:
                    body = {"inputs": {"text": "zebra"}}
                    response = client.post(f"{self._url}/v1/predict", json=body)
                    self.statuses.append(response.status_code)
                except httpx.HTTPError as error:
                    self.lost.append(repr(error))
                    return


def stop(worker: Worker) -> None:
    """Ask a worker to end, and wait until it tells that it drains."""
    worker.process.send_signal(signal.SIGTERM)
    until(lambda: worker.ready().json().get("reason") == "Draining")


def test_a_drain_under_load_loses_no_request(lm: PracticeLM, tmp_path: Path) -> None:
    """Clients go on for most of the grace, as they do until the endpoints have learned it."""
    described = worker_process.document(lm.url, PROGRAM, concurrency=4, queueSize=64)
    lm.faults(kind="latency", ms=150)
    with worker_process.running(tmp_path, described, grace_seconds=8) as worker:
        load = Load(worker.url, clients=24)
        load.start()
        until(lambda: len(load.statuses) > 10)
        before = len(load.statuses)
        stop(worker)
        drained_after = len(load.statuses)
        until(lambda: len(load.statuses) > drained_after + 24)
        load.stop()
        code = worker.process.wait(30)

    assert load.lost == []
    assert set(load.statuses) == {200}
    assert len(load.statuses) > before > 10
    assert code == 0


def test_what_was_accepted_is_answered_after_the_listener_has_closed(
    lm: PracticeLM, tmp_path: Path
) -> None:
    described = worker_process.document(lm.url, PROGRAM, concurrency=2, queueSize=8)
    lm.faults(kind="latency", ms=700)
    with (
        worker_process.running(tmp_path, described, grace_seconds=0.1) as worker,
        ThreadPoolExecutor(6) as pool,
    ):
        asked = [pool.submit(worker.predict, text=f"zebra {i}") for i in range(6)]
        until(lambda: worker.state()["in_flight"] + worker.state()["queued"] == 6)
        worker.process.send_signal(signal.SIGTERM)
        found = [future.result() for future in asked]
        code = worker.process.wait(20)

    assert [r.status_code for r in found] == [200] * 6
    assert code == 0


def test_a_draining_worker_closes_its_connections(lm: PracticeLM, tmp_path: Path) -> None:
    described = worker_process.document(lm.url, PROGRAM)
    with (
        worker_process.running(tmp_path, described, grace_seconds=5) as worker,
        httpx.Client() as client,
    ):
        before = client.get(f"{worker.url}/v1/info").headers.get("connection")
        stop(worker)
        after = client.get(f"{worker.url}/v1/info").headers.get("connection")

    assert (before, after) == (None, "close")


def test_a_second_signal_ends_at_once(lm: PracticeLM, tmp_path: Path) -> None:
    described = worker_process.document(lm.url, PROGRAM)
    with worker_process.running(tmp_path, described, grace_seconds=20) as worker:
        stop(worker)
        worker.process.send_signal(signal.SIGTERM)

        assert worker.process.wait(2) == 128 + signal.SIGTERM


def test_an_answer_that_takes_longer_than_the_drain_is_given_up(
    lm: PracticeLM, tmp_path: Path
) -> None:
    described = worker_process.document(lm.url, PROGRAM, timeoutSeconds=3, drainSeconds=3)
    lm.faults(kind="latency", ms=9000)
    with (
        worker_process.running(tmp_path, described, grace_seconds=0) as worker,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(worker.predict, text="zebra")
        until(lambda: worker.state()["in_flight"] == 1)
        worker.process.send_signal(signal.SIGTERM)
        code = worker.process.wait(20)

    assert asked.result().status_code in {503, 504}
    assert code == 0
