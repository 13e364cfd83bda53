"""A workload container with the right to undo the capture of its traffic."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.containers import capability_names
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="capture-capability",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "spec.containers[*].securityContext.privileged",
        "spec.containers[*].securityContext.capabilities.add",
        "spec.initContainers[*].securityContext.privileged",
        "spec.initContainers[*].securityContext.capabilities.add",
        "spec.ephemeralContainers[*].securityContext.privileged",
        "spec.ephemeralContainers[*].securityContext.capabilities.add",
    ),
    reason="may change the firewall that leads traffic into the proxy",
    fix="drop it: an application needs no network administration",
    source="capabilities(7) CAP_NET_ADMIN, CAP_NET_RAW; pod-security-admission capabilities",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each container that is privileged or adds such a capability."""
    for placed in pod.workload_containers:
        context = placed.container.security_context
        if context is None:
            continue
        if context.privileged:
            yield CHECK.violation(placed.field("securityContext.privileged"))
        added = context.capabilities.add if context.capabilities else None
        risky = [name for name in added or () if capability_names([name]) & _RISKY]
        if risky:
            yield CHECK.violation(placed.field("securityContext.capabilities.add"), *risky)


#: SYS_ADMIN can enter the node's network, SYS_MODULE is the node's kernel.
_RISKY = frozenset({"ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE"})
