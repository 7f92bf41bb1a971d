"""Objects that a fresh cluster needs: DNS, metrics and volumes.

DNS server and metrics server run beside the other components, not in pods; a Service without a
selector and an EndpointSlice by hand make them known to the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devcluster import node

if TYPE_CHECKING:
    from devcluster.network import Network

Manifest = dict[str, Any]

VOLUMES = tuple(f"volume-{number:02d}" for number in range(24))
VOLUME_FOLDER = "/var/lib/volumes"
_STORAGE_CLASS = "standard"


def manifests(network: Network) -> list[Manifest]:
    """Return all objects."""
    return [
        *dns(network),
        *metrics(network),
        _storage_class(),
        *(_volume(name) for name in VOLUMES),
    ]


def dns(network: Network) -> list[Manifest]:
    """Return what makes the DNS server known at the address that pods ask."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    return _external_service("kube-dns", network, ports, cluster_ip=network.dns)


def metrics(network: Network) -> list[Manifest]:
    """Return what makes the metrics server known as an extension of the API."""
    ports = [{"name": "https", "port": node.METRICS_PORT, "protocol": "TCP"}]
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {
                "name": "metrics-server",
                "namespace": "kube-system",
                "port": node.METRICS_PORT,
            },
        },
    }
    return [*_external_service("metrics-server", network, ports), registration]


def _external_service(
    name: str, network: Network, ports: list[Manifest], *, cluster_ip: str | None = None
) -> list[Manifest]:
    """Return a Service of a program that runs at the node's own address."""
    spec: Manifest = {"ports": ports}
    if cluster_ip:
        spec["clusterIP"] = cluster_ip
    metadata = {"name": name, "namespace": "kube-system"}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [network.node], "conditions": {"ready": True}}],
        },
    ]


def _storage_class() -> Manifest:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": _STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(name: str) -> Manifest:
    """Return a volume for one claim. Nothing provisions more, and none is used twice."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": _STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"{VOLUME_FOLDER}/{name}"},
        },
    }
