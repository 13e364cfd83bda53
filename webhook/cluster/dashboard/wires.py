"""What was seen on the wire between workloads, for the picture.

Without such evidence the picture says what must be, and that nobody has looked.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from webhook.cluster.audit import Report
from webhook.cluster.traffic import Edge, NamespaceTraffic, Traffic

#: mtls: the mesh's mutual TLS, all of it. mixed: some. plaintext: none. unknown: nobody looked, or
#: nothing was sent. leaves: to where no mesh reaches.
How = Literal["mtls", "mixed", "plaintext", "unknown", "leaves"]


class Wire(NamedTuple):
    """Requests and connections from a workload to another, as one side counted them."""

    #: Both empty where nobody knows who it was; the workload where only its account is known.
    source_namespace: str
    source: str
    namespace: str
    workload: str
    mutual: int
    plaintext: int
    #: Of these the proxy did not say.
    unknown: int
    #: Whether the one that took them counted: then they did arrive.
    arrived: bool = True


def seen(report: Report) -> Traffic | None:
    """The traffic of a report; None where nobody looked at it."""
    return report.traffic if isinstance(report.traffic, Traffic) else None


def of(report: Report, namespace: str) -> Sequence[Wire] | None:
    """The wires to the workloads of a namespace; None where nobody looked, or could."""
    found = seen(report)
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
    """What some wires show, and in what words; unknown without any.

    What both sides counted is the same traffic: the receiver's word counts.
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
