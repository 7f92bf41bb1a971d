"""Addresses of a cluster, and the wire between its network namespace and the host.

The cluster lives in a network namespace. One veth pair leads there; the host routes pod and
service addresses through it, so that tests on the host reach pods and Services. When the last
process of the namespace dies, the kernel removes the pair and with it the routes.

Each cluster takes one free network 10.N.0.0/16:

    10.N.0.1      the host's end of the wire
    10.N.0.2      the node: API server, DNS and metrics server listen here
    10.N.64.0/18  Services (10.N.64.1 is `kubernetes`, 10.N.64.10 is DNS)
    10.N.128.0/17 pods
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster import shell
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Iterable

CANDIDATES = range(210, 250)
INNER_LINK = "eth0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The addresses of one cluster.

    Attributes:
        number: Second byte of all its addresses.
    """

    number: int

    @property
    def link(self) -> str:
        """Name of the host's end of the wire."""
        return f"devcluster{self.number}"

    @property
    def everything(self) -> str:
        """All addresses of the cluster."""
        return f"10.{self.number}.0.0/16"

    @property
    def host(self) -> str:
        """Address of the host, seen from nodes and pods."""
        return f"10.{self.number}.0.1"

    @property
    def node(self) -> str:
        """Address of the node, seen from host and pods."""
        return f"10.{self.number}.0.2"

    @property
    def services(self) -> str:
        """Addresses of Services."""
        return f"10.{self.number}.64.0/18"

    @property
    def kubernetes(self) -> str:
        """Address of the Service `kubernetes`."""
        return f"10.{self.number}.64.1"

    @property
    def dns(self) -> str:
        """Address of the Service `kube-dns`."""
        return f"10.{self.number}.64.10"

    @property
    def pods(self) -> str:
        """Addresses of pods."""
        return f"10.{self.number}.128.0/17"


def choose(used: Iterable[str], preferred: int | None = None) -> Network:
    """Return a network that meets none of the used ones.

    Args:
        used: Networks in CIDR notation.
        preferred: Number of the last time; certificates can stay when it is still free.

    Raises:
        DevclusterError: All are taken.
    """
    taken = [ipaddress.ip_network(text, strict=False) for text in used]
    first = [preferred] if preferred is not None else []
    for number in [*first, *CANDIDATES]:
        network = Network(number=number)
        ours = ipaddress.ip_network(network.everything)
        if not any(ours.overlaps(other) for other in taken):
            return network
    raise DevclusterError(f"no free network: 10.{CANDIDATES[0]}.0.0/16 and the following are used")


def used_on_host() -> list[str]:
    """Return the networks of all addresses and routes of the host, except the default route."""
    links = json.loads(shell.run("ip", "-4", "-json", "address"))
    addresses = [
        f"{info['local']}/{info['prefixlen']}" for link in links for info in link["addr_info"]
    ]
    routes = json.loads(shell.run("ip", "-4", "-json", "route", "show", "table", "all"))
    targets = [route["dst"] for route in routes if route["dst"] != "default"]
    return [*addresses, *targets]


def connect(network: Network, pid: int) -> None:
    """Lay the wire from the host to the network namespace of a process, and the routes."""
    peer = ("peer", "name", INNER_LINK, "netns", str(pid))
    shell.run("ip", "link", "add", network.link, "type", "veth", *peer)
    shell.run("ip", "address", "add", f"{network.host}/30", "dev", network.link)
    shell.run("ip", "link", "set", network.link, "up")
    for target in (network.services, network.pods):
        shell.run("ip", "route", "add", target, "via", network.node)


def connect_inside(network: Network) -> None:
    """Set up the other end; runs inside the namespace once the wire has arrived."""
    shell.run("ip", "link", "set", "lo", "up")
    shell.run("ip", "address", "add", f"{network.node}/30", "dev", INNER_LINK)
    shell.run("ip", "link", "set", INNER_LINK, "up")
    shell.run("ip", "route", "add", "default", "via", network.host)


def disconnect(link: str) -> None:
    """Remove the wire if the kernel has not done so yet."""
    if shell.succeeds("ip", "link", "show", link):
        shell.succeeds("ip", "link", "delete", link)
