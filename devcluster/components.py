"""The components of the embedded cluster, in the order of their start, and who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devcluster import control_plane, kubeconfig, node
from devcluster.plan import Component

if TYPE_CHECKING:
    from devcluster.node import Node

API_PORT = 6443
ETCD_PORT = 2379

# Component, its user and the groups of that user.
CLIENTS = {
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kubelet": (f"system:node:{node.NAME}", ("system:nodes",)),
    "kube-proxy": ("system:kube-proxy", ()),
    "coredns": ("devcluster:dns", (kubeconfig.ADMIN_GROUP,)),
    "metrics-server": ("devcluster:metrics", (kubeconfig.ADMIN_GROUP,)),
}


def in_order(setup: Node) -> tuple[Component, ...]:
    """Return the components in the order of their start."""
    plane = setup.plane
    ordered = {
        "etcd": control_plane.etcd(plane),
        "containerd": node.containerd_command(setup),
        "kube-apiserver": control_plane.api_server_with_node(plane),
        "kube-controller-manager": control_plane.controller_manager(plane),
        "kube-scheduler": control_plane.scheduler(plane),
        "kubelet": node.kubelet_command(setup),
        "kube-proxy": node.kube_proxy_command(setup),
        "coredns": node.coredns_command(setup),
        "metrics-server": node.metrics_server_command(setup),
    }
    sockets = {"containerd": node.CONTAINERD_SOCKET}
    ports = {"kube-apiserver": API_PORT}
    return tuple(
        Component(
            name=name,
            command=tuple(command),
            await_port=ports.get(name, 0),
            await_socket=sockets.get(name, ""),
        )
        for name, command in ordered.items()
    )
