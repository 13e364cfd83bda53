"""The auditor's metrics show the last scan, and no namespace that is gone."""

import datetime

from webhook.cluster.audit import Audited, AuditFinding, Row, summed
from webhook.cluster.audit import Level as FindingLevel
from webhook.cluster.auditor.history import Scans, Snapshot
from webhook.cluster.auditor.metrics import AuditorMetrics
from webhook.cluster.doctor import Diagnosis, Finding
from webhook.cluster.judge import STATES, State


def namespace(name: str, *findings: AuditFinding, error: str = "", **pods: int) -> Audited:
    counts: dict[State, int] = {state: pods.get(state, 0) for state in STATES}
    row = Row(kind="Pod", name="a", api_version="v1", role="", state="meshed", pods=counts,
              findings=list(findings))  # fmt: skip
    return Audited(name=name, mesh="linkerd", mode="enforce", enrolled=True, since=None,
                   coverage=None, pods=counts, workloads=[row], error=error)  # fmt: skip


def finding(check: str, level: FindingLevel, pods: int) -> AuditFinding:
    return AuditFinding(check=check, level=level, field="", reason="", fix="", origin="", pods=pods,
                   examples=[])  # fmt: skip


def show(scans: Scans, *namespaces: Audited, diagnosis: Diagnosis | None = None) -> None:
    report = summed(list(namespaces), [])
    now = datetime.datetime.now(datetime.UTC)
    scans.scanned(Snapshot(at=now, seconds=1.0, report=report, diagnosis=diagnosis))


def samples(metrics: AuditorMetrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_before_the_first_scan_there_are_no_namespaces() -> None:
    metrics = AuditorMetrics(Scans())
    assert samples(metrics, "mendix_mesh_pods") == {}
    assert samples(metrics, "mendix_mesh_last_scan_timestamp_seconds") == {(): 0}
    assert samples(metrics, "mendix_mesh_scans_total") == {("ok",): 0, ("failed",): 0}


def test_pods_and_coverage_by_namespace() -> None:
    scans = Scans()
    metrics = AuditorMetrics(scans)
    show(scans, namespace("a", meshed=2, unmeshed=1, exempt=5), namespace("b"))
    pods = samples(metrics, "mendix_mesh_pods")
    assert {key[2]: value for key, value in pods.items() if key[0] == "a"} == {
        "meshed": 2, "partly": 0, "unmeshed": 1, "unknown": 0, "exempt": 5
    }  # fmt: skip
    assert samples(metrics, "mendix_mesh_coverage_ratio") == {("a", "linkerd"): 2 / 3}
    assert samples(metrics, "mendix_mesh_namespace_info") == {
        ("a", "linkerd", "enforce"): 1, ("b", "linkerd", "enforce"): 1
    }  # fmt: skip


def test_the_series_of_a_namespace_go_with_it() -> None:
    scans = Scans()
    metrics = AuditorMetrics(scans)
    show(scans, namespace("a", meshed=1), namespace("b", meshed=1))
    show(scans, namespace("b", meshed=1))
    assert b'"a"' not in metrics.expose()
    assert b'"b"' in metrics.expose()


def test_what_could_not_be_read_has_no_numbers() -> None:
    scans = Scans()
    metrics = AuditorMetrics(scans)
    show(scans, namespace("a", error="forbidden"))
    assert samples(metrics, "mendix_mesh_pods") == {}
    assert samples(metrics, "mendix_mesh_namespace_info") == {("a", "linkerd", "enforce"): 1}


def test_findings_count_pods_over_all_namespaces() -> None:
    scans = Scans()
    metrics = AuditorMetrics(scans)
    show(
        scans,
        namespace("a", finding("proxy-missing", "deny", 2), finding("root-capable", "warning", 1)),
        namespace("b", finding("proxy-missing", "deny", 3), finding("proxy-missing", "exempt", 1)),
    )
    assert samples(metrics, "mendix_mesh_findings") == {
        ("proxy-missing", "deny"): 5, ("proxy-missing", "exempt"): 1, ("root-capable", "warning"): 1
    }  # fmt: skip


def test_the_doctors_findings_count_namespaces() -> None:
    scans = Scans()
    metrics = AuditorMetrics(scans)
    found = [
        Finding(id="unready", severity="error", namespaces=list(names), evidence=names, means="",
                fix="")
        for names in ("ab", "bc")
    ]  # fmt: skip
    show(scans, diagnosis=Diagnosis(namespaces=[], findings=found, unchecked=[]))
    assert samples(metrics, "mendix_mesh_doctor_findings") == {("unready", "error"): 3}


def test_scans_are_counted() -> None:
    metrics = AuditorMetrics(Scans())
    metrics.scanned(1700000000, 2.5)
    metrics.failed()
    assert samples(metrics, "mendix_mesh_last_scan_timestamp_seconds") == {(): 1700000000}
    assert samples(metrics, "mendix_mesh_scan_duration_seconds") == {(): 2.5}
    assert samples(metrics, "mendix_mesh_scans_total") == {("ok",): 1, ("failed",): 1}
