"""Command lines of etcd, the API server, the controllers and the scheduler.

Pure functions of one frozen value: the light cluster runs the first three on loopback, the
embedded cluster runs all of them in its own network namespace.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.certificates import Authority

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One line per request, when it is done.
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "None"},
    ],
}
_AUDIT_LOG_MEGABYTES = 100_000  # never rotate: tests remember positions in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """What the command lines depend on.

    Attributes:
        binaries: Folder of the programs.
        authority: Signs what the servers and clients present.
        config: Folder for the audit policy and the kubeconfigs of the components.
        etcd_data: Data folder of etcd; must be empty before a start.
        audit_log: File of the audit log.
        address: Address that the API server listens on.
        port: Port of the API server.
        etcd_port: Port for etcd's clients, on loopback; its peers use the next one.
        service_range: Addresses of Services, in CIDR notation.
        service_address: The first of them, which the `kubernetes` Service takes.
    """

    binaries: Path
    authority: Authority
    config: Path
    etcd_data: Path
    audit_log: Path
    address: str
    port: int
    etcd_port: int
    service_range: str
    service_address: str

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{self.port}"

    @property
    def audit_policy(self) -> Path:
        """File of the audit policy."""
        return self.config / "audit-policy.json"

    def kubeconfig(self, component: str) -> Path:
        """Kubeconfig file of a component."""
        return self.config / f"{component}.kubeconfig"


def write_audit_policy(plane: ControlPlane) -> None:
    """Write the audit policy to where the API server looks for it."""
    plane.config.mkdir(parents=True, exist_ok=True)
    plane.audit_policy.write_text(json.dumps(AUDIT_POLICY))


def etcd(plane: ControlPlane) -> list[str]:
    """Return the command of etcd. It never syncs to disk: its data is gone after a stop anyway."""
    client = f"http://127.0.0.1:{plane.etcd_port}"
    peer = f"http://127.0.0.1:{plane.etcd_port + 1}"
    return [
        str(plane.binaries / "etcd"),
        "--name=devcluster",
        f"--data-dir={plane.etcd_data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=devcluster={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(plane: ControlPlane) -> list[str]:
    """Return the command of the API server, as both kinds of cluster need it."""
    names = (
        f"IP:{plane.address}",
        f"IP:{plane.service_address}",
        "IP:127.0.0.1",
        "DNS:localhost",
        "DNS:kubernetes",
        "DNS:kubernetes.default",
        "DNS:kubernetes.default.svc",
        "DNS:kubernetes.default.svc.cluster.local",
    )
    serving = plane.authority.server("kube-apiserver", names)
    ca = plane.authority.pair.certificate
    return [
        str(plane.binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{plane.etcd_port}",
        f"--bind-address={plane.address}",
        f"--secure-port={plane.port}",
        f"--client-ca-file={ca}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        f"--service-cluster-ip-range={plane.service_range}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={plane.authority.service_account_key}",
        f"--service-account-key-file={plane.authority.service_account_public_key}",
        f"--audit-policy-file={plane.audit_policy}",
        f"--audit-log-path={plane.audit_log}",
        f"--audit-log-maxsize={_AUDIT_LOG_MEGABYTES}",
        "--profiling=false",
    ]


def api_server_with_node(plane: ControlPlane) -> list[str]:
    """Return the command of an API server that also talks to a kubelet and to extension servers."""
    kubelet_client = plane.authority.client("kube-apiserver-kubelet-client", ("system:masters",))
    proxy_client = plane.authority.client("front-proxy-client")
    return [
        *api_server(plane),
        f"--advertise-address={plane.address}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
        f"--requestheader-client-ca-file={plane.authority.pair.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy_client.certificate}",
        f"--proxy-client-key-file={proxy_client.key}",
    ]


def controller_manager(plane: ControlPlane) -> list[str]:
    """Return the command of the controllers."""
    ca = plane.authority.pair
    return [
        *_client(plane, "kube-controller-manager"),
        "--use-service-account-credentials",  # each controller has the rights of its own role
        f"--root-ca-file={ca.certificate}",
        f"--service-account-private-key-file={plane.authority.service_account_key}",
        f"--cluster-signing-cert-file={ca.certificate}",
        f"--cluster-signing-key-file={ca.key}",
        "--secure-port=0",
        # The autoscaler looks every 15 s by default, and ignores the CPU of young pods for 5 min.
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=20s",
    ]


def scheduler(plane: ControlPlane) -> list[str]:
    """Return the command of the scheduler."""
    return [*_client(plane, "kube-scheduler"), "--secure-port=0"]


def _client(plane: ControlPlane, component: str) -> list[str]:
    return [
        str(plane.binaries / component),
        f"--kubeconfig={plane.kubeconfig(component)}",
        "--leader-elect=false",
    ]
