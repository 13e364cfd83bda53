"""Whether the text of a host or an address shows clearly that it is outside the cluster.

An allow-list: a public address, or a name in a top-level domain of the public DNS. Anything else
may be a pod or a Service. The address of a public name is not known here.
"""

import re
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from webhook.policy.plaintext.domains import TOP_LEVEL

#: The maximum length of a name in DNS. It also limits the work for one name.
_LONGEST = 253
_NAME = re.compile(r"(?:\*|[a-z0-9_-]+)(?:\.[a-z0-9_-]+)+")


class Range(NamedTuple):
    """Addresses of one version, from the first to the last."""

    version: int
    first: int
    last: int

    def meets(self, other: "Range") -> bool:
        """Return whether both ranges have a common address."""
        return (
            self.version == other.version and self.first <= other.last and other.first <= self.last
        )

    def within(self, other: "Range") -> bool:
        """Return whether the other range has all addresses of this one."""
        return (
            self.version == other.version and other.first <= self.first and self.last <= other.last
        )

    def common(self, other: "Range") -> "Range":
        """Return the common addresses of both ranges, if any."""
        return Range(self.version, max(self.first, other.first), min(self.last, other.last))


def range_of(text: str) -> Range | None:
    """Return the range of an address or a CIDR; None if the text is neither."""
    # Fast for names: the last label of a name is not a number, and contains neither : nor /.
    if not text or len(text) > _LONGEST or not (text[-1].isdigit() or ":" in text):
        return None
    address, slash, prefix = text.partition("/")
    version, size = (6, 128) if ":" in address else (4, 32)
    try:
        first = int.from_bytes(inet_pton(AF_INET6 if version == 6 else AF_INET, address))
    except (OSError, ValueError):
        return None
    rest = 0
    if slash:
        if not (prefix.isascii() and prefix.isdigit() and int(prefix) <= size):
            return None
        rest = (1 << (size - int(prefix))) - 1
    return Range(version, first & ~rest, first | rest)


def _ranges(*networks: str) -> tuple[Range, ...]:
    return tuple(one for network in networks if (one := range_of(network)))


#: The usual networks of pods and Services (linkerd2 charts/linkerd-control-plane values.yaml
#: clusterNetworks).
CLUSTER = _ranges("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
#: Non-public addresses (IANA's registries of special-purpose addresses): also the node itself, the
#: range that some providers give to pods (240.0.0.0/4), and all of IPv6 except 2000::/3.
PRIVATE = CLUSTER + _ranges(
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    "::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip


def is_external(text: str, domain: str, namespace: str = "") -> bool:
    """Return whether a host, maybe a wildcard, an address or a CIDR is clearly outside the cluster.

    `domain` is the cluster's. A resolver reads a name that ends in `namespace`, like `shop.mendix`,
    as a Service of it.
    """
    name = text.lower().rstrip(".")
    if len(name) > _LONGEST:
        return False
    addresses = range_of(name)
    if addresses is not None:
        return not any(addresses.meets(one) for one in PRIVATE)
    last = name.rpartition(".")[2]
    return (
        last in TOP_LEVEL
        and last != namespace
        and _NAME.fullmatch(name) is not None
        and not covers(name, f".{domain}")
    )


def covers(host: str, services: str) -> bool:
    """Return whether a host or wildcard matches names that end like Services' names."""
    if not host.startswith("*"):
        return host.endswith(services)
    end = host[1:]
    return not end or end.endswith(services) or services.endswith(end)
