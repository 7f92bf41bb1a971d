"""How requests and watch lines are read."""

import json

import pytest

from faults.trace import Target, Trace, digest, stream_name, target

NAMESPACED = "/apis/apps/v1/namespaces/team/deployments"
STATUS = "/apis/dspy-operator.io/v1alpha1/namespaces/team/dspyapps/qa/status"


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/namespaces/team/pods/a", "", ("get", Target("pods", "team", "a"))),
        ("GET", "/api/v1/pods", "", ("list", Target("pods"))),
        ("GET", "/api/v1/pods", "watch=true&x=y", ("watch", Target("pods"))),
        ("GET", "/api/v1/namespaces/team", "", ("get", Target("namespaces", "", "team"))),
        ("GET", "/apis/apps/v1", "", ("get", Target(""))),
        ("DELETE", f"{NAMESPACED}/qa", "", ("delete", Target("deployments", "team", "qa"))),
        ("PATCH", STATUS, "force=true", ("patch", Target("dspyapps", "team", "qa", "status"))),
    ],
)
def test_a_path_is_read_as_the_api_server_reads_it(
    method: str, path: str, query: str, expected: tuple[str, Target]
) -> None:
    asked = Trace().ask(method, path, query, b"")

    assert (asked.verb, asked.target) == expected


def test_a_write_counts_as_accepted_only_once_the_server_has_said_so() -> None:
    trace = Trace()
    asked = trace.ask("PATCH", f"{NAMESPACED}/qa", "", b"{}")
    assert not trace.requests[0].is_accepted

    trace.answer(asked, 200, b'{"metadata":{"resourceVersion":"7"}}')
    assert trace.requests[0].is_accepted
    assert trace.requests[0].version == "7"


def test_the_preconditions_of_a_deletion_are_noted() -> None:
    body = json.dumps({"preconditions": {"uid": "u", "resourceVersion": "1"}}).encode()

    assert Trace().ask("DELETE", f"{NAMESPACED}/qa", "", body).preconditions == (
        "resourceVersion",
        "uid",
    )


def test_bodies_of_two_runs_have_one_digest_and_other_content_has_another() -> None:
    def body(namespace: str, image: str) -> bytes:
        uid = "3a0f6bd0-5c0e-4a53-9d0c-6f2b8a0f1c11" if namespace == "one" else (
            "11111111-2222-3333-4444-555555555555"
        )  # fmt: skip
        made = {"metadata": {"namespace": namespace, "uid": uid}, "image": image}
        return json.dumps(made).encode()

    assert digest(body("one", "a"), "one") == digest(body("two", "a"), "two")
    assert digest(body("one", "a"), "one") != digest(body("one", "b"), "one")


def test_events_are_all_alike() -> None:
    trace = Trace()
    path = "/apis/events.k8s.io/v1/namespaces/team/events"
    one = trace.ask("PATCH", f"{path}/qa.1234", "", b'{"a":1}')
    other = trace.ask("PATCH", f"{path}/qa.5678", "", b'{"a":2}')

    assert (one.target, one.digest) == (other.target, other.digest)
    assert trace.writes() == []


def test_generated_names_of_pods_are_no_part_of_a_point() -> None:
    metadata = {"name": "qa-7d4b9c6f5d-x2x9z", "uid": "u", "resourceVersion": "1"}
    raw = json.dumps({"type": "ADDED", "object": {"metadata": metadata}}).encode()

    assert Trace().line("pods", raw).name == "qa-*"
    assert Trace().line("configmaps", raw).name == "qa-7d4b9c6f5d-x2x9z"


def test_the_two_streams_of_one_resource_have_two_names() -> None:
    asked = target("/api/v1/configmaps")

    assert stream_name(asked, "application/json") == "configmaps"
    assert stream_name(asked, "application/json;as=PartialObjectMetadata") == "configmaps/metadata"
