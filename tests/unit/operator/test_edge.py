"""The edges, against small servers of our own where a socket matters."""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dspy_operator import errors
from dspy_operator.core.manifest import Key, Ref
from dspy_operator.edge import credentials, errorlines, health, kube, projection, session, watch
from dspy_operator.edge.limiter import Bucket
from dspy_operator.edge.recorder import Recorder
from dspy_operator.edge.telemetry import Telemetry

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
APP = {
    "apiVersion": "dspy-operator.io/v1alpha1",
    "kind": "DSPyApp",
    "metadata": {"name": "qa", "namespace": "team", "uid": "u", "resourceVersion": "1"},
}


class Clock:
    """A clock that tests turn."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Server:
    """An API server that answers what a test tells it to, and remembers who asked for what."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.asked: list[web.Request] = []
        self.lines: list[list[bytes]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        await request.read()
        if "watch" not in request.query:
            return self.answers.pop(0) if self.answers else web.json_response({})
        if not self.lines:
            await asyncio.sleep(30)
        stream = web.StreamResponse()
        await stream.prepare(request)
        for chunk in self.lines.pop(0):
            await stream.write(chunk)
        return stream


@pytest.fixture
def server() -> Server:
    return Server()


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def cluster(server: Server) -> AsyncIterator[kube.Cluster]:
    async with serving(server) as url:
        found = credentials.Connection(server=url, tls=None, token=credentials.Token(value="t0ken"))
        async with session.open_session(found, Telemetry()) as opened:
            yield kube.Cluster(opened, url, Bucket(rate=1000, burst=1000))


async def test_an_apply_is_sent_with_manager_force_and_token(
    cluster: kube.Cluster, server: Server
) -> None:
    desired = {"kind": "Service", "metadata": {"name": "qa", "namespace": "team"}}
    await cluster.apply(desired, manager="m")

    request = server.asked[0]
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/team/services/qa")
    assert dict(request.query) == {"fieldManager": "m", "force": "true"}
    assert request.headers["Authorization"] == "Bearer t0ken"
    assert request.content_type == "application/apply-patch+yaml"


async def test_a_first_apply_asks_for_a_version_that_no_object_has(
    cluster: kube.Cluster, server: Server
) -> None:
    desired = {"kind": "Service", "metadata": {"name": "qa", "namespace": "team"}}
    await cluster.apply_new(desired, manager="m")

    assert (await server.asked[0].json())["metadata"]["resourceVersion"] == "1"
    assert "resourceVersion" not in desired["metadata"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, errors.UnavailableError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (422, errors.RefusedError),
        (503, errors.UnavailableError),
    ],
)
async def test_a_refusal_becomes_an_error_in_the_servers_words(
    cluster: kube.Cluster, server: Server, status: int, error: type[errors.ClusterError]
) -> None:
    server.answers = [web.json_response({"message": "the reason"}, status=status)]

    with pytest.raises(error, match="the reason"):
        await cluster.create(APP)


async def test_retry_after_is_obeyed(cluster: kube.Cluster, server: Server) -> None:
    busy = web.json_response({}, status=429, headers={"Retry-After": "0"})
    server.answers = [busy, web.json_response(APP)]

    assert await cluster.get(Ref("DSPyApp", "team", "qa")) == APP
    assert len(server.asked) == 2


async def test_a_server_that_names_no_pause_does_not_take_away_ours(
    cluster: kube.Cluster, server: Server
) -> None:
    for _ in range(4):
        server.answers.append(web.json_response({}, status=503, headers={"Retry-After": "0"}))

    with pytest.raises(errors.UnavailableError) as caught:
        await cluster.get(Ref("DSPyApp", "team", "qa"))
    assert caught.value.retry_after == 0.5


async def test_an_answer_that_is_no_json_is_an_error_of_the_cluster(
    cluster: kube.Cluster, server: Server
) -> None:
    server.answers = [web.Response(text="<html>sign in</html>")]

    with pytest.raises(errors.UnavailableError, match="cannot be read"):
        await cluster.get(Ref("DSPyApp", "team", "qa"))


async def test_what_is_not_there_is_none(cluster: kube.Cluster, server: Server) -> None:
    server.answers = [web.json_response({"message": "gone"}, status=404)]

    assert await cluster.get(Ref("DSPyApp", "team", "qa")) is None


