"""The node agents that redirect the pods' traffic are missing."""

from collections.abc import Iterator, Mapping

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, Severity

FINDING = FindingRule(
    id="agents-missing",
    severity="error",
    means="nothing redirects the pods' traffic on these nodes: in ambient mode the pods are "
    "outside the mesh, with a CNI plugin they do not start",
    fix="install the mesh's CNI plugin (in ambient mode also ztunnel); if it is installed, find "
    "out why its pods are not ready",
    source="istio istio-cni and ztunnel charts; linkerd2 charts/linkerd2-cni",
)
#: Init containers that the injector adds if a CNI plugin is expected, and the plugin's DaemonSet.
_AGENT_OF: Mapping[str, str] = {
    "linkerd-network-validator": "linkerd-cni",
    "istio-validation": "istio-cni-node",
}
#: The part of the mesh that each DaemonSet is.
_PARTS: Mapping[str, str] = {
    "linkerd-cni": "Linkerd's CNI plugin",
    "istio-cni-node": "Istio's CNI plugin",
    "ztunnel": "ztunnel",
}


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each DaemonSet that is missing or is not ready on some nodes."""
    if place.mesh.name == "ambient":
        needed = ["istio-cni-node", "ztunnel"]
    else:
        names = facts.probe(place).init_containers
        needed = [agent for name, agent in _AGENT_OF.items() if name in names]
    for name in needed:
        found = facts.objects(path("apps/v1", "daemonsets"), fields=f"metadata.name={name}")
        if not found:
            fix = f"install {_PARTS[name]}: without it, no pod's traffic is redirected"
            severity: Severity | None = None
            if name == "istio-cni-node" and place.mesh.name == "istio":
                # The injector names no DaemonSet, and some platforms have their own.
                severity = "warning"
                fix += ". If your platform runs it by another name, as AKS does, nothing is missing"
            yield Occurrence(f"DaemonSet {name} does not exist", severity, fix=fix)
        for one in found:
            status = one.get("status") or {}
            wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
            if not wanted or ready < wanted:
                where = f"{one['metadata']['namespace']}/{name}"
                yield Occurrence(
                    f"DaemonSet {where} is ready on {ready} of {wanted} nodes",
                    "warning" if ready else "error",
                    fix=f"find out why its pods are not ready: kubectl -n "
                    f"{one['metadata']['namespace']} describe daemonset {name}",
                )
