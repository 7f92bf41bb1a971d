"""From YAML to answers in a real cluster: what a user of the first slice relies on."""

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.access import Access
from devcluster.apps import Apps
from devcluster.errors import DevclusterError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TEXT = {"text": "I was charged twice for my subscription this month"}


def example(name: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / f"examples/{name}/app.yaml").read_text())
    return next(d for d in documents if d["kind"] == "DSPyApp")


def changed(name: str, **spec: object) -> dict[str, Any]:
    """Return an example under another name, with parts of its spec replaced."""
    app = copy.deepcopy(example("tickets"))
    app["metadata"]["name"] = name
    app["spec"].update(spec)
    app["spec"].setdefault("serving", {})["replicas"] = 1
    return app


@pytest.fixture(scope="module")
def here(operator_installed: Access) -> Iterator[Apps]:
    """One namespace with the practice LM for the tests of this module."""
    name = operator_installed.create_namespace("slice")
    apps = Apps(cluster=operator_installed, namespace=name)
    apps.start_practice_lm()
    yield apps
    operator_installed.delete_namespace(name)


@pytest.fixture(scope="module")
def tickets(here: Apps) -> Apps:
    here.apply_file("examples/tickets/app.yaml")
    here.wait_ready("tickets")
    return here


def test_a_ticket_is_sorted_by_three_pods(tickets: Apps) -> None:
    answer = tickets.ask("tickets", TEXT)

    assert answer["prediction"] == {"label": "billing"}
    assert tickets.get("dspyapp", "tickets")["status"]["readyReplicas"] == 3


def test_the_api_describes_itself(tickets: Apps) -> None:
    document = json.loads(tickets.read("tickets", "/openapi.json"))

    assert "/v1/predict" in document["paths"]
    assert "<html" in tickets.read("tickets", "/docs").lower()
    assert "endpoint" not in tickets.read("tickets", "/v1/info")


def test_a_typed_extractor_answers_a_nested_object(here: Apps) -> None:
    here.apply_file("examples/invoices/app.yaml")
    here.wait_ready("invoices")
    letter = "Invoice INV-3071 of 2026-05-02 lists 129.90. Regards, Eva Stone, eva@example.net"

    invoice = here.ask("invoices", {"letter": letter})["prediction"]["invoice"]

    assert isinstance(invoice["amount"], float)
    assert invoice["number"] == "INV-3071"
    assert invoice["dates"] == ["2026-05-02"]
    assert set(invoice["contact"]) == {"name", "email"}
    here.kubectl("delete", "dspyapp", "invoices")


def test_an_agent_uses_a_tool_of_the_users_own(here: Apps) -> None:
    here.apply_file("examples/tools/app.yaml")
    here.wait_ready("parcels")

    assert set(here.ask("parcels", {"number": "P-100"})["prediction"]) == {"place"}
    here.kubectl("delete", "dspyapp", "parcels")


def test_the_applied_manifest_stays_as_its_author_wrote_it(tickets: Apps) -> None:
    live = tickets.get("dspyapp", "tickets")

    tickets.kubectl("diff", "--filename", str(ROOT / "examples/tickets/app.yaml"))
    assert "finalizers" not in live["metadata"]
    assert set(live["metadata"]["annotations"]) == {
        "kubectl.kubernetes.io/last-applied-configuration"
    }


