"""Settings of the node: containerd, pod network, kubelet, kube-proxy, DNS and metrics server.

Paths such as `/var/lib/kubelet` are those inside the cluster's mount namespace; the state folder
is behind them. Each setting that differs from a default and is not self-evident says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster import archive

if TYPE_CHECKING:
    from devcluster.control_plane import ControlPlane
    from devcluster.network import Network

NAME = "node"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
METRICS_PORT = 4443
_DNS_READY_PORT = 8181
_PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the settings of the node depend on.

    Attributes:
        plane: The control plane that it belongs to.
        network: Its addresses.
        config: Folder for the rendered files.
    """

    plane: ControlPlane
    network: Network
    config: Path


def files(node: Node) -> dict[str, str]:
    """Return the configuration files by their path below the configuration folder."""
    return {
        "containerd.toml": _containerd(node),
        "cni/10-devcluster.conflist": json.dumps(_pod_network(node), indent=2),
        "resolv.conf": f"nameserver {node.network.dns}\n",
        "kubelet.json": json.dumps(_kubelet(node), indent=2),
        "kube-proxy.json": json.dumps(_kube_proxy(node), indent=2),
        "Corefile": _corefile(node),
    }


def containerd_command(node: Node) -> list[str]:
    """Return the command of containerd."""
    return ["containerd", "--config", str(node.config / "containerd.toml"), "--log-level", "warn"]


def kubelet_command(node: Node) -> list[str]:
    """Return the command of the kubelet."""
    return [
        str(node.plane.binaries / "kubelet"),
        f"--config={node.config / 'kubelet.json'}",
        f"--kubeconfig={node.plane.kubeconfig('kubelet')}",
        f"--hostname-override={NAME}",
        f"--node-ip={node.network.node}",
    ]


def kube_proxy_command(node: Node) -> list[str]:
    """Return the command of kube-proxy."""
    return [str(node.plane.binaries / "kube-proxy"), f"--config={node.config / 'kube-proxy.json'}"]


def coredns_command(node: Node) -> list[str]:
    """Return the command of the DNS server."""
    return [str(node.plane.binaries / "coredns"), "-conf", str(node.config / "Corefile")]


def metrics_server_command(node: Node) -> list[str]:
    """Return the command of the metrics server."""
    kubeconfig = node.plane.kubeconfig("metrics-server")
    return [
        str(node.plane.binaries / "metrics-server"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--secure-port={METRICS_PORT}",
        "--cert-dir=/run/metrics-server",
        "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    ]


def _containerd(node: Node) -> str:
    plugins = next((path for path in _PLUGIN_FOLDERS if path.is_dir()), _PLUGIN_FOLDERS[0])
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{archive.TOOLS_IMAGE}"
  # Where the caller may not lower oom_score_adj, runc would fail with an unrelated message.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{node.config / "cni"}"
"""


def _pod_network(node: Node) -> dict[str, Any]:
    """Return the settings of the CNI plugin `ptp`.

    It gives each pod a veth pair of its own, and the node routes between them. A bridge would need
    the kernel module br_netfilter, without which replies of Services bypass the node.
    """
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": node.network.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/var/lib/cni/networks",
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "devcluster", "plugins": [plugin]}


def _kubelet(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.network.node,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(node.plane.authority.pair.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [node.network.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": str(node.config / "resolv.conf"),
        # cgroup v1 is deprecated but may be all that the machine has; systemd may be absent.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        # The disk belongs to the host: its level must neither evict pods nor remove images.
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%"},
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "serializeImagePulls": False,
        "maxPods": 200,
    }


def _kube_proxy(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(node.plane.kubeconfig("kube-proxy"))},
        "hostnameOverride": NAME,
        "clusterCIDR": node.network.pods,
        # These settings belong to the whole machine, and may not be writable.
        "conntrack": {
            "maxPerCore": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _corefile(node: Node) -> str:
    """Return the settings of DNS: the cluster's names, and `host.devcluster` for the host."""
    return f""". {{
    bind {node.network.node}
    errors
    ready {node.network.node}:{_DNS_READY_PORT}
    hosts {{
        {node.network.host} host.devcluster
        fallthrough
    }}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {node.plane.kubeconfig("coredns")}
        ttl 2
    }}
}}
"""
