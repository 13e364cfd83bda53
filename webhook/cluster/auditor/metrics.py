"""The auditor's metrics, computed from the last scan at each scrape.

So the series of a deleted namespace disappear. Labels are namespaces, or have only a few values.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from webhook.cluster.audit import Report
from webhook.cluster.auditor.history import Scans
from webhook.cluster.doctor import Diagnosis
from webhook.cluster.namespaces.automatic import STATES, State
from webhook.policy.labels import MESHES
from webhook.version import VERSION

__all__ = ["CONTENT_TYPE_LATEST", "AuditorMetrics", "EnrollmentMetrics"]


class AuditorMetrics:
    """The auditor's metrics, in their own registry."""

    def __init__(self, scans: Scans) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Scanned(scans))
        self._last = Gauge(
            "mendix_mesh_last_scan_timestamp_seconds",
            "Unix time at which the last scan of all namespaces ended.",
            registry=self.registry,
        )
        self._duration = Gauge(
            "mendix_mesh_scan_duration_seconds",
            "Duration of the last scan of all namespaces, in seconds.",
            registry=self.registry,
        )
        self._scans = Counter(
            "mendix_mesh_scans",
            "Scans of all namespaces, by result.",
            ("result",),
            registry=self.registry,
        )
        for result in ("ok", "failed"):
            self._scans.labels(result)
        build = Gauge("mendix_mesh_build_info", "Always 1.", ("version",), registry=self.registry)
        build.labels(VERSION).set(1)

    def scanned(self, at: float, seconds: float) -> None:
        """Record a successful scan: the Unix time of its end, and its duration in seconds."""
        self._last.set(at)
        self._duration.set(seconds)
        self._count("ok")

    def failed(self) -> None:
        """Record a failed scan."""
        self._count("failed")

    def _count(self, result: Literal["ok", "failed"]) -> None:
        self._scans.labels(result).inc()

    def expose(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class EnrollmentMetrics:
    """The metrics of `--auto-enroll`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._enrolled = Counter(
            "mendix_mesh_auto_enrolled",
            "Namespaces that the auditor has enrolled, by mesh.",
            ("mesh",),
            registry=registry,
        )
        self._states = Gauge(
            "mendix_mesh_auto_enroll_namespaces",
            "Mendix namespaces: enrolled, or why they are not.",
            ("state",),
            registry=registry,
        )
        for mesh in MESHES:
            self._enrolled.labels(mesh)
        self.count(())

    def enrolled(self, mesh: str) -> None:
        """Record that a namespace was enrolled."""
        self._enrolled.labels(mesh).inc()

    def count(self, states: Iterable[State]) -> None:
        """Record the states of all Mendix namespaces."""
        found = Tally(states)
        for state in STATES:
            self._states.labels(state).set(found[state])


class _Scanned(Collector):
    """Collects the metrics of the last scan; before the first scan only their names."""

    def __init__(self, scans: Scans) -> None:
        self._scans = scans

    def collect(self) -> Iterator[GaugeMetricFamily]:
        last = self._scans.last
        yield from _of_report(last.report if last else None)
        yield _of_diagnosis(last.diagnosis if last else None)


def _of_report(report: Report | None) -> Iterator[GaugeMetricFamily]:
    pods = GaugeMetricFamily(
        "mendix_mesh_pods", "Running pods, by state.", labels=("namespace", "mesh", "state")
    )
    coverage = GaugeMetricFamily(
        "mendix_mesh_coverage_ratio",
        "Ratio of meshed pods, without exempt ones, 0 to 1. Absent for a namespace without pods.",
        labels=("namespace", "mesh"),
    )
    findings = GaugeMetricFamily(
        "mendix_mesh_findings",
        "Pods with a finding, by check.",
        labels=("check", "level"),
    )
    info = GaugeMetricFamily(
        "mendix_mesh_namespace_info",
        "Always 1. The mode is empty if the namespace is not enrolled.",
        labels=("namespace", "mesh", "mode"),
    )
    found: Tally[tuple[str, str]] = Tally()
    for one in report.namespaces if report else ():
        info.add_metric((one.name, one.mesh, one.mode), 1)
        # A namespace whose pods were not read has no values instead of 0.
        if one.error or not one.expected:
            continue
        for state, number in one.pods.items():
            pods.add_metric((one.name, one.mesh, state), number)
        counted = sum(one.pods.values()) - one.pods["exempt"]
        if counted:
            coverage.add_metric((one.name, one.mesh), one.pods["meshed"] / counted)
        for row in one.workloads:
            for finding in row.findings:
                found[finding.check, finding.level] += finding.pods
    for key, number in sorted(found.items()):
        findings.add_metric(key, number)
    yield from (info, pods, coverage, findings)


def _of_diagnosis(diagnosis: Diagnosis | None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "mendix_mesh_doctor_findings",
        "Namespaces with a finding of doctor, by finding and severity.",
        labels=("id", "severity"),
    )
    where: dict[tuple[str, str], set[str]] = {}
    for finding in diagnosis.findings if diagnosis else ():
        where.setdefault((finding.id, finding.severity), set()).update(finding.namespaces)
    for key, names in sorted(where.items()):
        family.add_metric(key, len(names))
    return family
