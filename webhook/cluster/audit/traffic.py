"""Adds traffic to an audit: which workloads received plaintext, and from which senders."""

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
from webhook.policy.occurrences import Occurrence
from webhook.policy.words import listed, masked, shortened

PLAINTEXT_TRAFFIC = Check(
    id="plaintext-traffic",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=("traffic",),
    reason="received traffic without mutual TLS",
    fix="bring the senders into the mesh, then close the workload to plaintext",
    source="linkerd2-proxy app/core/src/transport/labels.rs; Istio's standard metrics",
)
#: Senders that a reason names.
_NAMED = 3
#: Characters of a sender's name that are shown: Kubernetes' own have no more.
_LONGEST = 253


def see(report: Report, prometheus: Prometheus, *, window: int) -> None:
    """Add the traffic in Prometheus to a report; if it fails, add a note with the reason."""
    meshes = {one.name: one.mesh for one in report.namespaces if not one.error}
    traffic = look(prometheus, meshes, window=window)
    if traffic.error:
        report.notes.append(f"the traffic could not be read from Prometheus: {traffic.error}")
    report.notes += traffic.notes
    add(report, traffic)


def add(report: Report, traffic: Traffic) -> None:
    """Add traffic to a report, and a finding to each workload that received plaintext."""
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
    """Return a finding without numbers, because a stored report would else change every time."""
    senders = sorted(map(sender_name, seen.senders(row.name, row.kind)))
    violation = PLAINTEXT_TRAFFIC.violation(
        Occurrence(
            "traffic",
            (),
            f"received traffic without mutual TLS in the last {span(window)}, from "
            f"{listed(senders, _NAMED)}",
        )
    )
    return AuditFinding(
        check=violation.check,
        level="warning",
        field=violation.field,
        reason=violation.reason,
        fix=violation.fix,
        origin="",
        pods=sum(row.pods.values()),
        examples=[],
    )


def amount(counted: Edge | Received) -> str:
    """Return how much of the counted traffic was plaintext, like `3 of 40 requests`."""
    parts = [
        f"{count.plaintext} of {count.total} {unit}"
        for count, unit in ((counted.requests, "requests"), (counted.connections, "connections"))
        if count.plaintext
    ]
    return " and ".join(parts)


def senders(seen: NamespaceTraffic, workload: str, kind: str) -> str:
    """Return the senders of plaintext to a workload, like `crm/gateway (12)`."""
    found = seen.senders(workload, kind).items()
    return listed([f"{sender_name(sender)} ({number})" for sender, number in found], _NAMED)


def sender_name(sender: str) -> str:
    """Return a printable sender. The name comes from a metric's label, which can be any text."""
    return shortened(masked(sender) or "clients outside the mesh", _LONGEST)


def span(seconds: int) -> str:
    """Return a duration in words that follow "the last": `hour`, `90 min`."""
    for unit, name, one in ((86_400, "d", "day"), (3_600, "h", "hour"), (60, "min", "minute")):
        if seconds % unit == 0:
            return one if seconds == unit else f"{seconds // unit} {name}"
    return f"{seconds} s"
