"""An app with PostgreSQL and Redis in a real cluster: answers, predictions, outages."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from demo import production
from devcluster.apps import Apps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.access import Access
    from devcluster.embedded import EmbeddedCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

APP = production.APP
AT_ONCE = 1000


@pytest.fixture(scope="module")
def here(operator_installed: Access) -> Iterator[Apps]:
    """The production example with its databases and the practice LM."""
    name = operator_installed.create_namespace("runtime")
    apps = Apps(cluster=operator_installed, namespace=name)
    apps.start_practice_lm()
    for path in ("databases/postgres.yaml", "databases/redis.yaml", "production/app.yaml"):
        apps.apply_file(f"examples/{path}")
    for server in production.SERVERS:
        apps.kubectl("rollout", "status", f"statefulset/{server}", "--timeout=180s")
    apps.wait_ready(APP)
    apps.wait_until(lambda: troubles(apps) == [], "all components to work")
    yield apps
    operator_installed.delete_namespace(name)


def troubles(here: Apps) -> list[str]:
    parts = json.loads(here.read(APP, "/v1/health"))["components"]
    return [f"{part['name']}: {part['detail']}" for part in parts if part["state"] != "ok"]


def lm_calls(here: Apps) -> int:
    calls: int = json.loads(here.read("practice-lm", "/stats"))["calls"]
    return calls


def psql(here: Apps, query: str) -> str:
    command = "PGPASSWORD=$(cat /secret/password) psql --host=/tmp --username=dspy --tuples-only"
    script = f'{command} --no-align --dbname=postgres --command="{query}"'
    return here.kubectl("exec", "postgres-0", "--", "bash", "-c", script).strip()


def pods(here: Apps) -> dict[str, int]:
    """Return the restarts of the app's pods by name."""
    selector = f"--selector=dspy-operator.io/app={APP}"
    items = json.loads(here.kubectl("get", "pods", selector, "--output=json"))["items"]
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in items
    }


def kill_worker(cluster: EmbeddedCluster, here: Apps, pod: str) -> None:
    """End a worker's process at once, from outside: from inside, process 1 cannot be killed."""
    status = json.loads(here.kubectl("get", "pod", pod, "--output=json"))["status"]
    container = status["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    cluster.enter("ctr", "--namespace=k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)


@contextlib.contextmanager
def frozen(here: Apps, *servers: str) -> Iterator[None]:
    for server in servers:
        here.kubectl("exec", f"{server}-0", "--", "pkill", "-STOP", production.SERVERS[server])
    try:
        yield
    finally:
        for server in servers:
            here.kubectl("exec", f"{server}-0", "--", "pkill", "-CONT", production.SERVERS[server])


def test_a_thousand_equal_requests_on_three_pods_ask_the_lm_once(here: Apps) -> None:
    before = lm_calls(here)
    question = {"text": f"Where is my parcel number {time.time_ns()}?"}
    here.start_load(APP, question, rate=AT_ONCE, seconds=1)

    summary = here.finish_load()

    assert summary["failed"] == 0, summary
    assert summary["sent"] == AT_ONCE
    assert lm_calls(here) - before == 1


def test_nothing_fails_and_nothing_is_lost_while_both_databases_are_frozen(here: Apps) -> None:
    text = f"The export crashes, case {time.time_ns()}"
    count = f"SELECT count(*), count(DISTINCT id) FROM predictions WHERE inputs->>'text' = '{text}'"
    here.start_load(APP, {"text": text}, rate=10, seconds=80)
    time.sleep(3)
    with frozen(here, *production.SERVERS):
        # A server that hangs is given up when a statement has taken too long.
        here.wait_until(lambda: len(troubles(here)) > 1, "the outage to be told", seconds=70)
        assert here.condition(APP, "Ready")["status"] == "True"
    summary = here.finish_load()

    assert summary["failed"] == 0, summary
    here.wait_until(lambda: psql(here, count) == "800|800", "all predictions stored", seconds=90)
    here.wait_until(lambda: troubles(here) == [], "all components to work again")


def test_feedback_is_taken_by_any_pod_and_stored_once(here: Apps) -> None:
    name = here.ask(APP, {"text": f"Refund please, case {time.time_ns()}"})["id"]
    query = f"SELECT count(*), max(score) FROM feedback WHERE prediction_id = '{name}'"

    for score in (0.25, 0.5, 0.75):  # each goes through a connection of its own
        body = {"predictionId": name, "score": score, "source": "reviewer"}
        assert here.post(APP, "/v1/feedback", body).document()["stored"] is True
        here.wait_until(lambda: psql(here, query).startswith("1|"), "the feedback to be stored")

    here.wait_until(lambda: psql(here, query) == "1|0.75", "the last score to count")


def test_a_worker_that_is_killed_has_lost_nothing(
    embedded_cluster: EmbeddedCluster, here: Apps
) -> None:
    text = f"Cannot log in, case {time.time_ns()}"
    answered = f"SELECT count(*) FROM predictions WHERE inputs->>'text' = '{text}'"
    victim, restarts = next(iter(pods(here).items()))
    here.start_load(APP, {"text": text}, rate=20, seconds=15)
    time.sleep(5)
    kill_worker(embedded_cluster, here, victim)
    summary = here.finish_load()

    here.wait_until(lambda: pods(here).get(victim, 0) > restarts, "the container to start again")
    here.wait_until(
        lambda: int(psql(here, answered)) >= summary["ok"], "the answers to be stored", seconds=90
    )
    assert int(psql(here, answered)) <= summary["sent"]


def test_a_new_url_is_taken_up_without_new_pods(here: Apps) -> None:
    """The password changes in PostgreSQL and in the Secret, as a rotation does it."""
    before = pods(here)
    psql(here, "ALTER USER dspy PASSWORD 'rotated'")
    url = base64.b64encode(b"postgresql://dspy:rotated@postgres:5432/postgres").decode()
    here.kubectl("patch", "secret", "postgres", f"--patch={json.dumps({'data': {'url': url}})}")
    end_all = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE usename = 'dspy' AND pid <> pg_backend_pid()"
    )
    rotated = "PGPASSWORD=rotated psql --host=/tmp --username=dspy --dbname=postgres"
    here.kubectl("exec", "postgres-0", "--", "bash", "-c", f'{rotated} --command="{end_all}"')

    text = f"Dark mode please, case {time.time_ns()}"
    here.ask(APP, {"text": text})
    query = f"SELECT count(*) FROM predictions WHERE inputs->>'text' = '{text}'"
    script = f'{rotated} --tuples-only --no-align --command="{query}"'

    def stored() -> bool:
        return here.kubectl("exec", "postgres-0", "--", "bash", "-c", script).strip() == "1"

    here.wait_until(stored, "the prediction to be stored with the new password", seconds=180)
    assert pods(here) == before
