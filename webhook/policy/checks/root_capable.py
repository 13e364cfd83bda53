"""A container that may be root: it can take on the proxy's user, or send raw packets."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.containers import capability_names
from webhook.policy.meshes import Mesh
from webhook.policy.objects import Capabilities, SecurityContext
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="root-capable",
    level="advise",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.securityContext",
        "spec.containers[*].securityContext",
        "spec.initContainers[*].securityContext",
        "spec.ephemeralContainers[*].securityContext",
    ),
    reason="may run as root, and then become the proxy's user or send raw packets",
    fix="set runAsNonRoot: true, or drop the capabilities SETUID and NET_RAW",
    source="capabilities(7) CAP_SETUID, CAP_NET_RAW; packet(7)",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each such container."""
    whole = pod.spec.security_context or _NONE
    for placed in pod.workload_containers:
        own = placed.container.security_context or _NONE
        user = whole.run_as_user if own.run_as_user is None else own.run_as_user
        non_root = whole.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root
        if user or (user is None and non_root):
            continue
        listed = own.capabilities or Capabilities()
        dropped, added = capability_names(listed.drop), capability_names(listed.add)
        if "ALL" in added or _RISKY & added or ("ALL" not in dropped and _RISKY - dropped):
            yield CHECK.violation(placed.field("securityContext"), placed.name)


_NONE = SecurityContext()
_RISKY = frozenset({"SETUID", "NET_RAW"})
