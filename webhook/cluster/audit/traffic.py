"""Traffic in an audit: which workloads took plaintext, and from whom."""

from webhook.cluster.audit import AuditFinding, Report, Row
from webhook.cluster.traffic import (
    Edge,
    NamespaceTraffic,
    Prometheus,
    Received,
    Traffic,
    look,
)
from webhook.policy.checks import Check
from webhook.policy.spots import Spot
from webhook.policy.words import listed, masked, shortened

PLAINTEXT_TRAFFIC = Check(
    id="plaintext-traffic",
    level="advise",
    meshes=("linkerd", "istio", "ambient"),
    fields=("traffic",),
    reason="took traffic that was not in mutual TLS",
    fix="bring who sends it into the mesh, then let the mesh take in nothing else",
    source="linkerd2-proxy app/core/src/transport/labels.rs; Istio's standard metrics",
)
#: Senders that a reason names.
_NAMED = 3
#: Characters of a sender's name that are shown: Kubernetes' own have no more.
_LONGEST = 253


def see(report: Report, prometheus: Prometheus, *, window: int) -> None:
    """Put into a report what Prometheus tells of its namespaces, or in a note why it does not."""
    meshes = {one.name: one.mesh for one in report.namespaces if not one.error}
    traffic = look(prometheus, meshes, window=window)
    if traffic.error:
        report.notes.append(f"the traffic could not be seen: {traffic.error}")
    report.notes += traffic.notes
    add(report, traffic)


def add(report: Report, traffic: Traffic) -> None:
    """Put traffic into a report: as it is, and a finding for each workload that took plaintext."""
    report.traffic = traffic
    for audited in report.namespaces:
        seen = traffic.namespaces.get(audited.name)
        if seen is None:
            continue
        for row in audited.workloads:
            received = seen.received(row.name, row.kind)
            if received and received.verdict in ("mixed", "plaintext"):
                row.findings.append(_finding(row, seen, traffic.window))
                report.checks[PLAINTEXT_TRAFFIC.id] = (
                    report.checks.get(PLAINTEXT_TRAFFIC.id, 0) + row.findings[-1].pods
                )
    report.checks = dict(sorted(report.checks.items()))


def _finding(row: Row, seen: NamespaceTraffic, window: int) -> AuditFinding:
    """Without numbers, which are the traffic's own: else a report would never be the same twice."""
    senders = sorted(map(sender_name, seen.senders(row.name, row.kind)))
    violation = PLAINTEXT_TRAFFIC.violation(
        Spot(
            "traffic",
            (),
            f"took traffic without mutual TLS in the last {span(window)}, from "
            f"{listed(senders, _NAMED)}",
        )
    )
    return AuditFinding(
        check=violation.check,
        level="advise",
        field=violation.field,
        reason=violation.reason,
        fix=violation.fix,
        origin="",
        pods=sum(row.pods.values()),
        examples=[],
    )


def amount(counted: Edge | Received) -> str:
    """How much of what was counted was plaintext, as `3 of 40 requests`."""
    parts = [
        f"{count.plaintext} of {count.total} {unit}"
        for count, unit in ((counted.requests, "requests"), (counted.connections, "connections"))
        if count.plaintext
    ]
    return " and ".join(parts)


def senders(seen: NamespaceTraffic, workload: str, kind: str) -> str:
    """Who sent a workload plaintext, as `crm/gateway (12)`."""
    found = seen.senders(workload, kind).items()
    return listed([f"{sender_name(sender)} ({number})" for sender, number in found], _NAMED)


def sender_name(sender: str) -> str:
    """A sender for people: a name from metrics' labels, which may hold anything."""
    return shortened(masked(sender) or "clients that the mesh does not know", _LONGEST)


def span(seconds: int) -> str:
    """A time in words, as they stand after "the last": `hour`, `90 min`."""
    for unit, name, one in ((86_400, "d", "day"), (3_600, "h", "hour"), (60, "min", "minute")):
        if seconds % unit == 0:
            return one if seconds == unit else f"{seconds // unit} {name}"
    return f"{seconds} s"
