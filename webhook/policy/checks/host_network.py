"""A pod on the node's network: no sidecar can capture it, no injector will try."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="host-network",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=("spec.hostNetwork",),
    reason="shares the node's network, which no mesh can capture",
    fix="remove hostNetwork: true",
    source="linkerd2 pkg/inject/report.go; istio pkg/kube/inject/inject.go injectRequired",
    explains_absence=True,
    excuses_absence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield the field, if it is set."""
    if pod.spec.host_network:
        yield CHECK.violation("spec.hostNetwork")
