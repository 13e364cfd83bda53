"""Evidence from observed traffic: whether it is mutual TLS, as the proxies counted it.

If each pod has its proxy, the traffic should be encrypted. These numbers show whether it was. They
come from the meshes' own metrics in a Prometheus server. The results distinguish four cases: no
plaintext, no traffic, no metrics, no Prometheus.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import msgspec

from webhook.cluster.traffic.edges import Count, Edge, Edges, Verdict, read, verdict
from webhook.cluster.traffic.prometheus import Prometheus, PrometheusError
from webhook.cluster.traffic.queries import FAMILIES, QUERIES, SCRAPED, Family, within

__all__ = ["Count", "Edge", "Prometheus", "PrometheusError", "Traffic", "Verdict", "look"]

#: The maximum number of namespaces per query. Names have at most 63 characters.
_TOGETHER = 100


class Received(msgspec.Struct, kw_only=True):
    """The traffic that a workload received."""

    workload: str
    #: The kind, like `Deployment`; empty if the mesh does not report it.
    kind: str
    verdict: Verdict
    #: The percentage of mutual TLS, rounded down. The lower one of requests and connections.
    share: int | None
    requests: Count
    connections: Count


class NamespaceTraffic(msgspec.Struct, kw_only=True):
    """The traffic that a namespace's workloads received, and that they sent to other namespaces."""

    namespace: str
    mesh: str
    verdict: Verdict
    share: int | None
    requests: Count
    connections: Count
    workloads: list[Received]
    #: To its workloads, as counted by either side.
    edges: list[Edge]
    #: From its workloads to namespaces that were not scanned.
    leaving: list[Edge]

    def received(self, workload: str, kind: str) -> Received | None:
        """Return what a workload received; None if no traffic was observed."""
        for one in self.workloads:
            if one.workload == workload and one.kind in ("", kind):
                return one
        return None

    def senders(self, workload: str, kind: str) -> dict[str, int]:
        """Return how much plaintext a workload received by sender, largest first.

        Linkerd's receiving proxy does not know the sender of plaintext. But a sender in the mesh
        reports to which workload it sends plaintext. The rest comes from clients outside the mesh,
        which have the name "".
        """
        took, sent = 0, dict[str, int]()
        for edge in self.edges:
            if edge.workload != workload or edge.kind not in ("", kind) or not edge.plaintext:
                continue
            if edge.sender:
                sent[edge.sender] = sent.get(edge.sender, 0) + edge.plaintext
            else:
                took += edge.plaintext
        unnamed = took - sum(sent.values()) if self.mesh == "linkerd" else took
        if unnamed > 0:
            sent[""] = unnamed
        return dict(sorted(sent.items(), key=lambda one: (-one[1], one[0])))


class Traffic(msgspec.Struct, kw_only=True):
    """The traffic of namespaces by name."""

    #: The time window in seconds, until now.
    window: int
    namespaces: dict[str, NamespaceTraffic]
    #: What could not be read, and why.
    notes: list[str]
    #: Why nothing could be read, in one line; empty if Prometheus responded.
    error: str = ""


def look(prometheus: Prometheus, meshes: Mapping[str, str], *, window: int) -> Traffic:
    """Return the traffic of the last `window` seconds; `meshes` maps namespaces to their mesh.

    Never raise. If Prometheus does not respond, the result has an error.
    """
    edges = Edges()
    notes: list[str] = []
    wanted: dict[Family, list[str]] = {}
    for name, mesh in sorted(meshes.items()):
        if mesh in FAMILIES:
            wanted.setdefault(FAMILIES[mesh], []).append(name)
    try:
        for family, names in wanted.items():
            if not _ask(prometheus, edges, family, names, window):
                count = prometheus.query(within(SCRAPED[family], window))
                if not count:
                    notes.append(
                        f"Prometheus has no metrics of {family}'s proxies: is it the right one, "
                        "and does it scrape them?"
                    )
    except PrometheusError as error:
        return Traffic(window=window, namespaces={}, notes=[], error=str(error))
    found = edges.finished()
    namespaces = {name: _namespace(name, mesh, meshes, found) for name, mesh in meshes.items()}
    return Traffic(window=window, namespaces=namespaces, notes=notes)


def _ask(
    prometheus: Prometheus, edges: Edges, family: Family, names: Sequence[str], window: int
) -> bool:
    """Send all queries for some namespaces. Return whether any of them had a result."""
    answered = False
    rest = iter(names)
    while some := list(islice(rest, _TOGETHER)):
        for query in QUERIES:
            if query.family != family:
                continue
            for sample in prometheus.query(query.text(some, window)):
                answered = True
                key, security = read(family, query.seen_by, sample.labels)
                edges.add(key, query.unit, security, query.weight * sample.value)
    return answered


def _namespace(
    name: str, mesh: str, known: Mapping[str, str], edges: Iterable[Edge]
) -> NamespaceTraffic:
    arriving, leaving = [], []
    for edge in edges:
        if edge.namespace == name:
            arriving.append(edge)
        elif edge.source_namespace == name and edge.namespace not in known:
            leaving.append(edge)
    workloads = _received(arriving)
    requests, connections = _sum(workloads)
    return NamespaceTraffic(
        namespace=name,
        mesh=mesh,
        verdict=verdict((requests, connections)),
        share=_least(requests, connections),
        requests=requests,
        connections=connections,
        workloads=workloads,
        edges=arriving,
        leaving=leaving,
    )


def _received(edges: Iterable[Edge]) -> list[Received]:
    """Return what each workload received, by its own count, else by that of the senders."""
    by_workload: dict[tuple[str, str], list[Edge]] = {}
    for edge in edges:
        by_workload.setdefault((edge.workload, edge.kind), []).append(edge)
    made = []
    for (workload, kind), all_of in sorted(by_workload.items()):
        own = [edge for edge in all_of if edge.seen_by == "destination"] or all_of
        requests, connections = _sum(own)
        made.append(
            Received(
                workload=workload,
                kind=kind,
                verdict=verdict((requests, connections)),
                share=_least(requests, connections),
                requests=requests,
                connections=connections,
            )
        )
    return made


def _sum(counted: Iterable[Edge | Received]) -> tuple[Count, Count]:
    requests, connections = Count(), Count()
    for one in counted:
        requests = requests.plus(one.requests)
        connections = connections.plus(one.connections)
    return requests, connections


def _least(*counts: Count) -> int | None:
    shares = [count.share for count in counts if count.share is not None]
    return min(shares) if shares else None