async def test_a_path_that_is_not_served_says_nothing_about_an_object(
    cluster: kube.Cluster, server: Server
) -> None:
    server.answers = [web.Response(text="404 page not found\n", status=404)]

    with pytest.raises(errors.UnavailableError, match="page not found"):
        await cluster.get(Ref("DSPyApp", "team", "qa"))


async def test_a_list_is_read_page_by_page(cluster: kube.Cluster, server: Server) -> None:
    first = {"metadata": {"resourceVersion": "5", "continue": "more"}, "items": [{"a": 1}]}
    last = {"metadata": {"resourceVersion": "5"}, "items": [{"a": 2}]}
    server.answers = [web.json_response(first), web.json_response(last)]

    pages = [page async for page in cluster.pages(kube.Selection(kind="Pod", labels="x=y"))]

    assert pages == [([{"a": 1}], "5"), ([{"a": 2}], "5")]
    assert server.asked[1].query["continue"] == "more"
    assert server.asked[1].query["labelSelector"] == "x=y"


class Sink:
    """Remembers what a watch brings."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.news = asyncio.Event()

    def note(self, what: str, name: str) -> None:
        self.seen.append((what, name))
        self.news.set()

    def put(self, kind: str, live: dict[str, Any]) -> None:
        assert "managedFields" not in live["metadata"]
        self.note("put", live["metadata"]["name"])

    def drop(self, kind: str, live: dict[str, Any]) -> None:
        self.note("drop", live["metadata"]["name"])

    def retain(self, selection: kube.Selection, seen: frozenset[Key], version: str) -> None:
        self.note("retain", f"{len(seen)}@{version}")


def item(name: str, version: str = "6") -> str:
    return (
        f'{{"metadata":{{"name":"{name}","namespace":"t","uid":"{name}",'
        f'"resourceVersion":"{version}","managedFields":[{{"manager":"kubectl"}}]}}}}'
    )


def event(kind: str, what: str) -> bytes:
    return f'{{"type":"{kind}","object":{what}}}\n'.encode()


def listing(*names: str) -> web.Response:
    items = ",".join(item(name) for name in names)
    text = f'{{"metadata":{{"resourceVersion":"5"}},"items":[{items}]}}'
    return web.Response(text=text, content_type="application/json")


async def follow(cluster: kube.Cluster, sink: Sink, last: tuple[str, str]) -> list[str]:
    """Run a watch until something has come; return the names of the beats."""
    beats: list[str] = []
    selection = kube.Selection(kind="Service")
    made = watch.ListWatch(cluster, selection, sink, telemetry=Telemetry(), beat=beats.append)
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(1.9):
        while last not in sink.seen:
            sink.news.clear()
            await sink.news.wait()
    task.cancel()
    assert made.listed.is_set()
    return beats


async def test_a_watch_lists_first_and_goes_on_from_there(
    cluster: kube.Cluster, server: Server
) -> None:
    server.answers = [listing("a")]
    whole = event("ADDED", item("b")) + event("DELETED", item("a", "7"))
    server.lines = [[whole[:40], whole[40:]]]
    sink = Sink()
    beats = await follow(cluster, sink, ("drop", "a"))

    assert sink.seen == [("put", "a"), ("retain", "1@5"), ("put", "b"), ("drop", "a")]
    assert server.asked[1].query["resourceVersion"] == "5"
    assert beats


async def test_a_stream_that_ends_is_opened_again_from_its_last_bookmark(
    cluster: kube.Cluster, server: Server
) -> None:
    server.answers = [listing()]
    bookmark = event("BOOKMARK", item("", "42"))
    server.lines = [[bookmark], [event("ADDED", item("c", "43"))]]
    await follow(cluster, Sink(), ("put", "c"))

    assert server.asked[2].query["resourceVersion"] == "42"


@pytest.mark.parametrize("code", [410, 500])
async def test_an_error_line_leads_to_a_fresh_list(
    cluster: kube.Cluster, server: Server, code: int
) -> None:
    server.answers = [listing("a"), listing("b")]
    server.lines = [[event("ERROR", f'{{"code":{code},"message":"too old"}}')]]
    sink = Sink()
    await follow(cluster, sink, ("put", "b"))

    assert sink.seen[:3] == [("put", "a"), ("retain", "1@5"), ("put", "b")]


async def test_kopf_takes_every_error_line_for_an_expired_version(server: Server) -> None:
    """Any other code would end kopf, and the operator with it."""
    good, bad = b'{"type":"ADDED","object":{}}\n', b'{"type":"ERROR","object":{"code":500}}\n'
    server.lines = [[good + bad[:9], bad[9:], good[:-1]]]
    async with serving(server) as url:
        found = credentials.Connection(server=url, tls=None)
        opened = session.open_session(found, Telemetry(), more=(errorlines.as_expired,))
        async with opened, opened.get(f"{url}/api/v1/pods?watch=true") as response:
            text = b"".join([chunk async for chunk in response.content.iter_chunked(1024)])
    lines = [json.loads(line) for line in text.splitlines()]

    assert [line["type"] for line in lines] == ["ADDED", "ERROR", "ADDED"]
    assert lines[1]["object"]["code"] == 410


async def test_a_list_that_fails_is_tried_again(cluster: kube.Cluster, server: Server) -> None:
    server.answers = [web.json_response({"message": "no"}, status=403), listing("a")]

    await follow(cluster, Sink(), ("put", "a"))


class Streams:
    """A cluster whose lists are empty and whose watches do what a test tells them to."""

    def __init__(self, *streams: list[dict[str, Any] | Exception]) -> None:
        self.left = list(streams)
        self.versions: list[str] = []
        self.lists = 0

    async def pages(self, selection: kube.Selection) -> AsyncIterator[tuple[list[Any], str]]:
        self.lists += 1
        yield [], "5"

    async def watch(self, selection: kube.Selection, version: str) -> AsyncIterator[dict[str, Any]]:
        self.versions.append(version)
        if not self.left:
            await asyncio.sleep(30)
        for line in self.left.pop(0):
            if isinstance(line, Exception):
                raise line
            yield line


async def waits(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run a watch until its streams are used up; return the failures that it waited for."""
    counted: list[int] = []

    def wait(failures: int) -> float:
        counted.append(failures)
        return 0.0

    monkeypatch.setattr(watch, "_wait", wait)
    monkeypatch.setattr(watch, "_PAUSE", 0.0)
    selection = kube.Selection(kind="Service")
    made = watch.ListWatch(
        streams,  # type: ignore[arg-type]
        selection,
        Sink(),
        telemetry=Telemetry(),
        beat=lambda _: None,
    )
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(1.5):
        while streams.left:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    task.cancel()
    return counted


