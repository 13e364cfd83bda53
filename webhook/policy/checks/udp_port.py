"""A port that is not TCP: UDP or SCTP. Meshes capture only TCP."""

from collections.abc import Iterator

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.workload import Pod

CHECK = Check(
    id="udp-port",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "spec.containers[*].ports",
        "spec.initContainers[*].ports",
    ),
    reason="is not a TCP port, so no mesh captures its traffic",
    fix="author: use TCP, or encrypt the traffic in the application",
    source="linkerd2 pkg/inject/report.go udp_ports_enabled; istio.io ops/best-practices/security",
)


def find(mesh: Mesh, pod: Pod) -> Iterator[Occurrence]:
    """Yield each such port of a workload container."""
    for placed in pod.workload_containers:
        for port in placed.container.ports or ():
            if port.protocol not in (None, "", "TCP"):
                shown = f"{port.container_port}/{port.protocol}"
                yield Occurrence(placed.field(f"ports[{port.container_port}]"), (shown,))


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    found = "c.?ports.orValue([]).filter(p, !(p.?protocol.orValue('TCP') in ['', 'TCP']))"
    port, protocol = f"string({found}[0].containerPort)", f"{found}[0].protocol"
    rows = cel.rows(
        terms, f"size({found}) > 0", f"ports[' + {port} + ']",
        cel.reason(CHECK.reason, f"{port} + '/' + {protocol}"), cel.text(CHECK.fix),
    )  # fmt: skip
    # CEL has no way to join the lists of several containers.
    return cel.Rule(rows, cel.each(f"size({found}) <= 1"))
