"""The rights that the chart gives to the operator, counted, and those for people."""

from typing import Any

import pytest

from dspy_operator.edge import kube
from tests import charts
from tests.charts import needs_helm, render

pytestmark = needs_helm

Rule = dict[str, Any]
ALL = ["get", "list", "watch", "create", "patch", "delete"]
OPTIONAL = ("gateway", "monitoring", "keda")
NONE_OPTIONAL = tuple(f"rbac.optionalApis.{name}=false" for name in OPTIONAL)


def rules(*settings: str, kinds: tuple[str, ...] = ("ClusterRole", "Role")) -> list[Rule]:
    """Return the rules of every role that is bound to the operator."""
    found = render(*settings)
    bindings = [d for d in found.values() if d["kind"].endswith("RoleBinding")]
    bound = [f"{b['roleRef']['kind']}/{b['roleRef']['name']}" for b in bindings]
    return [rule for name in bound if name.split("/")[0] in kinds for rule in found[name]["rules"]]


def pairs(found: list[Rule]) -> set[tuple[str, str, str]]:
    """Return every group, resource and verb that is granted."""
    return {
        (group, resource, verb)
        for rule in found
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_operators_rights_are_few_and_named_one_by_one() -> None:
    granted = pairs(rules())
    verbs = {verb for _, _, verb in granted}
    resources = {resource for _, resource, _ in granted}
    print(f"rules {len(rules())}, resource and verb pairs {len(granted)}")

    assert len(rules()) <= 20
    assert len(granted) <= 120
    assert not [pair for pair in granted if "*" in "".join(pair)]
    assert not resources & {
        "secrets",
        "nodes",
        "roles",
        "clusterroles",
        "customresourcedefinitions",
    }
    assert not [name for name in resources if name.startswith("pods/")]
    assert not verbs & {"update", "deletecollection", "escalate", "bind", "impersonate"}


def test_pods_and_apps_are_only_read() -> None:
    granted = pairs(rules())

    for resource in ("pods", "dspyapps"):
        assert {v for _, r, v in granted if r == resource} == {"get", "list", "watch"}
    assert {v for _, r, v in granted if r == "dspyapps/status"} == {"patch"}


@pytest.mark.parametrize(
    ("group", "resources"),
    [
        ("", ["configmaps", "persistentvolumeclaims", "serviceaccounts", "services"]),
        ("apps", ["deployments"]),
        ("autoscaling", ["horizontalpodautoscalers"]),
        ("policy", ["poddisruptionbudgets"]),
        ("networking.k8s.io", ["ingresses", "networkpolicies"]),
        ("gateway.networking.k8s.io", ["httproutes"]),
        ("monitoring.coreos.com", ["prometheusrules", "servicemonitors"]),
        ("keda.sh", ["scaledobjects"]),
    ],
)
def test_children_may_be_read_applied_and_deleted(group: str, resources: list[str]) -> None:
    expected = {(group, resource, verb) for resource in resources for verb in ALL}

    assert expected <= pairs(rules())


def test_every_kind_that_the_operator_uses_may_be_used() -> None:
    granted = pairs(rules())
    special = {"Event": {"create", "patch"}, "Lease": {"get", "create", "patch"}}
    for resource in kube.RESOURCES.values():
        group = resource.prefix.split("/")[1] if resource.prefix.startswith("apis/") else ""
        wanted = special.get(resource.kind, {"get", "list", "watch"})
        assert wanted <= {v for g, r, v in granted if (g, r) == (group, resource.plural)}


@pytest.mark.parametrize(
    ("api", "group"),
    [
        ("gateway", "gateway.networking.k8s.io"),
        ("monitoring", "monitoring.coreos.com"),
        ("keda", "keda.sh"),
    ],
)
def test_rights_on_kinds_of_others_have_their_switches(api: str, group: str) -> None:
    left = {g for g, _, _ in pairs(rules(f"rbac.optionalApis.{api}=false"))}

    assert group not in left
    assert len({g for g, _, _ in pairs(rules())}) == len(left) + 1


def test_leader_and_standby_share_one_lease_of_their_namespace() -> None:
    role = render()["Role/dspy-operator-lease"]

    assert role["metadata"]["namespace"] == "dspy-system"
    assert [(r.get("resourceNames"), r["verbs"]) for r in role["rules"]] == [
        (None, ["create"]),
        (["dspy-operator"], ["get", "patch"]),
    ]
    assert "leases" not in str(rules(kinds=("ClusterRole",)))


def test_named_namespaces_get_roles_and_the_cluster_none() -> None:
    settings = ("namespaces={blue,green,dspy-system}",)
    found = charts.documents(charts.text(*settings))
    roles = [d for d in found if d["kind"] == "Role"]

    assert not [d for d in found if d["kind"].startswith("ClusterRole")]
    assert sorted(f"{r['metadata']['namespace']}/{r['metadata']['name']}" for r in roles) == [
        "blue/dspy-operator",
        "dspy-system/dspy-operator",
        "dspy-system/dspy-operator-lease",
        "green/dspy-operator",
    ]
    assert pairs(roles[0]["rules"]) == pairs(rules(kinds=("ClusterRole",)))


def test_without_crds_a_namespaced_release_has_nothing_of_the_cluster() -> None:
    found = charts.documents(charts.text("namespaces={blue}", "crds.install=false"))

    assert [d["kind"] for d in found if "namespace" not in d["metadata"]] == []


def test_roles_can_be_left_to_somebody_else() -> None:
    found = render("rbac.create=false", "rbac.userRoles.create=false")

    assert not [name for name in found if "Role" in name]


def test_whoever_may_view_a_namespace_sees_its_apps() -> None:
    role = render()["ClusterRole/dspy-operator-view"]

    assert role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert {v for _, _, v in pairs(role["rules"])} == {"get", "list", "watch"}
    assert "aggregate" not in str(
        render("rbac.userRoles.aggregateToView=false")["ClusterRole/dspy-operator-view"]
    )


def test_editing_apps_is_aggregated_only_on_request() -> None:
    """Whoever writes an app runs code and mounts Secrets; that is for the administrator to say."""
    name = "ClusterRole/dspy-operator-edit"
    asked_for = render("rbac.userRoles.aggregateToEdit=true")[name]["metadata"]["labels"]

    assert "aggregate" not in str(render()[name])
    assert asked_for["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    granted = pairs(render()[name]["rules"])
    assert ("dspy-operator.io", "dspyapps/scale", "patch") in granted
    assert {g for g, _, _ in granted} == {"dspy-operator.io"}
    assert not [r for _, r, _ in granted if r == "dspyapps/status"], "only the operator reports"
