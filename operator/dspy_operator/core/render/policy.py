"""The NetworkPolicy: who may reach the pods, and what the pods may reach."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from dspy_operator.core import names
from dspy_operator.core.render import config, workload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.options import Egress, Policy
    from dspy_operator.core.render.setting import Setting

_NAMESPACE: Final = "kubernetes.io/metadata.name"
_OPERATOR: Final = {"matchLabels": {"app.kubernetes.io/name": "dspy-operator"}}
_DNS_PORT: Final = 53
_EVERYWHERE: Final = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
)
"""All addresses but link-local ones, where clouds tell credentials to whoever asks."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def network_policy(app: App, policy: Policy, setting: Setting) -> Manifest:
    """Render the policy; whatever it does not name is denied, in both directions."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": config.metadata(app, app.name, "policy"),
        "spec": {
            "podSelector": {"matchLabels": names.selector(app.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": _ingress(policy, setting),
            "egress": _egress(app, policy),
        },
    }


def _ingress(policy: Policy, setting: Setting) -> list[Manifest]:
    callers: list[Manifest] = [{"podSelector": {}}]
    callers += [_pods_of(name) for name in policy.callers]
    observers = [_pods_of(name) for name in setting.installation.monitoring]
    if setting.installation.namespace:
        observers.append({**_pods_of(setting.installation.namespace), "podSelector": _OPERATOR})
    rules: list[Manifest] = [{"from": callers, "ports": [_port(workload.HTTP)]}]
    # A rule without anybody in `from` would let everybody in.
    if observers:
        rules.append({"from": observers, "ports": [_port(workload.OPS)]})
    return rules


def _egress(app: App, policy: Policy) -> list[Manifest]:
    dns: Manifest = {"ports": [_port(_DNS_PORT, "UDP"), _port(_DNS_PORT)]}
    rules = [dns]
    for model in app.program.models:
        rules += _endpoint(model.endpoint, app.namespace)
    rules += [_named(entry) for entry in policy.egress]
    return _distinct(rules)


def _endpoint(url: str, namespace: str) -> list[Manifest]:
    """Return the rules for an LM endpoint.

    A Service may listen on another port than its pods do, and policies see the pods' port: inside
    the cluster the rule is for the namespace and all ports. `name.other` may be a Service of the
    namespace `other` or a host of a top-level domain: it gets both rules.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    address = _address(host)
    if address is not None:
        block = {"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}
        return [{"to": [block], "ports": [_port(port)]}]
    outside = {"to": list(_EVERYWHERE), "ports": [_port(port)]}
    labels = host.split(".")
    if len(labels) == 1:
        return [{"to": [_pods_of(namespace)]}]
    inside = {"to": [_pods_of(labels[1])]}
    if len(labels) > 2 and labels[2] == "svc":  # noqa: PLR2004 - name.namespace.svc
        return [inside]
    return [inside, outside] if len(labels) == 2 else [outside]  # noqa: PLR2004 - name.namespace


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _named(entry: Egress) -> Manifest:
    peer = {"ipBlock": {"cidr": entry.cidr}} if entry.cidr else _pods_of(entry.namespace or "")
    rule: Manifest = {"to": [peer]}
    if entry.ports:
        rule["ports"] = [_port(port) for port in entry.ports]
    return rule


def _pods_of(namespace: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}


def _port(port: int | str, protocol: str = "TCP") -> Manifest:
    return {"port": port, "protocol": protocol}


def _distinct(rules: Iterable[Manifest]) -> list[Manifest]:
    found: list[Manifest] = []
    for rule in rules:
        if rule not in found:
            found.append(rule)
    return found
