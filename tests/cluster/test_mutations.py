"""At least 500 wrong or extreme specs against the real API server and the operator behind it.

Each is refused with a message that names the field, or accepted and then told by an honest
condition; the operator neither loops nor logs a traceback, and the next good spec heals the app.
"""

import copy
import json
import time
from typing import Any

import kubernetes
import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from devcluster.layout import find_repository
from tests.cluster.mutations import Mutation, mutations
from tests.cluster.operator_world import Operator, World, app, until
from tests.cluster.test_children import EVERYTHING

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(420)]

GROUP = ("dspy-operator.io", "v1alpha1")
HONEST = {
    "InvalidSpec",
    "KindsMissing",
    "ObjectRefused",
    "PodsRefused",
    "PodsStarting",
    "ScaledToZero",
    "SourceMissing",
}
"""What an app without a node may say of itself; the fake pods of other tests are not played."""


def bases() -> dict[str, dict[str, Any]]:
    """Return valid specs that together hold most fields; no pod is wanted."""
    full = copy.deepcopy(EVERYTHING)
    del full["serving"]["autoscaling"]
    full["serving"] |= {
        "replicas": 0,
        "env": [{"name": "A", "value": "b"}],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}],
        "nodeSelector": {"disk": "fast"},
        "podAnnotations": {"a": "b"},
        "priorityClassName": "high",
        "timeoutSeconds": 30,
        "concurrency": 8,
    }
    signature = {
        "instructions": "Sort.",
        "inputs": [{"name": "text", "type": "str", "description": "A ticket."}],
        "outputs": [{"name": "label", "type": "Literal['a', 'b']"}],
        "types": [{"name": "Item", "fields": [{"name": "sku", "type": "int"}]}],
    }
    model = {
        "name": "main",
        "model": "m",
        "endpoint": "https://lm.example.com/v1",
        "keySecretRef": {"name": "lm", "key": "api-key"},
        "temperature": "0.7",
        "maxTokens": 100,
        "timeoutSeconds": 10,
        "maxRetries": 1,
    }
    python = {"entrypoint": "shop:build"}
    return {
        "declared": app(
            program={
                "signature": signature,
                "module": {"type": "ReAct", "tools": ["shop:find"], "maxIterations": 3},
                "source": {"configMapRef": {"name": "shop"}},
                "adapter": "JSON",
                "demos": [{"text": "x", "label": "a"}],
            },
            models=[model],
            serving={"replicas": 0},
        )["spec"],
        "python": app(program={"python": python}, serving={"replicas": 0})["spec"],
        "full": app(**full)["spec"],
    }


def found() -> list[tuple[str, Mutation]]:
    """Return every mutation with the name of the base that it comes from."""
    crd = yaml.safe_load((find_repository() / "crds" / "dspyapps.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return [(name, m) for name, spec in bases().items() for m in mutations(spec, schema)]


class Api:
    """Applies apps as a user does, over one connection."""

    def __init__(self, world: World) -> None:
        kubeconfig = str(world.access.kubeconfig)
        client = kubernetes.config.new_client_from_config(kubeconfig)
        self._api = kubernetes.client.CustomObjectsApi(client)
        self._namespace = world.namespace

    def create(self, name: str, spec: Any) -> str:  # noqa: ANN401 - JSON
        """Create an app strictly; return the API server's complaint, empty where it took it."""
        body = {**app(name), "spec": spec}
        try:
            self._api.create_namespaced_custom_object(
                *GROUP, self._namespace, "dspyapps", body, field_validation="Strict"
            )
        except ApiException as error:
            if error.status not in {400, 422}:
                raise
            return str(json.loads(error.body)["message"])
        return ""

    def replace(self, name: str, spec: Any) -> None:  # noqa: ANN401 - JSON
        """Give an app another spec."""
        live = self._api.get_namespaced_custom_object(*GROUP, self._namespace, "dspyapps", name)
        self._api.replace_namespaced_custom_object(
            *GROUP, self._namespace, "dspyapps", name, {**live, "spec": spec}
        )

    def reasons(self) -> dict[str, str]:
        """Return the reason of Ready of each app that was looked at in its present generation."""
        live = self._api.list_namespaced_custom_object(*GROUP, self._namespace, "dspyapps")
        return {
            each["metadata"]["name"]: condition["reason"]
            for each in live["items"]
            if each["status"].get("observedGeneration") == each["metadata"]["generation"]
            for condition in each["status"]["conditions"]
            if condition["type"] == "Ready"
        }


def loops(world: World, since: int, reasons: dict[str, str]) -> list[str]:
    """Return the writes of children, but not those that were refused and are tried now and then."""
    refused = {name for name, reason in reasons.items() if reason == "ObjectRefused"}
    writes = [w for w in world.writes(since) if not w.startswith("patch dspyapps/status")]
    return [w for w in writes if w.split()[-1].removesuffix("-cache") not in refused]


def test_wrong_specs_are_refused_or_told_and_the_next_good_one_heals(
    world: World, operator: Operator
) -> None:
    api, accepted = Api(world), {}
    cases = found()
    assert len(cases) >= 500
    unclear = []
    for number, (base, mutation) in enumerate(cases):
        complaint = api.create(f"m{number}", mutation.spec)
        if not complaint:
            accepted[f"m{number}"] = base, mutation
        elif mutation.path and mutation.field not in complaint:
            unclear.append(f"{mutation} -> {complaint[:300]}")
    print(f"{len(cases)} mutations, {len(accepted)} accepted")
    assert unclear == [], "a message that does not name the field"

    until(lambda: accepted.keys() <= api.reasons().keys(), "a verdict on each", 120)
    late = [str(accepted[n][1]) for n, r in api.reasons().items() if r == "ObjectRefused"]
    print("refused only by a child's own rules:", late)
    dishonest = {
        str(mutation): api.reasons()[name]
        for name, (_, mutation) in accepted.items()
        if api.reasons()[name] not in HONEST
    }
    assert dishonest == {}

    quiet_from = world.marker()
    time.sleep(5)
    assert loops(world, quiet_from, api.reasons()) == [], "nothing changes, nothing is written"

    for name in accepted:
        api.replace(name, {**bases()["python"], "serving": {"replicas": 0}})
    healed = {"ScaledToZero"}
    until(lambda: set(api.reasons().values()) == healed, "all apps to heal", 120)
    assert "Traceback" not in operator.log.read_text()
