"""The Mendix view of a namespace: which components communicate, and whether the mesh encrypts it.

The connections come from Mendix's architecture. Requests reach an environment's pods on port 8080
through an ingress controller or gateway. These pods call the database and the file storage, which
are outside any mesh. The operator works through the API server. The agent calls the Portal.
"""

from collections.abc import Sequence
from typing import NamedTuple

from webhook.cluster.audit import Audited, Row
from webhook.cluster.dashboard import wires
from webhook.cluster.dashboard.wires import How, Wire
from webhook.cluster.judge import WORST_FIRST, State

_SUFFIXES = {
    "app leader": "-master", "app worker": "-worker", "build": "-build",
    "database": "-database", "file": "-file",
}  # fmt: skip
_PLATFORM = ("operator", "agent")
#: The maximum numbers of drawn environments and of other workloads. The lists show all of them.
MOST_APPS, MOST_OTHERS = 8, 6


class Node(NamedTuple):
    """A component that sends or receives traffic."""

    id: str
    title: str
    note: str
    #: None if the component is beyond the reach of the mesh.
    state: State | None
    #: The workload of the node, if it has a page.
    row: Row | None = None


class Edge(NamedTuple):
    """A connection between two nodes: what carries it, and how it is secured."""

    source: Node
    target: Node
    what: str
    how: How
    because: str


class Group(NamedTuple):
    """A group of nodes: an environment, or Mendix's components."""

    title: str
    nodes: list[Node]


class Scene(NamedTuple):
    """The contents of the picture."""

    entrance: Node | None
    apps: list[Group]
    platform: Group | None
    others: Group | None
    outside: list[Node]
    edges: list[Edge]
    #: The number of environments and other workloads that are not drawn.
    left_out: int


class Entry(NamedTuple):
    """How clients enter a namespace: its Ingresses, and the state of the controllers' pods."""

    #: The number of Ingresses; None if reading them is forbidden.
    ingresses: int | None
    #: The common state of the controllers' pods; None if none was found.
    state: State | None
    #: The namespaces of the controllers, like `ingress-nginx`.
    namespaces: list[str]


def scene(audited: Audited, entry: Entry, seen: Sequence[Wire] | None) -> Scene:
    """Return the picture of a namespace. `seen` is its traffic; None if no traffic was read."""
    apps: dict[str, list[Row]] = {}
    platform: list[Row] = []
    others: list[Row] = []
    for row in audited.workloads:
        if row.role in _PLATFORM:
            platform.append(row)
        elif row.role:
            suffix = _SUFFIXES.get(row.role, "")
            apps.setdefault(row.name.removesuffix(suffix) if suffix else row.name, []).append(row)
        else:
            others.append(row)
    ranked = sorted(apps.items(), key=lambda one: (_worst(one[1]), one[0]))
    drawn = [
        Group(name, [_node(row) for row in sorted(rows, key=_order)])
        for name, rows in ranked[:MOST_APPS]
    ]
    others.sort(key=lambda row: (WORST_FIRST.index(row.state), row.name))
    entrance = _entrance(entry) if drawn else None
    left = max(0, len(ranked) - MOST_APPS) + max(0, len(others) - MOST_OTHERS)
    edges, outside = _edges(audited.name, entrance, entry, drawn, platform, seen)
    return Scene(
        entrance=entrance,
        apps=drawn,
        platform=Group("Mendix", [_node(row) for row in platform]) if platform else None,
        others=Group("Others", [_node(row) for row in others[:MOST_OTHERS]]) if others else None,
        outside=outside,
        edges=edges,
        left_out=left,
    )


def _worst(rows: Sequence[Row]) -> int:
    return min(WORST_FIRST.index(row.state) for row in rows)


def _order(row: Row) -> tuple[int, str]:
    roles = [*_SUFFIXES]
    return roles.index(row.role) if row.role in roles else -1, row.name


def _node(row: Row) -> Node:
    total = sum(row.pods.values())
    note = f"{row.pods.get('meshed', 0)} of {total}"
    if not row.role:
        note = f"{row.kind} {note}"
    elif is_large(row):
        note += " meshed"
    return Node(f"{row.kind}/{row.name}", row.role or row.name, note, row.state, row)


