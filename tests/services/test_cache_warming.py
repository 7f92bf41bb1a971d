"""Workers that start with what others have answered: real workers, PostgreSQL and a practice LM."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import worker_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.postgres_process import Postgres
    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

PROGRAM = {
    "signature": {
        "instructions": "Label it.\n- animal: zebra\n- tool: saw",
        "inputs": [{"name": "text"}],
        "outputs": [{"name": "label", "type": "Literal['animal', 'tool']"}, {"name": "a"}],
    }
}
WAIT_SECONDS = 60


def wait(until: Callable[[], object], what: str) -> None:
    """Wait until something is so; the limit only ends a test that hangs."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not until():
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


@dataclass
class Pods:
    """Starts workers of one app, each with files of its own, on one database."""

    lm: PracticeLM
    folder: Callable[[], Path]
    url: str
    processes: ExitStack

    def start(self, url: str = "", **model: Any) -> Worker:  # noqa: ANN401 - as in YAML
        folder = self.folder()
        described = worker_process.document(self.lm.url, PROGRAM, model=model)
        described["spec"] |= {"cache": {}, "store": {"postgres": {"urlSecretRef": {"name": "db"}}}}
        worker_process.set_url(folder, "postgres", url or self.url)
        return self.processes.enter_context(worker_process.running(folder, described))

    def calls(self) -> int:
        return int(self.lm.stats()["calls"])


@pytest.fixture
def pods(
    lm: PracticeLM, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pods]:
    with ExitStack() as processes:
        folder = lambda: tmp_path_factory.mktemp("worker")  # noqa: E731 - a new one for each
        yield Pods(lm, folder, postgres.new_database(), processes)


def is_over(worker: Worker) -> bool:
    return '"event":"cache warmed"' in worker.log.read_text()


def test_the_second_worker_answers_the_question_of_the_first_from_memory(pods: Pods) -> None:
    first = pods.start()
    made = first.predict(text="A zebra.", headers={"X-Tenant": "acme"}).json()
    wait(lambda: first.metric("dspy_store_written_total", kind="prediction") == 1, "not written")

    second = pods.start()
    wait(lambda: second.metric("dspy_cache_warmed_total") == 1, "nothing warms the cache")
    kept = second.predict(text="A zebra.", headers={"X-Tenant": "acme"})

    assert kept.json()["prediction"] == made["prediction"]
    assert kept.json()["cached"]["level"] == "memory"
    assert kept.headers["cache-status"].startswith("dspy-worker; hit; ")
    assert pods.calls() == made["usage"]["calls"] == 1
    second.predict(text="A zebra.", headers={"X-Tenant": "beta"})
    assert pods.calls() == 2


def test_a_worker_with_another_temperature_asks_anew(pods: Pods) -> None:
    first = pods.start()
    first.predict(text="A zebra.")
    wait(lambda: first.metric("dspy_store_written_total", kind="prediction") == 1, "not written")

    second = pods.start(temperature="0.5")
    wait(lambda: is_over(second), "warming does not end")
    second.predict(text="A zebra.")

    assert second.metric("dspy_cache_warmed_total") == 0
    assert pods.calls() == 2


def test_answers_that_were_cleared_by_hand_warm_no_worker(pods: Pods) -> None:
    first = pods.start()
    first.predict(text="A zebra.")
    wait(lambda: first.metric("dspy_store_written_total", kind="prediction") == 1, "not written")
    command = [*worker_process.COMMAND, "cache", "clear", f"{first.folder}/app.json"]
    folder = ["--connections-dir", f"{first.folder}/connections"]

    said = subprocess.run([*command, *folder], check=True, capture_output=True, text=True).stdout
    second = pods.start()
    wait(lambda: is_over(second), "warming does not end")

    assert said == "store: 1 answers will warm no worker\n"
    assert second.metric("dspy_cache_warmed_total") == 0
    assert "cached" not in second.predict(text="A zebra.").json()


def test_a_worker_without_its_database_starts_and_answers(pods: Pods) -> None:
    worker = pods.start("postgresql://nobody@127.0.0.1:9/nothing")

    answer = worker.predict(text="A zebra.")

    assert answer.status_code == 200
    assert worker.metric("dspy_cache_warmed_total") == 0
    assert worker.health()["cache"] == ("ok", "It works.")
