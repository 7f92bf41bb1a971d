"""A cluster takes addresses that nobody else uses."""

import ipaddress

import pytest

from devcluster import network
from devcluster.errors import DevclusterError
from devcluster.network import Network


def test_the_first_free_network_is_taken() -> None:
    assert network.choose(["192.168.1.0/24"]) == Network(number=210)


@pytest.mark.parametrize("used", ["10.210.7.1/24", "10.210.64.0/18", "10.208.0.0/14"])
def test_a_network_that_meets_a_used_one_is_not_taken(used: str) -> None:
    chosen = ipaddress.ip_network(network.choose([used]).everything)

    assert not chosen.overlaps(ipaddress.ip_network(used, strict=False))


def test_a_machine_that_uses_all_of_them_is_told_so() -> None:
    with pytest.raises(DevclusterError, match="no free network"):
        network.choose(["10.0.0.0/8"])


def test_the_network_of_the_last_time_is_preferred_while_it_is_free() -> None:
    assert network.choose([], preferred=233) == Network(number=233)
    assert network.choose(["10.233.0.0/30"], preferred=233) == Network(number=210)


def test_all_addresses_lie_in_ranges_that_do_not_meet() -> None:
    ours = Network(number=210)
    pods, services = ipaddress.ip_network(ours.pods), ipaddress.ip_network(ours.services)

    assert not pods.overlaps(services)
    assert ipaddress.ip_address(ours.dns) in services
    assert ipaddress.ip_address(ours.kubernetes) == services[1]
    assert ipaddress.ip_address(ours.node) not in pods
    assert len(ours.link) <= 15, "the kernel allows 15 characters"
