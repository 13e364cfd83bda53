"""A pod that takes in clients that are not of the mesh."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="accepts-plaintext",
    level="advise",
    meshes=("linkerd",),
    fields=(
        "metadata.annotations[config.linkerd.io/default-inbound-policy]",
        "spec.initContainers[*].env",
        "spec.containers[*].env",
    ),
    reason="lets clients without mutual TLS in",
    fix="set settings.linkerd.inboundPolicy: all-authenticated",
    source="linkerd2 cli/cmd/doc.go; policy-controller/k8s/index/src/inbound/workload.rs",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield the policy in force, if it is open."""
    return map(CHECK.violation, mesh.plaintext_inbound(pod))