def is_large(row: Row) -> bool:
    """Return whether a node is drawn large: all except Mendix's task pods."""
    return not row.role or row.role.startswith("app") or row.role in _PLATFORM


def _entrance(entry: Entry) -> Node:
    if entry.state is None:
        note = "not found" if entry.ingresses is None or entry.ingresses else "no Ingress"
        return Node("entrance", "Ingress controller", note, "unknown")
    return Node("entrance", "Ingress controller", ", ".join(entry.namespaces), entry.state)


_STORES = Node("stores", "Database, files", "the app's own TLS", None)
_REGISTRY = Node("registry", "Image registry", "where builds push", None)
_API = Node("api", "Kubernetes API", "TLS of its own", None)
_PORTAL = Node("portal", "Mendix Portal", "HTTPS", None)


def _edges(
    namespace: str,
    entrance: Node | None,
    entry: Entry,
    apps: Sequence[Group],
    platform: Sequence[Row],
    seen: Sequence[Wire] | None,
) -> tuple[list[Edge], list[Node]]:
    """Return all edges, and the nodes outside the mesh to which they lead."""
    made: list[Edge] = []
    for group in apps:
        for node in group.nodes:
            assert node.row is not None  # noqa: S101 - groups are made of rows
            if not is_large(node.row):
                target = _REGISTRY if node.row.role == "build" else _STORES
                made.append(_leaving(node, target, "task"))
                continue
            if entrance:
                made.append(_incoming(entrance, node, namespace, entry, seen))
            made.append(_leaving(node, _STORES, "the app's own connections"))
    for row in platform:
        target = _API if row.role == "operator" else _PORTAL
        what = "custom resources" if row.role == "operator" else "websocket, 443"
        made.append(_leaving(_node(row), target, what))
    made += _between(apps, namespace, seen)
    used = {edge.target.id for edge in made}
    return made, [node for node in (_STORES, _REGISTRY, _API, _PORTAL) if node.id in used]


def _leaving(source: Node, target: Node, what: str) -> Edge:
    return Edge(
        source,
        target,
        what,
        "leaves",
        "the target is outside the mesh",
    )


def _incoming(
    entrance: Node, node: Node, namespace: str, entry: Entry, seen: Sequence[Wire] | None
) -> Edge:
    """Return the edge from the ingress controller to an app: observed, else as expected."""
    name = node.row.name if node.row else ""
    arrived = [
        wire for wire in seen or ()
        if (wire.namespace, wire.workload) == (namespace, name)
        and wire.source_namespace in ("", *entry.namespaces)
    ]  # fmt: skip
    how, because = wires.together(arrived)
    if how == "unknown":
        how, because = _concluded(entrance, node, looked=seen is not None)
    return Edge(entrance, node, "HTTP, 8080", how, because)


def _concluded(source: Node, target: Node, *, looked: bool) -> tuple[How, str]:
    ends = [
        (node.state, "the ingress controller" if node.row is None else node.row.name)
        for node in (source, target)
    ]
    for state, name in ends:
        if state == "unmeshed":
            return "plaintext", f"{name} is outside the mesh"
    for state, name in ends:
        if state == "partly":
            return "mixed", f"{name} is only partly in the mesh"
    for state, name in ends:
        if state != "meshed":
            return "unknown", f"it is unknown whether {name} is in the mesh"
    if looked:
        return "unknown", "both ends are in the mesh; no traffic was observed recently"
    return "unknown", "both ends are in the mesh; traffic is not observed without Prometheus"


def _between(apps: Sequence[Group], namespace: str, seen: Sequence[Wire] | None) -> list[Edge]:
    """Return the observed edges between apps."""
    nodes = {
        node.row.name: node
        for group in apps for node in group.nodes
        if node.row and node.row.role.startswith("app")
    }  # fmt: skip
    pairs: dict[tuple[str, str], list[Wire]] = {}
    for wire in seen or ():
        if wire.source_namespace == wire.namespace == namespace and wire.source != wire.workload:
            pairs.setdefault((wire.source, wire.workload), []).append(wire)
    return [
        Edge(nodes[source], nodes[target], "app to app", *wires.together(found))
        for (source, target), found in sorted(pairs.items())
        if source in nodes and target in nodes
    ]
