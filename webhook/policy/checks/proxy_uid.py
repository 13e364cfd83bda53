"""A container that runs as the proxy's user, which the firewall lets out unproxied."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="proxy-uid",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.securityContext.runAsUser",
        "spec.securityContext.fsGroup",
        "spec.securityContext.supplementalGroups",
        "spec.securityContext.runAsGroup",
        "spec.containers[*].securityContext.runAsUser",
        "spec.containers[*].securityContext.runAsGroup",
        "spec.initContainers[*].securityContext.runAsUser",
        "spec.initContainers[*].securityContext.runAsGroup",
        "spec.ephemeralContainers[*].securityContext.runAsUser",
        "spec.ephemeralContainers[*].securityContext.runAsGroup",
        "spec.initContainers[*].args",
        "metadata.annotations[config.linkerd.io/proxy-uid]",
        "metadata.annotations[config.linkerd.io/proxy-gid]",
    ),
    reason="runs as the proxy's own user or group, whose traffic is not captured",
    fix="run it as another user or group",
    source="linkerd2 proxy-init --proxy-uid; istio analyzers IST0144",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each container, or setting, that makes someone else the proxy's user."""
    return map(CHECK.violation, mesh.identity_clashes(pod))
