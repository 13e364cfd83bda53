"""The observed traffic between workloads, for the picture.

Without such data the picture shows the expected connections, and says that none were observed.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from webhook.cluster.audit import Report
from webhook.cluster.traffic import Edge, NamespaceTraffic, Traffic

#: mtls: all traffic uses the mesh's mutual TLS. mixed: some does. plaintext: none does. unknown: no
#: data, no traffic, or the proxies do not report it. leaves: the traffic goes beyond the reach of
#: any mesh.
How = Literal["mtls", "mixed", "plaintext", "unknown", "leaves"]


class Wire(NamedTuple):
    """Requests and connections from one workload to another, as one side counted them."""

    #: Both are empty if the client is unknown. If only its account is known, the workload is empty.
    source_namespace: str
    source: str
    namespace: str
    workload: str
    mutual: int
    plaintext: int
    #: The number for which the proxy did not report the security.
    unknown: int
    #: Whether the receiver counted the traffic. In this case it did arrive.
    arrived: bool = True


def measured(report: Report) -> Traffic | None:
    """Return the traffic of a report; None if it was not read."""
    return report.traffic if isinstance(report.traffic, Traffic) else None


def of(report: Report, namespace: str) -> Sequence[Wire] | None:
    """Return the traffic to the workloads of a namespace; None if it was not read."""
    found = measured(report)
    one: NamespaceTraffic | None = found.namespaces.get(namespace) if found else None
    return None if one is None else [_wire(edge) for edge in one.edges]


def _wire(edge: Edge) -> Wire:
    counts = (edge.requests, edge.connections)
    return Wire(
        source_namespace=edge.source_namespace,
        source=edge.source,
        namespace=edge.namespace,
        workload=edge.workload,
        mutual=sum(one.mutual for one in counts),
        plaintext=sum(one.plaintext for one in counts),
        unknown=sum(one.unknown for one in counts),
        arrived=edge.seen_by == "destination",
    )


def together(wires: Sequence[Wire]) -> tuple[How, str]:
    """Return what some wires show, as a value and as a text; unknown if there are none.

    If both sides counted the same traffic, the receiver's numbers are used.
    """
    wires = [wire for wire in wires if wire.arrived] or wires
    mutual = sum(wire.mutual for wire in wires)
    plaintext = sum(wire.plaintext for wire in wires)
    unknown = sum(wire.unknown for wire in wires)
    total = mutual + plaintext + unknown
    if not total:
        return "unknown", "no traffic was observed"
    words = f"observed traffic: {mutual:,} of {total:,} with mutual TLS"
    if plaintext:
        return ("mixed" if mutual else "plaintext"), words
    if unknown:
        return "unknown", f"the proxies do not report mutual TLS for {unknown:,} of {total:,}"
    return "mtls", words
