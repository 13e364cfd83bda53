"""A workload container with the right to undo the capture of its traffic."""

from collections.abc import Iterator

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.containers import capability_names
from webhook.policy.pod.workload import Pod

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
    reason="can change the firewall rules that redirect traffic to the proxy, or the proxy itself",
    fix="author: remove it; an application needs no network administration",
    source="capabilities(7); ptrace(2); pod-security-admission capabilities",
)


def find(mesh: Mesh, pod: Pod) -> Iterator[Occurrence]:
    """Yield each container that is privileged or adds a capability that is not harmless."""
    shares = bool(pod.spec.share_process_namespace or pod.spec.host_pid)
    for placed in pod.workload_containers:
        context = placed.container.security_context
        if context is None:
            continue
        if context.privileged:
            yield Occurrence(placed.field("securityContext.privileged"))
        added = context.capabilities.add if context.capabilities else None
        if not added:
            continue
        near = shares or bool(placed.container.target_container_name)
        harmless = _HARMLESS if near else _HARMLESS_ALONE
        risky = [name for name in added[:_MOST] if not capability_names([name]) <= harmless]
        if risky or len(added) > _MOST:
            yield Occurrence(placed.field("securityContext.capabilities.add"), tuple(risky))


#: Linux has 41 of them.
_MOST = 100
#: Capabilities that change neither the firewall, nor the node, nor another container's process.
_HARMLESS = frozenset({
    "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID",
    "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_BIND_SERVICE",
    "NET_BROADCAST", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_NICE",
    "SYS_PACCT", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM",
})  # fmt: skip
#: A debugger of the container's own processes. With shared processes it could enter the proxy's.
_HARMLESS_ALONE = _HARMLESS | {"SYS_PTRACE"}


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    shares = (
        "object.spec.?shareProcessNamespace.orValue(false) || object.spec.?hostPID.orValue(false)"
    )
    harmless = cel.capabilities(_HARMLESS)
    alone = cel.capabilities(_HARMLESS_ALONE - _HARMLESS)
    added = "c.?securityContext.?capabilities.?add.orValue([])"
    near = f"!({shares}) && a.upperAscii() in {alone}"
    risky = f"{added}.filter(a, !(a.upperAscii() in {harmless} || ({near})))"
    fix = cel.text(CHECK.fix)
    rows = (
        ("c.?securityContext.?privileged.orValue(false)", "securityContext.privileged",
         cel.text(CHECK.reason)),
        (f"size({risky}) > 0", "securityContext.capabilities.add",
         cel.reason(CHECK.reason, f"{risky}.join(', ')")),
    )  # fmt: skip
    few = cel.each(f"size({added}) <= 8 && {added}.all(a, a.matches(r'^[A-Za-z_]{{1,40}}$'))")
    return cel.Rule(" + ".join(cel.rows(terms, *one, fix) for one in rows), few)
