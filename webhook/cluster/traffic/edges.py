"""Traffic between workloads and its share of mutual TLS, from the meshes' own metrics."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from webhook.cluster.traffic.prometheus import whole
from webhook.cluster.traffic.queries import LINKERD_OWNERS, LINKERD_TARGETS, Family, Unit, View

#: mtls: all traffic is mutual TLS. mixed: some is not. plaintext: none is. unknown: no plaintext
#: was observed, but for some traffic the security is unknown. no-data: no traffic was observed.
Verdict = Literal["mtls", "mixed", "plaintext", "unknown", "no-data"]
Security = Literal["mutual", "plaintext", "unknown"]


class Count(msgspec.Struct, kw_only=True):
    """Numbers of requests or connections, as integers. Prometheus returns fractions."""

    mutual: int = 0
    plaintext: int = 0
    #: The number for which the proxy did not report the security.
    unknown: int = 0

    @property
    def total(self) -> int:
        """Return the total."""
        return self.mutual + self.plaintext + self.unknown

    @property
    def share(self) -> int | None:
        """Return the percentage of mutual TLS, rounded down; None if there was no traffic."""
        return 100 * self.mutual // self.total if self.total else None

    def plus(self, other: "Count") -> "Count":
        """Return the sum of both."""
        return Count(
            mutual=self.mutual + other.mutual,
            plaintext=self.plaintext + other.plaintext,
            unknown=self.unknown + other.unknown,
        )


class Edge(msgspec.Struct, kw_only=True, rename="camel"):
    """The traffic from one workload to another, as the proxies of one side counted it."""

    mesh: Family
    #: The sender; empty if the mesh does not know it, for example for clients outside the mesh.
    source_namespace: str
    source: str
    #: The sender's ServiceAccount, proven by its certificate; empty if it had none.
    account: str
    namespace: str
    workload: str
    #: The receiver's kind, like `Deployment`; empty if the mesh does not report it.
    kind: str
    seen_by: View
    requests: Count
    connections: Count

    @property
    def sender(self) -> str:
        """Return the sender's name for display; empty if unknown."""
        if self.source:
            return (
                f"{self.source_namespace}/{self.source}" if self.source_namespace else self.source
            )
        if self.account:
            return f"ServiceAccount {self.source_namespace}/{self.account}"
        return ""

    @property
    def plaintext(self) -> int:
        """Return the number of requests and connections in plaintext."""
        return self.requests.plaintext + self.connections.plaintext


class Key(NamedTuple):
    """The key of an edge."""

    mesh: Family
    source_namespace: str
    source: str
    account: str
    namespace: str
    workload: str
    kind: str
    seen_by: View


class Edges:
    """Collects edges while query results arrive."""

    def __init__(self) -> None:
        self._counts: dict[Key, dict[tuple[Unit, Security], float]] = {}

    def add(self, key: Key, unit: Unit, security: Security, value: float) -> None:
        """Add a value to an edge. It can be negative."""
        counts = self._counts.setdefault(key, {})
        counts[unit, security] = counts.get((unit, security), 0.0) + value

    def finished(self) -> list[Edge]:
        """Return all edges with traffic, in a fixed order."""
        made = [
            Edge(**key._asdict(), requests=_count(counts, "requests"),
                 connections=_count(counts, "connections"))
            for key, counts in sorted(self._counts.items())
        ]  # fmt: skip
        return [edge for edge in made if edge.requests.total or edge.connections.total]


def _count(counts: Mapping[tuple[Unit, Security], float], unit: Unit) -> Count:
    def number(security: Security) -> int:
        return whole(counts.get((unit, security), 0.0))

    return Count(mutual=number("mutual"), plaintext=number("plaintext"), unknown=number("unknown"))


def read(family: Family, view: View, labels: Mapping[str, str]) -> tuple[Key, Security]:
    """Return the edge of a series, and the security of the traffic that it counts."""
    if family == "istio":
        return _istio(view, labels)
    return _taken(labels) if view == "destination" else _sent(labels)


def _taken(labels: Mapping[str, str]) -> tuple[Key, Security]:
    """Read an inbound series of Linkerd. It knows only the sender's identity, if there is one."""
    account, namespace = _identity(labels.get("client_id", ""))
    workload, kind = _owner(labels, LINKERD_OWNERS)
    key = Key("linkerd", namespace, "", account, labels.get("namespace", ""), workload, kind,
              "destination")  # fmt: skip
    tls = labels.get("tls", "")
    if tls == "true":
        return key, "mutual" if labels.get("client_id") else "unknown"
    # If the proxy passes TLS through, it knows only the server name.
    return key, "unknown" if tls == "opaque" else "plaintext"


def _sent(labels: Mapping[str, str]) -> tuple[Key, Security]:
    """Read an outbound series of Linkerd. The destination controller knows the receiver."""
    source, _ = _owner(labels, LINKERD_OWNERS)
    workload, kind = _owner(labels, LINKERD_TARGETS)
    key = Key("linkerd", labels.get("namespace", ""), source, "", labels.get("dst_namespace", ""),
              workload, kind, "source")  # fmt: skip
    tls = labels.get("tls", "")
    return key, "mutual" if tls == "true" else "unknown" if tls == "opaque" else "plaintext"


def _istio(view: View, labels: Mapping[str, str]) -> tuple[Key, Security]:
    account, by_account = _identity(labels.get("source_principal", ""))
    key = Key(
        "istio",
        _known(labels.get("source_workload_namespace", "")) or by_account,
        _known(labels.get("source_workload", "")),
        account,
        labels.get("destination_workload_namespace", ""),
        _known(labels.get("destination_workload", "")),
        "",
        view,
    )
    policy = labels.get("connection_security_policy", "")
    if policy == "mutual_tls":
        return key, "mutual"
    # A sending sidecar does not know the security. For a receiver, ztunnel's `unknown` means
    # without TLS.
    return key, "unknown" if view == "source" else "plaintext"


def _owner(labels: Mapping[str, str], kinds: Mapping[str, str]) -> tuple[str, str]:
    """Return a workload's name and kind. A ReplicaSet is returned only if nothing owns it."""
    return next(
        ((name, kind) for label, kind in kinds.items() if (name := labels.get(label, ""))),
        ("", ""),
    )


def _known(value: str) -> str:
    """Return a label of Istio; empty if its value is `unknown`."""
    return "" if value == "unknown" else value


def _identity(identity: str) -> tuple[str, str]:
    """Return the ServiceAccount and namespace of a mesh identity; empty for other identities.

    Linkerd's identities look like `shop.mendix.serviceaccount.identity.linkerd.cluster.local`,
    Istio's like `spiffe://cluster.local/ns/mendix/sa/shop`.
    """
    name, _, rest = identity.partition(".serviceaccount.identity.")
    if rest:
        account, _, namespace = name.rpartition(".")
        return account, namespace
    if identity.startswith("spiffe://"):
        match identity.removeprefix("spiffe://").split("/"):
            case [_, "ns", namespace, "sa", account]:
                return account, namespace
    return "", ""


def verdict(counts: Iterable[Count]) -> Verdict:
    """Return the verdict on the sum of some counts."""
    summed = Count()
    for count in counts:
        summed = summed.plus(count)
    if not summed.total:
        return "no-data"
    if summed.plaintext:
        return "mixed" if summed.mutual else "plaintext"
    return "unknown" if summed.unknown else "mtls"