def bookmark(version: str) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


BROKEN, GONE = errors.UnavailableError("the stream broke"), errors.GoneError("too old", status=410)


async def test_a_server_that_calls_every_version_too_old_is_asked_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = Streams([GONE], [GONE], [GONE])

    assert await waits(streams, monkeypatch) == [1, 2, 3]
    assert streams.lists == 4


async def test_a_stream_that_breaks_goes_on_behind_its_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = Streams([bookmark("7"), BROKEN], [bookmark("9"), BROKEN])

    assert await waits(streams, monkeypatch) == [1, 1], "a line is a success"
    assert (streams.versions, streams.lists) == (["5", "7", "9"], 1)


class Events:
    """A cluster that takes Events."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.merged: list[dict[str, Any]] = []

    async def create(self, desired: dict[str, Any]) -> None:
        self.created.append(desired)

    async def merge(self, ref: Ref, patch: dict[str, Any]) -> None:
        self.merged.append(patch)


async def test_repeated_events_become_a_series_and_a_flood_is_stopped() -> None:
    events = Events()
    recorder = Recorder(events, instance="pod", clock=Clock())  # type: ignore[arg-type]
    for _ in range(40):
        await recorder.warn(copy.deepcopy(APP), "ImagePullFailed", "no such image")

    assert len(events.created) == 1
    assert events.created[0]["regarding"]["uid"] == "u"
    assert events.merged[-1]["series"]["count"] == 25


async def test_a_series_whose_event_is_gone_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def gone(ref: Ref, patch: dict[str, Any]) -> None:
        raise errors.NotFoundError("deleted by somebody", status=404)

    events = Events()
    recorder = Recorder(events, instance="pod", clock=Clock())  # type: ignore[arg-type]
    monkeypatch.setattr(events, "merge", gone)
    for _ in range(3):
        await recorder.warn(APP, "ImagePullFailed", "no such image")

    assert len(events.created) == 2


async def test_another_note_is_another_event() -> None:
    events = Events()
    recorder = Recorder(events, instance="pod", clock=Clock())  # type: ignore[arg-type]
    await recorder.warn(APP, "ImagePullFailed", "one")
    await recorder.tell(APP, "DriftRepaired", "two")

    assert [(e["type"], e["note"]) for e in events.created] == [
        ("Warning", "one"),
        ("Normal", "two"),
    ]


async def test_a_note_is_cut_by_bytes_as_the_api_server_counts_them() -> None:
    events = Events()
    recorder = Recorder(events, instance="pod", clock=Clock())  # type: ignore[arg-type]
    await recorder.warn(APP, "ImagePullFailed", "kein Zugriff \N{EM DASH} " * 100)

    assert 900 < len(events.created[0]["note"].encode()) <= 1000


def test_a_bucket_gives_its_stock_at_once_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(rate=10, burst=2, clock=clock)

    assert [bucket.take() for _ in range(4)] == [0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    clock.now = 10
    assert [bucket.try_take() for _ in range(3)] == [True, True, False]


def checked(clock: Clock, longest: float = 0) -> health.Health:
    return health.Health(longest=lambda: longest, is_ready=lambda: "", clock=clock)


def test_liveness_fails_when_a_stream_falls_silent() -> None:
    clock = Clock()
    made = checked(clock)
    made.beat("Pod")
    clock.now = 209
    made.tick()
    assert made.complaints() == []

    clock.now = 211
    made.tick()
    assert made.complaints() == ["no sign of life from watch Pod for 211 s"]


def test_liveness_fails_when_a_key_is_stuck_or_the_loop_lags() -> None:
    clock = Clock()
    assert "601 s" in checked(clock, longest=601).complaints()[0]
    lagging = checked(clock)
    clock.now = 31

    assert "lagged" in lagging.complaints()[0]


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", "watch=true&a=b", ("watch", "pods")),
        ("GET", "/apis/apps/v1/deployments", "limit=250", ("list", "deployments")),
        ("GET", "/api/v1/namespaces/t/configmaps/x", "", ("get", "configmaps")),
        ("PATCH", "/apis/dspy-operator.io/v1alpha1/namespaces/t/dspyapps/x/status", "",
         ("patch", "dspyapps/status")),
        ("GET", "/apis", "", ("list", "")),
    ],
)  # fmt: skip
def test_requests_are_counted_by_verb_and_resource(
    method: str, path: str, query: str, expected: tuple[str, str]
) -> None:
    assert session.describe(method, path, query) == expected


async def test_lists_and_watches_are_signs_of_life_and_discovery_is_none(server: Server) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    heard: list[str] = []
    found = credentials.Connection(server=url, tls=None)
    server.lines = [[]]
    async with session.open_session(found, Telemetry(), watching=heard.append) as opened:
        for path in ("apis", "apis/g/v1", "apis/g/v1/dspyapps", "apis/g/v1/dspyapps?watch=true"):
            async with opened.get(f"{url}/{path}") as response:
                await response.read()
    await runner.cleanup()

    assert heard == ["dspyapps", "dspyapps"]


def test_a_trimmed_object_remembers_who_wrote_last() -> None:
    managers = [
        {"manager": "dspy-operator", "time": "2026-01-03T00:00:00Z"},
        {"manager": "kubectl-edit", "time": "2026-01-02T00:00:00Z"},
        {"manager": "kubectl-scale", "time": "2026-01-01T00:00:00Z"},
        {"manager": "kube-controller-manager", "time": "2026-01-09T00:00:00Z",
         "subresource": "status"},
    ]  # fmt: skip
    trimmed = projection.trim({"metadata": {"managedFields": managers}})

    assert trimmed == {"metadata": {}, "lastWriter": "kubectl-edit"}


def test_a_token_file_is_read_again_when_it_was_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    token = credentials.Token(file=file)
    assert token.header() == {"Authorization": "Bearer one"}

    file.write_text("two\n")
    assert token.header() == {"Authorization": "Bearer one"}
    assert token.expire()
    assert token.header() == {"Authorization": "Bearer two"}


def test_without_any_credentials_the_sentence_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(credentials.CredentialsError, match="KUBECONFIG"):
        credentials.find({})
    broken = tmp_path / "config"
    broken.write_text("contexts: []")
    with pytest.raises(credentials.CredentialsError, match="no usable kubeconfig"):
        credentials.find({"KUBECONFIG": str(broken)})
