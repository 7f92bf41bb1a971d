"""The oracles of the Argo CD tests can fail, and see through what commits explain."""

import pytest

from devcluster.audit import AuditEvent
from tests.cluster.argo_world import APPS, OPERATOR, is_against_the_other, is_work, unexplained


def version(revision: str, name: str = "apps", state: str = "", **apps: str) -> dict[str, object]:
    """Return an Application as it was at one moment."""
    resources = [{"kind": "DSPyApp", "name": n, "status": s} for n, s in apps.items()]
    status = state or ("OutOfSync" if "OutOfSync" in apps.values() else "Synced")
    sync = {"status": status, "revision": revision}
    return {"metadata": {"name": name}, "status": {"sync": sync, "resources": resources}}


CHANGES = {"one": {"a", "b"}, "two": {"a"}, "three": {"b"}}
OUT, IN = "OutOfSync", "Synced"


@pytest.mark.parametrize(
    ("versions", "blamed"),
    [
        pytest.param([version("one", a=OUT, b=OUT), version("one", a=IN, b=OUT),
                      version("one", a=IN, b=IN)], [], id="the first sync"),
        pytest.param([version("one", a=IN, b=IN), version("two", a=OUT, b=IN),
                      version("two", a=IN, b=IN)], [], id="a commit"),
        pytest.param([version("one", a=IN, b=IN), version("three", a=OUT, b=OUT),
                      version("three", a=IN, b=IN)], [], id="two commits at once"),
        pytest.param([version("one", a=IN, b=IN), version("two", a=IN, b=OUT)], ["b"],
                     id="another than the committed one"),
        pytest.param([version("one", a=IN, b=IN), version("one", a=OUT, b=IN),
                      version("one", a=OUT, b=IN), version("one", a=IN, b=IN)], ["a"],
                     id="no commit at all, once per period"),
        pytest.param([version("one", a=IN), version("one", a=OUT), version("one", a=IN),
                      version("one", a=OUT)], ["a", "a"], id="two periods"),
        pytest.param([version("two", a=OUT), version("two", a=IN), version("two", a=OUT)], ["a"],
                     id="again after the commit's sync"),
        pytest.param([version("one", a=IN), version("one", state="Unknown", a=IN)], ["apps"],
                     id="a comparison that failed"),
        pytest.param([version("one", a=IN), version("one", name="dspy-operator", x=IN),
                      version("two", name="dspy-operator", x=OUT)], ["x"],
                     id="a commit to apps explains nothing in the chart"),
        pytest.param([version("", a=OUT)], [], id="before the first comparison"),
    ],
)  # fmt: skip
def test_what_is_out_of_sync_without_a_commit_is_found(
    versions: list[dict[str, object]], blamed: list[str]
) -> None:
    assert unexplained(versions, CHANGES) == blamed


def write(user: str, resource: str, subresource: str = "", namespace: str = APPS) -> AuditEvent:
    return AuditEvent(
        user=user,
        verb="patch",
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name="x",
        code=200,
    )


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (write("argocd", "dspyapps"), ["work"]),
        (write("argocd", "dspyapps", "status"), ["against", "work"]),
        (write("argocd", "deployments"), ["against", "work"]),
        (write("argocd", "applications", namespace="argocd"), []),
        (write("argocd", "customresourcedefinitions", namespace=""), ["work"]),
        (write(OPERATOR, "dspyapps", "status"), ["work"]),
        (write(OPERATOR, "dspyapps"), ["against", "work"]),
        (write(OPERATOR, "deployments"), ["work"]),
        (write(OPERATOR, "deployments", namespace="dspy-system"), ["against", "work"]),
        (write(OPERATOR, "leases", namespace="dspy-system"), []),
        (write("admin", "deployments"), []),
    ],
)
def test_a_write_against_the_other_is_told(event: AuditEvent, told: list[str]) -> None:
    found = {"against": is_against_the_other(event), "work": is_work(event)}

    assert [name for name, true in found.items() if true] == told
