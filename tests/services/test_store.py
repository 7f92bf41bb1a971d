"""The prediction store with a real worker and PostgreSQL, through all that can happen to them."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import worker_process
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres_process import Postgres
    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

DECLARED = {
    "signature": {
        "instructions": "Label it.\n- animal: zebra\n- tool: saw",
        "inputs": [{"name": "text", "description": "what to label"}],
        "outputs": [{"name": "label", "type": "Literal['animal', 'tool']"}],
    }
}


@dataclass
class World:
    """A worker that is started and started again on the same files, and its database."""

    folder: Path
    lm: PracticeLM
    postgres: Postgres
    url: str
    processes: ExitStack
    store: dict[str, Any] = field(default_factory=dict)

    def start(self, *, url: str | None = None, local: bool = False) -> Worker:
        described = worker_process.document(self.lm.url, DECLARED, timeoutSeconds=30)
        secret = {"urlSecretRef": {"name": "db"}}
        described["spec"]["store"] = {"postgres": secret, **self.store}
        if not local:
            path = self.folder / "connections/postgres/url"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.url if url is None else url)
        return self.processes.enter_context(worker_process.running(self.folder, described))

    def stored(self) -> list[str]:
        if self.postgres.ask("SELECT to_regclass('predictions')", self.url) == [(None,)]:
            return []
        return [row[0] for row in self.postgres.ask("SELECT id FROM predictions", self.url)]


@pytest.fixture
def world(tmp_path: Path, lm: PracticeLM, postgres: Postgres) -> Iterator[World]:
    with ExitStack() as processes:
        yield World(tmp_path, lm, postgres, postgres.new_database(), processes)


def is_up(worker: Worker) -> bool:
    return worker.health()["store"][0] == "ok"


def is_written(worker: Worker) -> bool:
    return worker.metric("dspy_store_spool_bytes") == 0 and is_up(worker)


class Load:
    """Clients that ask all the time and keep the names of what they were answered."""

    def __init__(self, clients: int = 6) -> None:
        self.answered: list[str] = []
        self.refused: list[int] = []
        self._clients = clients
        self._stop = threading.Event()

    @contextmanager
    def on(self, worker: Worker) -> Iterator[None]:
        with ThreadPoolExecutor(self._clients) as pool:
            for number in range(self._clients):
                pool.submit(self._ask, worker, number)
            try:
                yield
            finally:
                self._stop.set()

    def _ask(self, worker: Worker, number: int) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                body = {"inputs": {"text": f"A zebra of {number}."}}
                try:
                    response = client.post(f"{worker.url}/v1/predict", json=body)
                except httpx.HTTPError:
                    return
                if response.status_code == 200:
                    self.answered.append(response.json()["id"])
                else:
                    self.refused.append(response.status_code)

    def wait_for(self, number: int) -> None:
        until(lambda: len(self.answered) >= number, "the clients get no answers")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*worker_process.COMMAND, "store", *arguments], capture_output=True, text=True, check=False
    )


def test_predictions_are_stored_with_what_is_known_of_them(world: World) -> None:
    worker = world.start()
    headers = {"X-Tenant": "acme", "X-Subject": "customer-7", "X-Request-Id": "r-1"}

    answer = worker.predict(text="A zebra.", headers=headers).json()
    world.lm.faults(kind="status", status=400)
    worker.predict(text="A saw.")
    until(lambda: len(world.stored()) == 2, "the predictions are not stored")

    good, bad = world.postgres.ask(
        "SELECT id, app, tenant, subject, request_id, inputs, prediction, error, calls,"
        " input_tokens, variant, extract(epoch FROM now() - created) FROM predictions"
        " ORDER BY created",
        world.url,
    )
    assert good[:9] == (
        answer["id"], "default/tickets", "acme", "customer-7", "r-1",
        {"text": "A zebra."}, answer["prediction"], "", 1,
    )  # fmt: skip
    assert good[9] == answer["usage"]["inputTokens"]
    assert len(good[10]) == 12
    assert 0 <= good[11] < 60
    assert (bad[6], bad[7]) == (None, "LMRejected")
    assert worker.metric("dspy_store_written_total", kind="prediction") == 2
    assert worker.metric("dspy_store_up") == 1
    assert worker.health()["store"] == ("ok", "It works.")


def test_postgres_dies_under_load_and_nothing_is_lost_or_stored_twice(world: World) -> None:
    worker, load = world.start(), Load()
    with load.on(worker):
        load.wait_for(50)
        world.postgres.kill()
        load.wait_for(len(load.answered) + 200)
        until(lambda: not is_up(worker), "nobody tells that PostgreSQL is away")
        assert worker.ready().status_code == 200
        world.postgres.start()
        load.wait_for(len(load.answered) + 50)
    until(lambda: is_written(worker), "the journal is not emptied")

    stored = world.stored()
    assert sorted(stored) == sorted(load.answered)
    assert len(set(stored)) == len(stored) >= 300
    assert load.refused == []
    assert worker.metric("dspy_store_lost_total", reason="full") == 0
    assert "s3cret" not in worker.log.read_text()


def test_a_worker_is_killed_under_load_and_what_clients_have_is_stored(world: World) -> None:
    worker, load = world.start(), Load()
    with load.on(worker):
        load.wait_for(100)
        worker.process.kill()
    again = world.start()
    until(lambda: is_written(again), "the journal is not emptied")

    stored = world.stored()
    assert set(load.answered) <= set(stored)
    assert len(set(stored)) == len(stored)
    assert len(load.answered) >= 100


def test_postgres_dies_and_then_the_worker_and_both_come_back(world: World) -> None:
    worker, load = world.start(), Load()
    with load.on(worker):
        load.wait_for(50)
        world.postgres.kill()
        load.wait_for(len(load.answered) + 100)
        worker.process.kill()
    again, more = world.start(), Load()
    with more.on(again):
        more.wait_for(50)
        world.postgres.start()
        more.wait_for(len(more.answered) + 50)
    until(lambda: is_written(again), "the journal is not emptied")

    stored = world.stored()
    assert set(load.answered) | set(more.answered) <= set(stored)
    assert len(set(stored)) == len(stored)


def test_a_worker_that_stops_leaves_nothing_behind(world: World) -> None:
    worker = world.start()
    answered = [worker.predict(text="A zebra.").json()["id"] for _ in range(5)]
    worker.process.terminate()
    assert worker.process.wait(30) == 0

    assert sorted(world.stored()) == sorted(answered)
    assert list((world.folder / "data").rglob("*.journal")) == []


def test_a_missing_a_wrong_and_at_last_the_right_url(world: World) -> None:
    worker = world.start(url="")
    answered = [worker.predict(text="A zebra.").json()["id"]]
    until(lambda: "is missing" in worker.health()["store"][1], "the missing URL is not told")

    worker.set_url(world.postgres.url("nothing", password="wr0ng-Pa55"), "postgres")
    until(lambda: "the user or the password" in worker.health()["store"][1], "not told")
    answered.append(worker.predict(text="A saw.").json()["id"])
    assert worker.metric("dspy_store_up") == 0

    worker.set_url(world.url, "postgres")
    until(lambda: is_written(worker), "the journal is not emptied")
    assert sorted(world.stored()) == sorted(answered)
    text = worker.log.read_text() + httpx.get(f"{worker.url}/v1/health").text
    assert "wr0ng" not in text
    assert str(world.postgres.port) not in text


def test_tables_of_a_newer_worker_are_left_alone_and_the_journal_keeps(world: World) -> None:
    assert command("migrate", "--url", world.url).stdout == "The tables have version 2.\n"
    world.postgres.ask("INSERT INTO store_migrations VALUES (99, 'later', 'x')", world.url)
    worker = world.start()
    answered = worker.predict(text="A zebra.").json()["id"]
    until(lambda: "it is too old" in worker.health()["store"][1], "not told")
    assert world.stored() == []

    world.postgres.ask("DELETE FROM store_migrations WHERE number = 99", world.url)

    until(lambda: is_written(worker), "the journal is not emptied")
    assert world.stored() == [answered]


def test_a_full_journal_goes_on_in_memory_and_from_there_to_postgres(world: World) -> None:
    world.store = {"spoolBytes": 1 << 20}
    worker = world.start(url="")
    text = "A zebra. " * 10_000
    answered = [worker.predict(text=text).json()["id"] for _ in range(20)]
    until(lambda: "The journal is full." in worker.health()["store"][1], "not told")
    assert worker.metric("dspy_store_spool_bytes") <= 1 << 20

    worker.set_url(world.url, "postgres")

    until(lambda: len(world.stored()) == 20, "what waits in memory is not written")
    assert sorted(world.stored()) == sorted(answered)
    worker.predict(text="A saw.")
    until(lambda: is_written(worker), "the journal does not recover")
    assert worker.metric("dspy_store_lost_total", reason="full") == 0


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """Mount a disk of 512 KiB where the worker keeps its data."""
    disk = world.folder / "data"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    world.processes.close()
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_costs_no_answer_and_no_prediction(world: World, small_disk: Path) -> None:
    worker = world.start(url="")
    (small_disk / "ballast").write_bytes(bytes(480 << 10))
    text = "A zebra. " * 1_000
    answered = [worker.predict(text=text).json()["id"] for _ in range(12)]
    until(lambda: "no space left on device" in worker.health()["store"][1], "not told")

    worker.set_url(world.url, "postgres")

    until(lambda: len(world.stored()) == 12, "what waits in memory is not written")
    assert sorted(world.stored()) == sorted(answered)
    (small_disk / "ballast").unlink()
    until(lambda: worker.predict(text="A saw.") and is_written(worker), "no recovery")
    assert worker.metric("dspy_store_lost_total", reason="full") == 0


def test_an_erased_subject_does_not_come_back_from_the_journal(world: World) -> None:
    worker = world.start(url="")
    worker.predict(text="A zebra.", headers={"X-Subject": "customer-7"})
    kept = worker.predict(text="A saw.", headers={"X-Subject": "customer-8"}).json()["id"]

    done = command("erase", "--url", world.url, "--subject", "customer-7")
    worker.set_url(world.url, "postgres")
    until(lambda: is_written(worker), "the journal is not emptied")

    assert json.loads(done.stdout) == {"predictions": 0, "feedback": 0}
    assert world.stored() == [kept]
    later = worker.predict(text="A zebra.", headers={"X-Subject": "customer-7"}).json()["id"]
    until(lambda: len(world.stored()) == 2, "what comes later is not stored")
    done = command("erase", "--url", world.url, "--subject", "customer-7")
    assert json.loads(done.stdout) == {"predictions": 1, "feedback": 0}
    assert later not in world.stored()


def test_local_mode_keeps_predictions_in_sqlite_with_the_same_document(world: World) -> None:
    worker = world.start(local=True)
    answers = [worker.predict(text=text).json() for text in ("A zebra.", "A saw.")]
    until(lambda: is_written(worker), "the journal is not emptied")

    place = [str(world.folder / "app.json"), "--data-dir", str(world.folder / "data")]
    found = command("search", *place, "--text", "saw", "--field", "label=tool")

    row, cursor = (json.loads(line) for line in found.stdout.splitlines())
    assert (row["id"], row["prediction"]) == (answers[1]["id"], answers[1]["prediction"])
    assert cursor == {"cursor": ""}
    told = json.loads(command("report", *place).stdout)
    assert (told["predictions"], told["feedback"], told["version"]) == (2, 0, 2)
    assert told["meanQueryMilliseconds"] > 0
    assert (world.folder / "data/predictions.sqlite").stat().st_mode & 0o077 == 0


def test_a_killed_worker_of_local_mode_has_lost_nothing(world: World) -> None:
    worker, load = world.start(local=True), Load(3)
    with load.on(worker):
        load.wait_for(40)
        worker.process.kill()
    again = world.start(local=True)
    until(lambda: is_written(again), "the journal is not emptied")

    found = command("export", f"--url=sqlite:{world.folder}/data/predictions.sqlite")

    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert {row["metadata"]["id"] for row in rows} >= set(load.answered)
    assert rows[0]["outputs"] == {"label": "animal"}


def test_what_nobody_waited_for_is_stored_with_the_reason(world: World) -> None:
    worker = world.start()
    until(lambda: is_up(worker), "PostgreSQL to be used")
    world.lm.faults(kind="latency", ms=3000)

    late = worker.predict(headers={"X-Request-Timeout-Seconds": "0.3"}, text="A late zebra.")
    body = {"inputs": {"text": "A zebra that nobody waits for."}}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{worker.url}/v1/predict", json=body, timeout=0.3)

    def stored() -> dict[str, str]:
        rows = world.postgres.ask("SELECT inputs->>'text', error FROM predictions", world.url)
        return {row[0]: row[1] for row in rows}

    until(lambda: len(stored()) == 2, "both predictions to be stored")
    assert late.status_code == 504
    assert stored() == {
        "A late zebra.": "DeadlineExceeded",
        "A zebra that nobody waits for.": "ClientGone",
    }
