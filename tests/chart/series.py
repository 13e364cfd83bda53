"""Series on which each alert must fire, and series on which it must not. promtool plays them.

Values are in promtool's notation: `5+2x30` is 5, 7, … for 30 steps, `_x10` is ten missing values. A
step is a minute.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

LINKERD = 'name="linkerd.enforce.mendix-mesh.io"'
FOREIGN = 'name="rejects.example.com"'


class Case(NamedTuple):
    """A case: the series, the minute of the check, and the expected alerts with descriptions."""

    alert: str
    what: str
    series: dict[str, str]
    minute: int
    #: Labels besides the severity -> description; empty if nothing must fire.
    fires: Mapping[tuple[tuple[str, str], ...], str] = MappingProxyType({})


def _of(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(labels.items())


_DENIED = 'mendix_mesh_reviews_total{verdict="denied",mesh="linkerd",mode="enforce"}'
_ERRORS = (
    'mendix_mesh_reviews_total{verdict="error",webhook="validate",mesh="linkerd",mode="enforce",'
    'kind="Pod"}'
)
_REJECTED = "apiserver_admission_webhook_rejection_count"
_OPEN = "apiserver_admission_webhook_fail_open_count"
_SLOW = "apiserver_admission_webhook_admission_duration_seconds_bucket"
_EXPIRY = "mendix_mesh_certificate_expiry_timestamp_seconds"
_COVERAGE = 'mendix_mesh_coverage_ratio{namespace="mendix",mesh="linkerd"}'
_INFO = 'mendix_mesh_namespace_info{{namespace="mendix",mesh="linkerd",mode="{}"}}'
_FINDING = 'mendix_mesh_findings{{check="{}",level="warning"}}'
_DOCTOR = 'mendix_mesh_doctor_findings{{id="injector-missing",severity="{}"}}'
_SCAN = "mendix_mesh_last_scan_timestamp_seconds"
_IN_MENDIX = _of(namespace="mendix", mesh="linkerd")
_NO_SERVER = "Prometheus finds no mendix-mesh server. In namespaces in mode enforce, no pod starts."
_STALE = (
    "The auditor's last scan is too old, or no auditor runs. Dashboards and other alerts may show "
    "outdated data about running pods."
)
#: The chart's default: half of the 30 days in which cert-manager should have renewed.
_MISSED = 360 * 3600

CASES = (
    Case("MendixMeshDown", "no server at all", {"up": "1x30"}, 10,
         {(): _NO_SERVER}),
    Case("MendixMeshDown", "the auditor alone is there",
         {'mendix_mesh_build_info{version="1"}': "1x30"}, 10,
         {(): _NO_SERVER}),
    Case("MendixMeshDown", "a server that has shed nothing",
         {"mendix_mesh_reviews_shed_total": "0x30"}, 10),
    Case("MendixMeshDown", "a server that is replaced",
         {"mendix_mesh_reviews_shed_total": "0x4 _x3 0x30"}, 7),

    Case("MendixMeshUnreachable", "calls fail for minutes",
         {f'{_REJECTED}{{{LINKERD},error_type="calling_webhook_error"}}': "0x5 1+3x20"}, 12,
         {_of(name="linkerd.enforce.mendix-mesh.io"): "Calls of linkerd.enforce.mendix-mesh.io "
          "fail, so pods are denied without a review."}),
    Case("MendixMeshUnreachable", "another's calls fail",
         {f'{_REJECTED}{{{FOREIGN},error_type="calling_webhook_error"}}': "0+3x20"}, 12),
    Case("MendixMeshUnreachable", "denials of its own",
         {f'{_REJECTED}{{{LINKERD},error_type="no_error"}}': "0+3x20"}, 12),

    Case("MendixMeshFailedOpen", "the first call that ever failed",
         {f"{_OPEN}{{{LINKERD}}}": "_x20 1x30"}, 22,
         {_of(name="linkerd.enforce.mendix-mesh.io"): "1 calls of "
          "linkerd.enforce.mendix-mesh.io failed in 15 minutes. The API server admitted objects "
          "that were not judged (warn, audit) or not opted in (mutate)."}),
    Case("MendixMeshFailedOpen", "some more", {f"{_OPEN}{{{LINKERD}}}": "7x30 10x20"}, 32,
         {_of(name="linkerd.enforce.mendix-mesh.io"): "3 calls of "
          "linkerd.enforce.mendix-mesh.io failed in 15 minutes. The API server admitted objects "
          "that were not judged (warn, audit) or not opted in (mutate)."}),
    Case("MendixMeshFailedOpen", "some long ago", {f"{_OPEN}{{{LINKERD}}}": "7x60"}, 50),
    Case("MendixMeshFailedOpen", "another's", {f"{_OPEN}{{{FOREIGN}}}": "0+5x60"}, 50),

    Case("MendixMeshSlow", "one call in ten takes seconds",
         {f'{_SLOW}{{{LINKERD},le="1"}}': "0+90x30", f'{_SLOW}{{{LINKERD},le="2.5"}}': "0+100x30",
          f'{_SLOW}{{{LINKERD},le="+Inf"}}': "0+100x30"}, 20,
         {_of(name="linkerd.enforce.mendix-mesh.io"): "One call of linkerd.enforce.mendix-mesh.io "
          "in a hundred takes 2.35s or longer. After 5 s the API server stops waiting."}),
    Case("MendixMeshSlow", "all take milliseconds",
         {f'{_SLOW}{{{LINKERD},le="0.005"}}': "0+100x30", f'{_SLOW}{{{LINKERD},le="1"}}':
          "0+100x30", f'{_SLOW}{{{LINKERD},le="+Inf"}}': "0+100x30"}, 20),
    Case("MendixMeshSlow", "none are made",
         {f'{_SLOW}{{{LINKERD},le="1"}}': "9x30", f'{_SLOW}{{{LINKERD},le="+Inf"}}': "99x30"}, 20),

    Case("MendixMeshShedsReviews", "some are rejected",
         {"mendix_mesh_reviews_shed_total": "0x10 5x20"}, 12,
         {(): "5 reviews were rejected in 5 minutes because their answer would have come too "
          "late."}),
    Case("MendixMeshShedsReviews", "none are", {"mendix_mesh_reviews_shed_total": "5x30"}, 20),

    Case("MendixMeshErrors", "the first that could not be read", {_ERRORS: "_x20 1x10"}, 22,
         {_of(webhook="validate", mesh="linkerd", mode="enforce"): "1 reviews of validate, linkerd "
          "enforce could not be read in 15 minutes. Mode enforce denies them."}),
    Case("MendixMeshErrors", "one long ago", {_ERRORS: "1x60"}, 50),
    Case("MendixMeshErrors", "denials", {_DENIED: "0+1x60"}, 50),

    Case("MendixMeshDeniesMany", "after a quiet day", {_DENIED: "0x100 10+10x40"}, 120,
         {_of(mesh="linkerd"): "100 pods and workloads of the mesh linkerd were denied in 10 "
          "minutes, more than five times the last day's rate. Is its injector down?"}),
    Case("MendixMeshDeniesMany", "as many as ever", {_DENIED: "0+10x1600"}, 1590),
    Case("MendixMeshDeniesMany", "a few", {_DENIED: "0x100 1x2 2x2 3x30"}, 107),
    Case("MendixMeshDeniesMany", "one that tries again and again", {_DENIED: "0x100 1+1x40"},
         120),

    Case("MendixMeshCertificateExpires", "it should have been renewed",
         {_EXPIRY: f"{_MISSED}x200"}, 100,
         {(): "It expires in 14d 22h 20m 0s. Then no pod starts in mode enforce."}),
    Case("MendixMeshCertificateExpires", "one of two servers kept the old one",
         {f'{_EXPIRY}{{pod="a"}}': f"{_MISSED}x200", f'{_EXPIRY}{{pod="b"}}': f"{9 * _MISSED}x200"},
         100, {(): "It expires in 14d 22h 20m 0s. Then no pod starts in mode enforce."}),
    Case("MendixMeshCertificateExpires", "it will be renewed in time",
         {_EXPIRY: f"{_MISSED + 200 * 60}x200"}, 100),

    Case("MendixMeshCertificateRefused", "a pair that does not match",
         {'mendix_mesh_certificate_reloads_total{result="refused"}': "0x20 1x20"}, 22,
         {(): "The Secret mendix-mesh-tls, or the auditor's, has a certificate that cannot be "
          "used. The logs of its pods say why."}),
    Case("MendixMeshCertificateRefused", "a renewal",
         {'mendix_mesh_certificate_reloads_total{result="refused"}': "0x40",
          'mendix_mesh_certificate_reloads_total{result="loaded"}': "0x20 1x20"}, 22),

    Case("MendixMeshPodsEscaped", "an enforced namespace",
         {_COVERAGE: "0.875x40", _INFO.format("enforce"): "1x40"}, 20,
         {_IN_MENDIX: "Only 87.5% of the pods in mendix are in the mesh linkerd, although mode "
          "enforce denies pods outside it."}),
    Case("MendixMeshPodsEscaped", "for a moment",
         {_COVERAGE: "1x10 0.5x5 1x20", _INFO.format("enforce"): "1x40"}, 20),
    Case("MendixMeshPodsEscaped", "all are in the mesh",
         {_COVERAGE: "1x40", _INFO.format("enforce"): "1x40"}, 30),
    Case("MendixMeshPodsEscaped", "another mode",
         {_COVERAGE: "0.5x40", _INFO.format("warn"): "1x40"}, 30),
    Case("MendixMeshPodsOutside", "another mode",
         {_COVERAGE: "0.5x40", _INFO.format("warn"): "1x40"}, 30,
         {_IN_MENDIX: "Only 50% of the pods in mendix are in the mesh linkerd."}),
    Case("MendixMeshPodsOutside", "a mode that is not known", {_COVERAGE: "0.5x40"}, 30,
         {_IN_MENDIX: "Only 50% of the pods in mendix are in the mesh linkerd."}),
    Case("MendixMeshPodsOutside", "an enforced namespace, which has its own",
         {_COVERAGE: "0.5x40", _INFO.format("enforce"): "1x40"}, 30),
    Case("MendixMeshPodsOutside", "all are in the mesh",
         {_COVERAGE: "1x40", _INFO.format("warn"): "1x40"}, 30),

    Case("MendixMeshPlaintextTraffic", "some workloads take plaintext",
         {_FINDING.format("plaintext-traffic"): "3x40"}, 20,
         {(): "The mesh's metrics show that workloads with 3 pods recently received plaintext."}),
    Case("MendixMeshPlaintextTraffic", "other advice",
         {_FINDING.format("shared-identity"): "3x40"}, 20),
    Case("MendixMeshPlaintextTraffic", "it has ended",
         {_FINDING.format("plaintext-traffic"): "3x10 stale"}, 20),

    Case("MendixMeshWouldNotJoin", "an error", {_DOCTOR.format("error"): "2x40"}, 20,
         {_of(id="injector-missing"): "The doctor finds injector-missing in 2 namespaces."}),
    Case("MendixMeshWouldNotJoin", "a warning", {_DOCTOR.format("warning"): "2x40"}, 20),

    Case("MendixMeshAuditorStale", "scans have ended", {_SCAN: "0x60"}, 50,
         {(): _STALE}),
    Case("MendixMeshAuditorStale", "there is no auditor", {"up": "1x40"}, 20,
         {(): _STALE}),
    Case("MendixMeshAuditorStale", "scans every five minutes", {_SCAN: "0+60x60"}, 50),
    Case("MendixMeshAuditorStale", "a slow scan", {_SCAN: "0+60x10 600x20 1860+60x30"}, 30),
)  # fmt: skip


def document(rules: str, case: Case, alert: dict[str, Any]) -> dict[str, Any]:
    """Return the case in promtool's format. `alert` is the rule, for what all cases share."""
    expected = [
        {
            "exp_labels": {**dict(labels), "severity": alert["labels"]["severity"]},
            "exp_annotations": {**alert["annotations"], "description": description},
        }
        for labels, description in case.fires.items()
    ]
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    return {
        "rule_files": [rules],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "alert_rule_test": [
                    {
                        "eval_time": f"{case.minute}m",
                        "alertname": case.alert,
                        "exp_alerts": expected,
                    }
                ],
            }
        ],
    }
