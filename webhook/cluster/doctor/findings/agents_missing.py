"""The agents on the nodes are missing that capture what pods send."""

from collections.abc import Iterator, Mapping

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="agents-missing",
    severity="error",
    means="nothing redirects the pods' traffic on these nodes: in ambient mode they are outside "
    "the mesh, with a CNI plugin they don't start",
    mend="install the mesh's CNI plugin (ambient: and ztunnel), and see why its pods are not ready",
    source="istio istio-cni and ztunnel charts; linkerd2 charts/linkerd2-cni",
)
#: Init containers by which the injector counts on a CNI plugin, and the plugin's DaemonSet.
_COUNTED_ON: Mapping[str, str] = {
    "linkerd-network-validator": "linkerd-cni",
    "istio-validation": "istio-cni-node",
}


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each DaemonSet that is missing, or not ready on some nodes."""
    if place.mesh.name == "ambient":
        needed = ["istio-cni-node", "ztunnel"]
    else:
        names = look.probe(place).init_containers
        needed = [agent for name, agent in _COUNTED_ON.items() if name in names]
    for name in needed:
        found = look.objects(path("apps/v1", "daemonsets"), fields=f"metadata.name={name}")
        if not found:
            yield Occurrence(f"there is no DaemonSet {name}")
        for one in found:
            status = one.get("status") or {}
            wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
            if not wanted or ready < wanted:
                where = f"{one['metadata']['namespace']}/{name}"
                yield Occurrence(
                    f"DaemonSet {where} is ready on {ready} of {wanted} nodes",
                    "warning" if ready else "error",
                )
