"""A pod on the node's network: no sidecar can capture it, no injector will try."""

from collections.abc import Sequence

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.workload import Pod

CHECK = Check(
    id="host-network",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=("spec.hostNetwork",),
    reason="uses the node's network, where no mesh can capture traffic",
    fix="author: remove hostNetwork: true",
    source="linkerd2 pkg/inject/report.go; istio pkg/kube/inject/inject.go injectRequired",
    explains_absence=True,
    excuses_absence=True,
)


def find(mesh: Mesh, pod: Pod) -> Sequence[Occurrence]:
    """Return the field, if it is set."""
    return (Occurrence("spec.hostNetwork"),) if pod.spec.host_network else ()


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    found = cel.row("'spec.hostNetwork'", cel.text(CHECK.reason), cel.text(CHECK.fix))
    return cel.Rule(f"object.spec.?hostNetwork.orValue(false) ? [{found}] : []")
