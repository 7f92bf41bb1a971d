"""The part of the demo with databases: streams, feedback, kept answers, and an outage of both."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.stage import Stage
    from devcluster.apps import Apps

APP = "support"
STREAMED = "Please add a button that exports all my invoices"
QUESTION = "My card was charged twice, please refund one of the payments"
OTHERS = (
    "The search page shows an error message since the last update",
    "I never got the mail to reset my password",
    "My parcel was delivered to the wrong house",
)
SERVERS = {"postgres": "postgres", "redis": "redis-server"}
"""Each StatefulSet, and the name of its processes."""


def deploy(stage: Stage, here: Apps) -> None:
    """Apply PostgreSQL, Redis and an app that uses both."""
    for path in ("databases/postgres.yaml", "databases/redis.yaml", "production/app.yaml"):
        stage.command(f"kubectl -n {here.namespace} apply -f examples/{path}")
        here.apply_file(f"examples/{path}")
    for name in SERVERS:
        here.kubectl("rollout", "status", f"statefulset/{name}", "--timeout=180s")
    here.wait_ready(APP)
    here.wait_until(lambda: _troubles(here) == [], "all components to work", seconds=60)
    stage.say(f"{APP} answers; {_components(here)}")


def show_answers(stage: Stage, here: Apps) -> None:
    """Show a stream, an answer that is kept, and feedback on it."""
    stage.command("curl -N .../v1/predict/stream   # the answer while the LM speaks")
    asked = {"inputs": {"text": STREAMED}}
    for line in here.post(APP, "/v1/predict/stream", asked).text.splitlines():
        if line:
            stage.say(line[:110])
    stage.say("")
    first, again = (_ask(stage, here, QUESTION) for _ in range(2))
    if "cached" not in again or again["prediction"] != first["prediction"]:
        raise DevclusterError(f"the second answer should have been a kept one: {again}")
    feedback = {"predictionId": again["id"], "score": 1.0, "comment": "right"}
    stage.command(f"curl .../v1/feedback -d '{json.dumps({**feedback, 'predictionId': '...'})}'")
    told = here.post(APP, "/v1/feedback", feedback).document()
    stage.say(json.dumps(told))


def play_outage(stage: Stage, here: Apps) -> None:
    """Freeze both databases, ask on, let them go on, and count what has been stored."""
    before = _stored(here)
    with _frozen(stage, here):
        for text in OTHERS:
            _ask(stage, here, text)
        stage.say("a server that hangs is given up after half a minute; waiting for that ...")
        here.wait_until(lambda: len(_troubles(here)) > 1, "the outage to be told", seconds=90)
        stage.command("curl .../v1/health")
        for name, detail in _troubles(here):
            stage.say(f"{name}: {detail}")
        stage.say(f"Ready is {here.condition(APP, 'Ready')['status']}: the app can answer")
    here.wait_until(
        lambda: _stored(here) >= before + len(OTHERS), "the predictions to be stored", seconds=90
    )
    stage.say(f"stored predictions: {before} before, {_stored(here)} now: none is lost")


@contextlib.contextmanager
def _frozen(stage: Stage, here: Apps) -> Iterator[None]:
    """Stop the processes of both databases for a while."""
    for name, process in SERVERS.items():
        stage.command(f"kubectl -n {here.namespace} exec {name}-0 -- pkill -STOP {process}")
        here.kubectl("exec", f"{name}-0", "--", "pkill", "-STOP", process)
    try:
        yield
    finally:
        for name, process in SERVERS.items():
            stage.command(f"kubectl -n {here.namespace} exec {name}-0 -- pkill -CONT {process}")
            here.kubectl("exec", f"{name}-0", "--", "pkill", "-CONT", process)


def _ask(stage: Stage, here: Apps, text: str) -> dict[str, Any]:
    reply = here.post(APP, "/v1/predict", {"inputs": {"text": text}})
    answer = reply.document()
    stage.say(f"{text!r}")
    usage = answer["usage"]
    stage.say(
        f"  -> {json.dumps(answer['prediction'])}   ({answer['durationMs']:.1f} ms, "
        f"{usage.get('costUsd', '0')} USD; Cache-Status: {reply.headers.get('cache-status', '-')})"
    )
    return answer


def _components(here: Apps) -> str:
    parts = json.loads(here.read(APP, "/v1/health"))["components"]
    return ", ".join(f"{part['name']} {part['state']}" for part in parts)


def _troubles(here: Apps) -> list[tuple[str, str]]:
    parts = json.loads(here.read(APP, "/v1/health"))["components"]
    return [(part["name"], part["detail"]) for part in parts if part["state"] != "ok"]


def _stored(here: Apps) -> int:
    """Count the predictions of the app in PostgreSQL, as anybody with psql would."""
    query = f"SELECT count(*) FROM predictions WHERE app = '{here.namespace}/{APP}'"  # noqa: S608 - our own words
    command = ("psql", "--host=/tmp", "--username=dspy", "--dbname=postgres", "--tuples-only")
    password = "PGPASSWORD=$(cat /secret/password)"  # noqa: S105 - read where it lies
    script = f'{password} {" ".join(command)} --command="{query}"'
    return int(here.kubectl("exec", "postgres-0", "--", "bash", "-c", script).strip())
