"""The answer cache: real workers, a real Redis, a practice LM that counts its calls."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import worker_process
from tests.patience import until
from tests.redis_process import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.practice_fixture import PracticeLM
    from tests.redis_process import RedisProcess
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

PROGRAM = {
    "signature": {
        "instructions": "Label it.\n- animal: zebra\n- tool: saw",
        "inputs": [{"name": "text"}],
        "outputs": [{"name": "label", "type": "Literal['animal', 'tool']"}],
    }
}
LIMITS = {"concurrency": 20, "timeoutSeconds": 20, "drainSeconds": 20}
REDIS = {"urlSecretRef": {"name": "redis"}}
FAILS = {"kind": "status", "status": 500}


@dataclass(frozen=True)
class Pods:
    """Starts workers of one app."""

    lm: PracticeLM
    folder: Callable[[], Path]
    running: list[Any]

    def start(self, cache: dict[str, Any], url: str = "", **model: object) -> Worker:
        folder = self.folder()
        return self.start_in(folder, self.document(cache, url, **model), url)

    def start_in(
        self,
        folder: Path,
        described: dict[str, Any],
        url: str = "",
        *,
        before: tuple[str, ...] = (),
    ) -> Worker:
        if url:
            worker_process.set_url(folder, "redis", url)
        process = worker_process.running(folder, described, before=before)
        self.running.append(process)
        return process.__enter__()

    def document(self, cache: dict[str, Any], url: str = "", **model: object) -> dict[str, Any]:
        described = worker_process.document(
            self.lm.url, PROGRAM, model={"maxRetries": 0, **model}, **LIMITS
        )
        described["spec"]["cache"] = cache
        if url:
            described["spec"]["redis"] = REDIS
        return described


@pytest.fixture
def pods(lm: PracticeLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    running: list[Any] = []
    yield Pods(lm, lambda: tmp_path_factory.mktemp("worker"), running)
    for process in running:
        process.__exit__(None, None, None)


def health(worker: Worker, name: str) -> str:
    """Return what is told of a component: its trouble, or that it works."""
    response = httpx.get(f"{worker.url}/v1/health")
    assert response.status_code == 200
    assert PASSWORD not in response.text
    assert "127.0.0.1" not in response.text, "no address is told"
    return next(str(c["detail"]) for c in response.json()["components"] if c["name"] == name)


def answers(redis: RedisProcess) -> list[bytes]:
    with redis.client() as client:
        return list(client.scan_iter("dspy:*:answer:*"))


def test_an_equal_question_is_answered_from_memory_and_says_so(pods: Pods) -> None:
    worker = pods.start({})

    first, second = worker.predict(text="A zebra."), worker.predict(text="A zebra.")

    assert first.headers["cache-status"] == "dspy-worker; fwd=miss; stored"
    assert "cached" not in first.json()
    assert second.json()["prediction"] == first.json()["prediction"] == {"label": "animal"}
    assert second.json()["cached"]["level"] == "memory"
    assert second.json()["usage"] == {
        "inputTokens": 0,
        "outputTokens": 0,
        "calls": 0,
        "costUsd": "0",
    }
    assert re.fullmatch(r"dspy-worker; hit; ttl=\d+; detail=memory", second.headers["cache-status"])
    assert int(second.headers["age"]) >= 0
    assert pods.lm.stats()["calls"] == 1
    assert worker.metric("dspy_cache_hits_total", level="memory") == 1
    assert worker.metric("dspy_cache_misses_total", level="memory") == 1
    assert worker.metric("dspy_cache_entries", level="memory") == 1
    assert worker.metric("dspy_cache_lookup_seconds_count", level="memory") == 2


def test_other_inputs_tenants_and_wishes_are_asked_anew(pods: Pods) -> None:
    worker = pods.start({})
    worker.predict(text="A zebra.")

    worker.predict(text="A zebra!")
    worker.predict(text="A zebra.", headers={"X-Tenant": "a"})
    renewed = worker.predict(text="A zebra.", headers={"Cache-Control": "no-cache"})
    secret = worker.predict(text="A saw.", headers={"Cache-Control": "no-store"})
    worker.predict(text="A saw.")

    assert pods.lm.stats()["calls"] == 6
    assert renewed.headers["cache-status"] == "dspy-worker; fwd=request; stored"
    assert secret.headers["cache-status"] == "dspy-worker; fwd=request"
    assert worker.predict(text="A zebra.", headers={"X-Tenant": "a"}).json()["cached"]


def test_tenants_share_answers_where_the_app_says_so(pods: Pods) -> None:
    worker = pods.start({"scope": "App"})
    worker.predict(text="A zebra.", headers={"X-Tenant": "a"})

    assert worker.predict(text="A zebra.", headers={"X-Tenant": "b"}).json()["cached"]


def test_a_kept_answer_streams_as_status_and_result(pods: Pods) -> None:
    worker = pods.start({})
    made = worker.predict(text="A zebra.")
    body = {"inputs": {"text": "A zebra."}}

    response = httpx.post(f"{worker.url}/v1/predict/stream", json=body, timeout=30)

    events = [line[7:] for line in response.text.splitlines() if line.startswith("event: ")]
    result = json.loads(response.text.split("data: ")[-1])
    assert events == ["status", "result"]
    assert result["prediction"] == made.json()["prediction"]
    assert result["cached"]["level"] == "memory"


def test_a_batch_uses_and_fills_the_cache(pods: Pods) -> None:
    worker = pods.start({})
    worker.predict(text="A zebra.")
    body = {"inputs": [{"text": "A zebra."}, {"text": "A saw."}]}

    first = httpx.post(f"{worker.url}/v1/batch", json=body, timeout=30).json()["results"]
    second = httpx.post(f"{worker.url}/v1/batch", json=body, timeout=30).json()["results"]

    assert [("cached" in item) for item in first] == [True, False]
    assert [("cached" in item) for item in second] == [True, True]
    assert pods.lm.stats()["calls"] == 2


async def ask_at_once(workers: list[Worker], count: int) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        body = {"inputs": {"text": "A zebra."}}
        return await asyncio.gather(
            *(
                client.post(f"{workers[n % len(workers)].url}/v1/predict", json=body)
                for n in range(count)
            )
        )


@pytest.mark.timeout(120)
def test_a_thousand_equal_requests_on_three_pods_are_one_call(
    pods: Pods, redis: RedisProcess
) -> None:
    workers = [pods.start({}, redis.url) for _ in range(3)]
    pods.lm.faults(kind="latency", ms=1500)

    found = asyncio.run(ask_at_once(workers, 1000))

    assert {response.status_code for response in found} == {200}
    assert {response.json()["prediction"]["label"] for response in found} == {"animal"}
    assert pods.lm.stats()["calls"] == 1
    assert sum(w.metric("dspy_cache_collapsed_total", where="pods") for w in workers) == 2
    assert sum(w.metric("dspy_cache_collapsed_total", where="pod") for w in workers) > 0


def test_a_failure_of_the_lm_is_shared(pods: Pods) -> None:
    worker = pods.start({})
    pods.lm.faults(faults=[{"kind": "latency", "ms": 1000}, FAILS])

    found = asyncio.run(ask_at_once([worker], 100))

    assert {response.status_code for response in found} == {502}
    assert pods.lm.stats()["calls"] == 1


def test_another_leads_when_the_leaders_client_leaves(pods: Pods) -> None:
    worker = pods.start({})
    pods.lm.faults(kind="latency", ms=1500)
    body = {"inputs": {"text": "A zebra."}}
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(httpx.post, f"{worker.url}/v1/predict", json=body, timeout=1)
        until(lambda: worker.metric("dspy_in_flight") == 1, "nobody leads")
        followers = [pool.submit(worker.predict, text="A zebra.") for _ in range(1)]

        with pytest.raises(httpx.ReadTimeout):
            leader.result()
        assert [f.result().status_code for f in followers] == [200]
    assert worker.predict(text="A zebra.").json()["cached"]


def test_a_follower_keeps_its_own_deadline(pods: Pods) -> None:
    worker = pods.start({})
    pods.lm.faults(kind="latency", ms=3000)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(worker.predict, text="A zebra.")
        until(lambda: worker.metric("dspy_in_flight") == 1, "nobody leads")

        late = worker.predict(text="A zebra.", headers={"X-Request-Timeout-Seconds": "0.5"})

        assert late.status_code == 504
        assert not leader.done()
        assert leader.result().status_code == 200
    assert pods.lm.stats()["calls"] == 1


def test_a_pod_that_is_killed_while_it_asks_for_all_holds_nobody_up(
    pods: Pods, redis: RedisProcess
) -> None:
    first, second = pods.start({}, redis.url), pods.start({}, redis.url)
    pods.lm.faults(kind="latency", ms=4000)
    with ThreadPoolExecutor(2) as pool:
        lost = pool.submit(first.predict, text="A zebra.")
        until(lambda: pods.lm.stats()["calls"] == 1, "nobody asks")
        other = pool.submit(second.predict, text="A zebra.")
        until(lambda: second.metric("dspy_cache_misses_total", level="redis") == 1, "no look-up")
        pods.lm.faults(faults=[])
        first.process.kill()

        assert other.result().json()["prediction"] == {"label": "animal"}
        with pytest.raises(httpx.HTTPError):
            lost.result()


def test_pods_share_answers_through_redis(pods: Pods, redis: RedisProcess) -> None:
    first, second = pods.start({}, redis.url), pods.start({}, redis.url)
    first.predict(text="A zebra.")
    until(lambda: len(answers(redis)) == 1, "nothing is stored")

    found = second.predict(text="A zebra.")

    assert found.json()["cached"]["level"] == "redis"
    assert found.headers["cache-status"].endswith("detail=redis")
    assert second.predict(text="A zebra.").json()["cached"]["level"] == "memory", "promoted"
    assert pods.lm.stats()["calls"] == 1
    assert health(second, "redis") == "It works."


@pytest.mark.timeout(120)
def test_redis_that_dies_and_comes_back_costs_no_request(pods: Pods, redis: RedisProcess) -> None:
    workers = [pods.start({"ttlSeconds": 1}, redis.url) for _ in range(2)]
    texts = [f"A {word} {n}." for n in range(20) for word in ("zebra", "saw")]
    over = threading.Event()
    wrong: list[str] = []

    def ask(number: int) -> int:
        count = 0
        while not over.is_set():
            text = texts[(number * 7 + count) % len(texts)]
            response = workers[count % 2].predict(text=text)
            label = "animal" if "zebra" in text else "tool"
            if response.status_code != 200 or response.json()["prediction"] != {"label": label}:
                wrong.append(response.text)
            count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        for _ in range(2):
            redis.kill()
            until(lambda: health(workers[0], "redis") == "It does not answer.", "nobody notices")
            redis.start()
            until(lambda: health(workers[0], "redis") == "It works.", "it is not found again")
            until(lambda: answers(redis) != [], "nothing is stored again")
        over.set()
        counts = [one.result() for one in asking]

    assert wrong == []
    assert min(counts) > 0


def test_redis_that_hangs_does_not_hang_requests(pods: Pods, redis: RedisProcess) -> None:
    worker = pods.start({"ttlSeconds": 1}, redis.url)
    hurry = {"X-Request-Timeout-Seconds": "3"}
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    try:
        found = [worker.predict(text=f"A zebra {n}.", headers=hurry) for n in range(20)]
        told = health(worker, "redis")
    finally:
        redis.process.send_signal(signal.SIGCONT)

    assert {response.status_code for response in found} == {200}
    assert told == "It does not answer."
    until(lambda: health(worker, "redis") == "It works.", "it is not found again")


def test_a_wrong_password_is_told_without_it_and_mended_without_a_restart(
    pods: Pods, redis: RedisProcess
) -> None:
    wrong = redis.url.replace(PASSWORD, "guess-7")
    worker = pods.start({}, wrong)

    assert worker.predict(text="A zebra.").status_code == 200
    assert health(worker, "redis") == "It refuses the user or the password of its URL."
    assert worker.ready().status_code == 200

    worker_process.set_url(worker.folder, "redis", "http://no redis")
    until(lambda: health(worker, "redis") == "Its URL cannot be used.", "the URL is not read again")
    worker_process.set_url(worker.folder, "redis", redis.url)
    until(lambda: health(worker, "redis") == "It works.", "the URL is not read again")
    log = worker.log.read_text()
    assert "It refuses the user or the password of its URL." in log
    assert "guess-7" not in log
    assert PASSWORD not in log


def test_a_poisoned_entry_is_a_miss_and_is_replaced(pods: Pods, redis: RedisProcess) -> None:
    first, second = pods.start({}, redis.url), pods.start({}, redis.url)
    first.predict(text="A zebra.")
    first.predict(text="A saw.")
    until(lambda: len(answers(redis)) == 2, "nothing is stored")
    with redis.client() as client:
        one, other = answers(redis)
        good = client.get(one)
        client.set(one, client.get(other), px=1_000_000)
        client.set(other, bytes(good or b"")[:-2], px=1_000_000)

    found = [second.predict(text=text).json() for text in ("A zebra.", "A saw.")]

    assert [one["prediction"]["label"] for one in found] == ["animal", "tool"]
    assert not any("cached" in one for one in found)
    assert second.metric("dspy_cache_poisoned_total", level="redis") == 2
    until(lambda: len(answers(redis)) == 2, "they are not replaced")


def test_an_old_answer_is_better_than_none(pods: Pods) -> None:
    worker = pods.start({"ttlSeconds": 1, "staleSeconds": 600})
    never = pods.start({"ttlSeconds": 1, "staleSeconds": 0})
    for one in (worker, never):
        one.predict(text="A zebra.")
    pods.lm.faults(**FAILS)
    until(lambda: "degraded" in worker.predict(text="A zebra.").json(), "it stays young")
    until(lambda: never.predict(text="A zebra.").status_code == 502, "it is given for ever")

    stale = worker.predict(text="A zebra.")

    assert stale.status_code == 200
    assert stale.json()["degraded"] == ["stale"]
    assert stale.headers["x-degraded"] == "stale"
    assert re.fullmatch(r"dspy-worker; hit; ttl=-\d+; detail=memory", stale.headers["cache-status"])
    assert stale.json()["cached"]["ageSeconds"] >= 0.9
    assert worker.predict(text="Another zebra.").status_code == 502
    assert worker.metric("dspy_cache_stale_total") >= 1
    pods.lm.reset()
    renewed = worker.predict(text="A zebra.")
    assert "degraded" not in renewed.json()
    assert renewed.headers["cache-status"] == "dspy-worker; fwd=stale; stored"


def test_an_old_answer_comes_before_the_deadline_of_a_slow_lm(pods: Pods) -> None:
    worker = pods.start({"ttlSeconds": 1})
    worker.predict(text="A zebra.")
    pods.lm.faults(kind="latency", ms=5000)
    hurry = {"X-Request-Timeout-Seconds": "0.5"}
    until(lambda: "degraded" in worker.predict(text="A zebra.", headers=hurry).json(), "not stale")

    found = worker.predict(text="A zebra.", headers=hurry)

    assert found.json()["degraded"] == ["stale"]
    assert worker.predict(text="A saw.", headers=hurry).status_code == 504


def test_kept_answers_come_before_a_missing_key(pods: Pods) -> None:
    folder = pods.folder()
    described = pods.document({}, keySecretRef={"name": "lm"})
    key = folder / "keys" / "main" / "key"
    key.parent.mkdir(parents=True)
    key.write_text("sk-1")
    worker = pods.start_in(folder, described)
    worker.predict(text="A zebra.")
    key.unlink()
    until(lambda: worker.ready().status_code == 503, "the key is still there")
    body = {"inputs": {"text": "A zebra."}}

    streamed = httpx.post(f"{worker.url}/v1/predict/stream", json=body, timeout=30)

    assert worker.predict(text="A zebra.").json()["cached"]["level"] == "memory"
    assert "event: result" in streamed.text
    body = {"inputs": {"text": "A saw."}}
    for path in ("predict", "predict/stream"):
        assert httpx.post(f"{worker.url}/v1/{path}", json=body).status_code == 503
    assert httpx.post(f"{worker.url}/v1/batch", json={"inputs": [body["inputs"]]}).is_error


def clear(worker: Worker, *options: str) -> str:
    command = [
        *worker_process.COMMAND, "cache", "clear", f"{worker.folder}/app.json",
        "--connections-dir", f"{worker.folder}/connections",
        "--data-dir", f"{worker.folder}/data", *options,
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_answers_are_cleared_by_hand_in_all_pods(pods: Pods, redis: RedisProcess) -> None:
    workers = [pods.start({"diskBytes": 4_194_304}, redis.url) for _ in range(2)]
    headers = {"X-Tenant": "a"}
    for worker in workers:
        worker.predict(text="A zebra.")
        worker.predict(text="A zebra.", headers=headers)
    until(lambda: len(answers(redis)) == 2, "nothing is stored")

    said = clear(workers[0], "--tenant", "a")

    assert "redis: 1 answers removed" in said
    assert "disk: 1 answers removed" in said
    asked = workers[0].predict
    until(lambda: "cached" not in asked(text="A zebra.", headers=headers).json(), "still given")
    asked = workers[1].predict
    until(
        lambda: level(asked(text="A zebra.", headers=headers)) != "memory", "still in the other pod"
    )
    for worker in workers:
        assert worker.predict(text="A zebra.").json()["cached"], "others' answers stay"
    assert "redis:" in clear(workers[0])
    calls = pods.lm.stats()["calls"]
    until(lambda: level(workers[1].predict(text="A zebra.")) != "memory", "all were cleared")
    assert pods.lm.stats()["calls"] == calls + 1


def level(response: httpx.Response) -> str:
    return str(response.json().get("cached", {}).get("level", ""))


def test_the_benchmark_tells_what_each_level_does(redis: RedisProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text("a\nb\na\na\n")
    worker_process.set_url(tmp_path, "redis", redis.url)
    options = ["--trace", str(trace), "--connections-dir", f"{tmp_path}/connections"]

    said = subprocess.run(
        [*worker_process.COMMAND, "cache", "bench", *options],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip

    rows = [line.split(" | ") for line in said.splitlines() if "%" in line]
    assert [(row[0].strip("| "), row[1]) for row in rows] == [
        ("memory", "50.0%"),
        ("redis", "50.0%"),
        ("disk", "50.0%"),
    ]
    with redis.client() as client:
        assert client.dbsize() == 0, "it leaves nothing behind"


def test_answers_on_disk_outlive_the_process(pods: Pods) -> None:
    folder, described = pods.folder(), pods.document({"diskBytes": 4_194_304})
    worker = pods.start_in(folder, described)
    worker.predict(text="A zebra.")
    worker.process.terminate()
    worker.process.wait(20)

    again = pods.start_in(folder, described)

    assert again.predict(text="A zebra.").json()["cached"]["level"] == "disk"
    assert again.predict(text="A zebra.").json()["cached"]["level"] == "memory"
    assert pods.lm.stats()["calls"] == 1
    assert again.metric("dspy_cache_hits_total", level="disk") == 1
    assert (folder / "data" / "answers").stat().st_mode & 0o777 == 0o700
    clear(again)
    until(lambda: "cached" not in again.predict(text="A zebra.").json(), "it was cleared")


def test_a_damaged_file_is_begun_anew(pods: Pods) -> None:
    folder, described = pods.folder(), pods.document({"diskBytes": 4_194_304})
    file = folder / "data" / "answers" / "answers.sqlite"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"This is no database. " * 1000)

    worker = pods.start_in(folder, described)

    assert worker.predict(text="A zebra.").status_code == 200
    assert health(worker, "cache") == "It works."
    until(lambda: worker.metric("dspy_cache_stores_total", level="disk") == 1, "it is not used")


def test_a_full_disk_switches_the_level_off_and_costs_no_request(pods: Pods) -> None:
    """The file system is a small one in a mount namespace of the worker; it ends with it."""
    folder, described = pods.folder(), pods.document({"diskBytes": 67_108_864})
    (folder / "data").mkdir()
    mount = f'mount -t tmpfs -o size=256k none "{folder}/data" && exec "$@"'
    worker = pods.start_in(folder, described, before=("unshare", "-m", "sh", "-c", mount, "sh"))
    asked = iter(range(10_000))

    def is_full() -> bool:
        text = f"A zebra {next(asked)}."
        assert worker.predict(text=text).json()["prediction"] == {"label": "animal"}
        return health(worker, "cache") == "The disk for answers is full."

    until(is_full, "the disk does not get full")
    assert worker.predict(text="A zebra 0.").json()["cached"]["level"] == "memory"
    assert worker.ready().status_code == 200


def test_a_worker_without_a_cache_knows_nothing_of_it(pods: Pods) -> None:
    folder = pods.folder()
    described = worker_process.document(pods.lm.url, PROGRAM, **LIMITS)
    worker = pods.start_in(folder, described)

    first, second = worker.predict(text="A zebra."), worker.predict(text="A zebra.")

    assert "cached" not in second.json()
    assert "cache-status" not in first.headers
    assert "dspy_cache" not in httpx.get(f"{worker.ops}/metrics").text
    assert pods.lm.stats()["calls"] == 2
    loaded = Path(f"/proc/{worker.process.pid}/maps").read_text()
    assert "hiredis" not in loaded, "what only the cache needs is not loaded"
