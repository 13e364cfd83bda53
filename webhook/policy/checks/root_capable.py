"""A container that may run as root: it can switch to the proxy's user, or send raw packets."""

from collections.abc import Iterator

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.containers import capability_names
from webhook.policy.pod.objects import Capabilities, SecurityContext
from webhook.policy.pod.workload import Pod

CHECK = Check(
    id="root-capable",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "spec.securityContext",
        "spec.containers[*].securityContext",
        "spec.initContainers[*].securityContext",
        "spec.ephemeralContainers[*].securityContext",
    ),
    reason="can run as root, and then become the proxy's user or send raw packets",
    fix="author: set runAsNonRoot: true, or drop the capabilities SETUID and NET_RAW",
    source="capabilities(7) CAP_SETUID, CAP_NET_RAW; packet(7); socket(7) SO_MARK; "
    "istio cni/pkg/iptables/iptables.go inpodMark",
)


def find(mesh: Mesh, pod: Pod) -> Iterator[Occurrence]:
    """Yield each such container."""
    risky = _RISKY[mesh.name]
    reason, fix = _WORDS.get(mesh.name, ("", ""))
    whole = pod.spec.security_context or _NONE
    for placed in pod.workload_containers:
        own = placed.container.security_context or _NONE
        user = whole.run_as_user if own.run_as_user is None else own.run_as_user
        non_root = whole.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root
        if user or (user is None and non_root):
            continue
        listed = own.capabilities
        if listed is None or _is_risky(listed, risky):
            field = placed.field("securityContext")
            yield Occurrence(field, (placed.name,), reason, fix)


def _is_risky(listed: Capabilities, risky: frozenset[str]) -> bool:
    dropped, added = capability_names(listed.drop), capability_names(listed.add)
    return bool("ALL" in added or risky & added or ("ALL" not in dropped and risky - dropped))


_NONE = SecurityContext()
#: Istio's rules leave out the proxy's group too. Ambient mode recognizes ztunnel's packets by their
#: mark, not by a user.
_RISKY = {
    "linkerd": frozenset({"SETUID", "NET_RAW"}),
    "istio": frozenset({"SETUID", "SETGID", "NET_RAW"}),
    "ambient": frozenset({"NET_RAW"}),
}
#: Reason and fix, if they differ.
_WORDS = {
    "istio": (
        "can run as root, and then become the proxy's user or group or send raw packets",
        "author: set runAsNonRoot: true, or drop the capabilities SETUID, SETGID and NET_RAW",
    ),
    "ambient": (
        "can run as root, and then send packets with ztunnel's own mark",
        "author: set runAsNonRoot: true, or drop the capability NET_RAW",
    ),
}


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    risky = _RISKY[terms.mesh]
    reason, fix = _WORDS.get(terms.mesh, (CHECK.reason, CHECK.fix))
    whole = "object.spec.?securityContext"
    user = f"c.?securityContext.?runAsUser.or({whole}.?runAsUser).orValue(-1)"
    non_root = f"c.?securityContext.?runAsNonRoot.or({whole}.?runAsNonRoot).orValue(false)"
    added, dropped = (
        f"c.?securityContext.?capabilities.?{name}.orValue([])" for name in ("add", "drop")
    )
    every = cel.capabilities({"ALL"})
    kept = " || ".join(
        f"!{dropped}.exists(a, a.upperAscii() in {cel.capabilities({name})})"
        for name in sorted(risky)
    )
    condition = (
        f"({user} == 0 || ({user} == -1 && !{non_root})) && ("
        f"{added}.exists(a, a.upperAscii() in {cel.capabilities({'ALL', *risky})}) || "
        f"(!{dropped}.exists(a, a.upperAscii() in {every}) && ({kept})))"
    )
    return cel.Rule(
        cel.rows(terms, condition, "securityContext", cel.reason(reason, "c.name"), cel.text(fix))
    )