def test_pods_run_restricted_and_without_a_token(tickets: Apps) -> None:
    selector = "--selector=dspy-operator.io/app=tickets"
    pod = json.loads(tickets.kubectl("get", "pods", selector, "--output=json"))["items"][0]["spec"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert not any("token" in m["mountPath"] for m in pod["containers"][0]["volumeMounts"])


def test_no_request_fails_while_the_program_changes_and_pods_and_operator_die(
    tickets: Apps,
) -> None:
    tickets.start_load("tickets", TEXT, rate=20, seconds=75)
    patch = {"spec": {"program": {"signature": {"instructions": "Sort it. Be precise."}}}}
    tickets.kubectl("patch", "dspyapp", "tickets", "--type=merge", f"--patch={json.dumps(patch)}")
    time.sleep(1)
    operator = ("--namespace=dspy-system", "--selector=app.kubernetes.io/name=dspy-operator")
    tickets.cluster.kubectl("delete", "pod", *operator, "--grace-period=0", "--force")
    tickets.wait_ready("tickets")
    victim = tickets.names("pods", "tickets")[0]
    tickets.kubectl("delete", victim, "--wait=false")
    tickets.wait_ready("tickets")

    summary = tickets.finish_load()

    assert summary["failed"] == 0, summary
    assert summary["sent"] == 20 * 75


def test_drift_is_repaired(tickets: Apps) -> None:
    tickets.kubectl("delete", "service", "tickets")
    tickets.kubectl("scale", "deployment", "tickets", "--replicas=0")

    def repaired() -> bool:
        services = tickets.names("services", "tickets")
        return bool(services) and tickets.get("deployment", "tickets")["spec"]["replicas"] == 3

    tickets.wait_until(repaired, "service and replicas to come back", seconds=30)
    tickets.wait_ready("tickets")


def test_an_image_that_cannot_be_pulled_is_named(here: Apps) -> None:
    here.apply(changed("no-image", image="registry.invalid/nothing:1"))

    condition = here.wait("no-image", "Ready", "False", "ImagePullFailed")

    assert "registry.invalid/nothing:1" in condition["message"]
    here.kubectl("delete", "dspyapp", "no-image")


def test_a_node_that_does_not_fit_is_told_in_the_schedulers_words(here: Apps) -> None:
    here.apply(changed("too-big", serving={"nodeSelector": {"accelerator": "none-has-this"}}))

    condition = here.wait("too-big", "Ready", "False", "Unschedulable")

    assert "node" in condition["message"]
    here.kubectl("delete", "dspyapp", "too-big")


def test_a_program_that_does_not_import_shows_the_workers_own_text(here: Apps) -> None:
    here.apply(changed("no-program", program={"python": {"entrypoint": "shop.assistant:build"}}))

    condition = here.wait("no-program", "Ready", "False", "ProgramFailed")

    assert "shop" in condition["message"]
    assert here.condition("no-program", "Stalled")["status"] == "True"
    here.kubectl("delete", "dspyapp", "no-program")


def test_a_type_that_does_not_parse_is_told_before_any_pod_starts(here: Apps) -> None:
    program = copy.deepcopy(example("tickets")["spec"]["program"])
    program["signature"]["outputs"][0]["type"] = "list[Adress]"
    here.apply(changed("no-type", program=program))

    condition = here.wait("no-type", "Ready", "False", "InvalidSpec", seconds=20)

    assert "type 'Adress' is unknown" in condition["message"]
    assert here.names("deployments", "no-type") == []
    here.kubectl("delete", "dspyapp", "no-type")


def test_a_missing_key_is_told_and_its_arrival_noticed_without_a_restart(here: Apps) -> None:
    model = {**example("tickets")["spec"]["models"][0], "keySecretRef": {"name": "lm-key"}}
    here.apply(changed("no-key", models=[model]))
    condition = here.wait("no-key", "LMCredentialsReady", "False")
    assert "lm-key" in condition["message"]
    assert here.condition("no-key", "Ready")["reason"] == "LMCredentialsMissing"

    pods = here.names("pods", "no-key")
    here.kubectl("create", "secret", "generic", "lm-key", "--from-literal=api-key=s3cret")
    here.wait_ready("no-key", seconds=240)

    assert here.names("pods", "no-key") == pods
    assert here.ask("no-key", TEXT)["prediction"]["label"]
    here.kubectl("delete", "dspyapp", "no-key")


def test_deletion_leaves_nothing_behind(here: Apps) -> None:
    here.apply(changed("short-lived"))
    here.wait_ready("short-lived")
    kinds = "deployments,services,configmaps,serviceaccounts,pods,replicasets"
    assert here.names(kinds, "short-lived")

    here.kubectl("delete", "dspyapp", "short-lived")

    here.wait_until(lambda: not here.names(kinds, "short-lived"), "all to be gone", seconds=120)


@pytest.mark.parametrize("resource", ["secrets", "nodes"])
def test_the_operator_may_not_read_what_it_does_not_need(
    operator_installed: Access, resource: str
) -> None:
    user = "--as=system:serviceaccount:dspy-system:dspy-operator"
    with pytest.raises(DevclusterError, match="is forbidden"):
        operator_installed.kubectl("get", resource, user, "--all-namespaces")
