"""A container that may be root: it can take on the proxy's user, or send raw packets."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.containers import capability_names
from webhook.policy.meshes import Mesh
from webhook.policy.objects import Capabilities
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
    whole = pod.spec.security_context
    for placed in pod.workload_containers:
        own = placed.container.security_context
        user = next((c.run_as_user for c in (own, whole) if c and c.run_as_user is not None), None)
        non_root = next(
            (c.run_as_non_root for c in (own, whole) if c and c.run_as_non_root is not None), False
        )
        listed = (own.capabilities if own else None) or Capabilities()
        dropped, added = capability_names(listed.drop), capability_names(listed.add)
        keeps = "ALL" in added or _RISKY & added or ("ALL" not in dropped and _RISKY - dropped)
        if keeps and (user == 0 or (user is None and not non_root)):
            yield CHECK.violation(placed.field("securityContext"), placed.name)


_RISKY = frozenset({"SETUID", "NET_RAW"})
