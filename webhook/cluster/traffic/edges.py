"""Who talks to whom, how much of it by mutual TLS: what the meshes' own metrics give."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from webhook.cluster.traffic.prometheus import whole
from webhook.cluster.traffic.queries import LINKERD_OWNERS, LINKERD_TARGETS, Family, Unit, View

#: mtls: all of it is mutual TLS. mixed, plaintext: some is not, or none is. unknown: nothing is
#: plaintext, but of some it is not known. no-data: nothing was seen, which says nothing.
Verdict = Literal["mtls", "mixed", "plaintext", "unknown", "no-data"]
Security = Literal["mutual", "plaintext", "unknown"]


class Count(msgspec.Struct, kw_only=True):
    """Requests or connections, rounded, but never to none; Prometheus reckons in fractions."""

    mutual: int = 0
    plaintext: int = 0
    #: Of these the proxy that counted them does not say.
    unknown: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.mutual + self.plaintext + self.unknown

    @property
    def share(self) -> int | None:
        """Those in mutual TLS, of a hundred: rounded down, so that 100 is all; None of none."""
        return 100 * self.mutual // self.total if self.total else None

    def plus(self, other: "Count") -> "Count":
        """Both together."""
        return Count(
            mutual=self.mutual + other.mutual,
            plaintext=self.plaintext + other.plaintext,
            unknown=self.unknown + other.unknown,
        )


class Edge(msgspec.Struct, kw_only=True, rename="camel"):
    """What went from one workload to another, by the count of one side's proxies."""

    mesh: Family
    #: Who sent it; empty where the mesh can't tell, as of clients outside of it.
    source_namespace: str
    source: str
    #: The sender's ServiceAccount, proved by its certificate; empty where it had none.
    account: str
    namespace: str
    workload: str
    #: The receiver's kind, as `Deployment`; empty where the mesh does not say.
    kind: str
    seen_by: View
    requests: Count
    connections: Count

    @property
    def sender(self) -> str:
        """The sender's name for people; empty where nobody knows."""
        if self.source:
            return (
                f"{self.source_namespace}/{self.source}" if self.source_namespace else self.source
            )
        if self.account:
            return f"ServiceAccount {self.source_namespace}/{self.account}"
        return ""

    @property
    def plaintext(self) -> int:
        """Requests and connections in plaintext."""
        return self.requests.plaintext + self.connections.plaintext


class Key(NamedTuple):
    """What tells edges apart."""

    mesh: Family
    source_namespace: str
    source: str
    account: str
    namespace: str
    workload: str
    kind: str
    seen_by: View


class Edges:
    """Edges while answers come in."""

    def __init__(self) -> None:
        self._counts: dict[Key, dict[tuple[Unit, Security], float]] = {}

    def add(self, key: Key, unit: Unit, security: Security, value: float) -> None:
        """Count some more, or fewer, of an edge."""
        counts = self._counts.setdefault(key, {})
        counts[unit, security] = counts.get((unit, security), 0.0) + value

    def finished(self) -> list[Edge]:
        """All edges on which there was anything, in a fixed order."""
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
    """Whose edge a series is, and how secure what it counts was."""
    if family == "istio":
        return _istio(view, labels)
    return _taken(labels) if view == "destination" else _sent(labels)


def _taken(labels: Mapping[str, str]) -> tuple[Key, Security]:
    """Linkerd, inbound: of the sender there is its identity, if it has one."""
    account, namespace = _identity(labels.get("client_id", ""))
    workload, kind = _owner(labels, LINKERD_OWNERS)
    key = Key("linkerd", namespace, "", account, labels.get("namespace", ""), workload, kind,
              "destination")  # fmt: skip
    tls = labels.get("tls", "")
    if tls == "true":
        return key, "mutual" if labels.get("client_id") else "unknown"
    # Of TLS that the proxy passes through it sees the name alone.
    return key, "unknown" if tls == "opaque" else "plaintext"


def _sent(labels: Mapping[str, str]) -> tuple[Key, Security]:
    """Linkerd, outbound: of the receiver all is known that the destination controller knows."""
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
    # Sidecars that send do not know; of those that take, ztunnel says so of what came without TLS.
    return key, "unknown" if view == "source" else "plaintext"


def _owner(labels: Mapping[str, str], kinds: Mapping[str, str]) -> tuple[str, str]:
    """A workload's name and kind; a ReplicaSet only where nothing owns it."""
    return next(
        ((name, kind) for label, kind in kinds.items() if (name := labels.get(label, ""))),
        ("", ""),
    )


def _known(value: str) -> str:
    """Istio's label, where it says anything."""
    return "" if value == "unknown" else value


def _identity(identity: str) -> tuple[str, str]:
    """The ServiceAccount and namespace of a mesh identity; empty where it is none of Kubernetes'.

    Linkerd's are `shop.mendix.serviceaccount.identity.linkerd.cluster.local`, Istio's
    `spiffe://cluster.local/ns/mendix/sa/shop`.
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
    """What counts say together."""
    summed = Count()
    for count in counts:
        summed = summed.plus(count)
    if not summed.total:
        return "no-data"
    if summed.plaintext:
        return "mixed" if summed.mutual else "plaintext"
    return "unknown" if summed.unknown else "mtls"
