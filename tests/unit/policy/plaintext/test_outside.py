"""Which hosts and addresses are clearly outside the cluster."""

import ipaddress
from pathlib import Path

import hypothesis.vendor
import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from webhook.policy.plaintext.domains import TOP_LEVEL
from webhook.policy.plaintext.outside import CLUSTER, PRIVATE, Range, is_external, range_of

law = configure(max_examples=200)


@pytest.mark.parametrize(
    "text",
    ["api.example.com", "*.example.com", "API.Example.COM", "api.example.com.", "example.org",
     "login.xn--fiqs8s", "my_bucket.s3.amazonaws.com", "93.184.215.14", "93.184.215.0/24",
     "2606:2800::1", "*.com"],
)  # fmt: skip
def test_public_names_and_addresses_are_outside(text: str) -> None:
    assert is_external(text, "cluster.local", "mendix")


@pytest.mark.parametrize(
    "text",
    ["", "*", "shop", "shop.mendix", "shop.mendix.svc", "shop.mendix.svc.cluster.local", "*.local",
     "shop.internal", "db.corp", "shop.mendix.svc.cluster.local.", "10.1.2.3", "10.1", "0.0.0.0/0",
     # It has 10.0.0.0/8 in its middle.
     "8.0.0.0/6", "192.168.0.1/24", "100.64.0.9", "240.0.0.9", "127.0.0.1", "fd00::1", "::1",
     "::ffff:10.1.2.3", "64:ff9b::a01:203", "fe80::1%eth0", "unix:///run/x.com", "a b.com", ".com",
     "a..com", f"{'a' * 300}.com"],
)  # fmt: skip
def test_what_may_be_in_the_cluster_is_not_outside(text: str) -> None:
    assert not is_external(text, "cluster.local", "mendix")


def test_a_cluster_s_domain_may_be_a_public_one() -> None:
    assert not is_external("shop.mendix.svc.k8s.example.com", "k8s.example.com")
    assert not is_external("*.example.com", "k8s.example.com")
    assert is_external("shop.example.com", "k8s.example.com")


def test_a_namespace_that_is_named_as_a_public_domain_is_not_outside_itself() -> None:
    assert not is_external("shop.dev", "cluster.local", "dev")
    assert is_external("shop.dev", "cluster.local", "mendix")


def test_every_public_domain_is_known_and_no_private_one() -> None:
    listed = Path(hypothesis.vendor.__path__[0], "tlds-alpha-by-domain.txt").read_text()
    names = {line.lower() for line in listed.split("\n") if line and not line.startswith("#")}
    assert names - TOP_LEVEL == {"arpa"}
    assert not TOP_LEVEL & {"internal", "local", "localhost", "lan", "corp", "home", "svc", "test"}


@law
@given(st.ip_addresses())
def test_no_private_address_is_outside(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global:
        assert not is_external(str(address), "cluster.local")


@law
@given(st.sampled_from(PRIVATE + CLUSTER), st.data())
def test_a_network_with_a_private_address_is_not_outside(one: Range, data: st.DataObject) -> None:
    number = data.draw(st.integers(one.first, one.last))
    address = ipaddress.IPv4Address(number) if one.version == 4 else ipaddress.IPv6Address(number)
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    assert not is_external(f"{address}/{prefix}", "cluster.local")


@law
@given(st.ip_addresses(), st.integers(0, 140))
def test_a_range_is_that_of_the_network(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int
) -> None:
    found = range_of(f"{address}/{prefix}")
    if prefix > address.max_prefixlen:
        assert found is None
    else:
        network = ipaddress.ip_network((address, prefix), strict=False)
        assert found == (address.version, int(network[0]), int(network[-1]))


@pytest.mark.parametrize("text", ["10.1", "10.1.2.3/", "10.1.2.3/-1", "10.1.2.3/٣", "1::2::3",
                                  "10.1.2.3/8/8", "x:1", "\0:1", "10.1.2.300"])  # fmt: skip
def test_what_is_no_address_has_no_range(text: str) -> None:
    assert range_of(text) is None


def test_the_common_part_of_two_ranges_lies_within_both() -> None:
    whole, part = range_of("10.0.0.0/8"), range_of("10.1.0.0/16")
    assert whole
    assert part
    assert whole.common(part) == part
    assert part.within(whole)
    assert not whole.within(part)
