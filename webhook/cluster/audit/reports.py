"""Writes the audit to the cluster: one PolicyReport, or Report of OpenReports, for each namespace.

Not one for each pod, because ten thousand reports need half a gigabyte in etcd. Reports contain no
times, so an audit without news changes nothing. Both kinds have the same fields.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.audit import Audited, AuditFinding, Report, Row
from webhook.cluster.judge import ORIGINS
from webhook.cluster.namespaces.enrollment import CONFIGURATION
from webhook.cluster.plaintext.acceptance import describe
from webhook.policy.plaintext import PLAINTEXT_ACCEPTED
from webhook.policy.words import listed

NAME = "mendix-mesh"
_LABELS = {"app.kubernetes.io/managed-by": NAME}
#: Most results of one report: each has some 600 bytes, and an object at most 1.5 MB.
_MOST = 1000
_OUTCOMES = {"deny": "fail", "warning": "warn", "exempt": "skip"}
_SEVERITIES = {"deny": "high", "warning": "low", "exempt": "info"}


class ReportKind(NamedTuple):
    """A kind of report."""

    version: str
    kind: str
    plural: str


#: OpenReports is the successor of the Policy working group's reports.
KINDS = (
    ReportKind("openreports.io/v1alpha1", "Report", "reports"),
    ReportKind("wgpolicyk8s.io/v1alpha2", "PolicyReport", "policyreports"),
)


class _Meta(msgspec.Struct):
    namespace: str = ""
    name: str = ""
    uid: str = ""


class _Stored(msgspec.Struct):
    metadata: _Meta


def served(cluster: Cluster) -> ReportKind:
    """Return the kind of report that the cluster has. Raises `ClusterError` if it has none."""
    for kind in KINDS:
        group = cluster.find(f"/apis/{kind.version}")
        if any(one["name"] == kind.plural for one in (group or {}).get("resources", ())):
            return kind
    names = " or ".join(f"{kind.plural}.{kind.version.split('/', 1)[0]}" for kind in KINDS)
    raise ClusterError(
        f"reports can't be written, because the cluster has no CRD {names}; install one of them"
    )


class Written(NamedTuple):
    """The result of writing reports."""

    written: int
    pruned: int
    #: Why some could not be written, a line each.
    errors: list[str]


def write(cluster: Cluster, report: Report, owner: str, *, prune: bool) -> Written:
    """Write a report for each namespace that was read; with `prune`, delete our other reports.

    `owner` is the uid of the webhook configuration. Reports that it owns are deleted with
    mendix-mesh.
    """
    kind = served(cluster)
    written, errors = 0, []
    for audited in report.namespaces:
        if audited.error or not audited.expected:
            continue
        where = path(kind.version, kind.plural, audited.name, NAME)
        try:
            cluster.patch(where, document(kind, audited, owner), how="apply")
            written += 1
        except StatusError as error:
            errors.append(f"{audited.name}: {error}")
    pruned = 0
    if prune:
        try:
            pruned = _prune(cluster, kind, {one.name for one in report.namespaces})
        except StatusError as error:
            errors.append(f"old reports could not be deleted: {error}")
    return Written(written, pruned, errors)


def _prune(cluster: Cluster, kind: ReportKind, kept: Collection[str]) -> int:
    selector = ",".join(f"{key}={value}" for key, value in _LABELS.items())
    found = cluster.items(path(kind.version, kind.plural), labels=selector, partial=True)
    old = [
        stored
        for raw in found
        if (stored := msgspec.json.decode(raw, type=_Stored).metadata).name == NAME
        and stored.namespace not in kept
    ]
    return sum(
        cluster.delete(path(kind.version, kind.plural, one.namespace, one.name), uid=one.uid)
        for one in old
    )


def document(kind: ReportKind, audited: Audited, owner: str) -> dict[str, Any]:
    """Return the report of a namespace as a Kubernetes object."""
    metadata: dict[str, Any] = {"name": NAME, "namespace": audited.name, "labels": _LABELS}
    if owner:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "name": CONFIGURATION,
                "uid": owner,
            }
        ]
    order = {"fail": 0, "error": 1, "warn": 2, "skip": 3, "pass": 4}
    results = sorted(_results(audited), key=lambda one: order[one["result"]])
    summary = dict.fromkeys(("pass", "fail", "warn", "error", "skip"), 0)
    for result in results:
        summary[result["result"]] += 1
    made: dict[str, Any] = {
        "apiVersion": kind.version,
        "kind": kind.kind,
        "metadata": metadata,
        "scope": {"apiVersion": "v1", "kind": "Namespace", "name": audited.name},
        "summary": summary,
        "results": results[:_MOST],
    }
    return made


def _results(audited: Audited) -> Iterator[dict[str, Any]]:
    """Yield the results: findings of each workload, or that it passes; then gaps for plaintext."""
    for row in audited.workloads:
        if not row.findings:
            yield _result(audited, row, "pass", {"rule": "in-mesh", "message": "in the mesh"})
        for finding in row.findings:
            outcome = _OUTCOMES[finding.level] if finding.check != "unreadable" else "error"
            where = {
                "rule": finding.check,
                "severity": _SEVERITIES[finding.level],
                "message": message(finding),
            }
            yield _result(audited, row, outcome, where)
    found = audited.plaintext
    if found is None or not found.level:
        return
    for gap in found.gaps:
        where = {
            "rule": PLAINTEXT_ACCEPTED.id,
            "severity": _SEVERITIES[found.level],
            "message": f"{describe(gap)}; {gap.fix}",
        }
        yield _result(audited, None, _OUTCOMES[found.level], where)


def _result(
    audited: Audited, row: Row | None, outcome: str, more: dict[str, Any]
) -> dict[str, Any]:
    """Return a result for a workload, or without one for the namespace."""
    resource = {"apiVersion": "v1", "kind": "Namespace", "name": audited.name}
    if row:
        resource = {
            "apiVersion": row.api_version,
            "kind": row.kind,
            "namespace": audited.name,
            "name": row.name,
        }
    return {
        "source": NAME,
        "policy": NAME,
        "category": "Service mesh",
        "result": outcome,
        "scored": outcome in ("pass", "fail"),
        "resources": [resource],
        "properties": {"mesh": audited.mesh} | ({"state": row.state} if row else {}),
        **more,
    }


def message(finding: AuditFinding) -> str:
    """Return a finding in one line: field, reason, fix, origin and pods."""
    text = f"{finding.field}: {finding.reason}" if finding.field else finding.reason
    text += f"; {'exempt: ' if finding.level == 'exempt' else ''}{finding.fix}"
    if finding.origin:
        text += f" ({ORIGINS[finding.origin]})"
    if not finding.examples:
        return text
    return f"{text} [{listed(finding.examples, of=finding.pods)}]"
