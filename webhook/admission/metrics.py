"""What /metrics shows. Every label value is one of a few: nothing from outside becomes a label."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from webhook.admission.logs import Output
from webhook.policy.namespaces import Left
from webhook.policy.strictness.review import KINDS as POLICIES
from webhook.policy.workload import TEMPLATES

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_KINDS = frozenset({*TEMPLATES, "Ingress", "Namespace"}).union(*POLICIES.values())
#: The first parts of the paths that are served.
WEBHOOKS = ("mutate", "validate", "namespace")
_BUCKETS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5,
)  # fmt: skip


class CertificateMetrics:
    """What is told of a serving certificate, in any registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.certificate_expiry = Gauge(
            "mendix_mesh_certificate_expiry_timestamp_seconds",
            "When the serving certificate expires, in seconds since 1970.",
            registry=registry,
        )
        self._reloads = Counter(
            "mendix_mesh_certificate_reloads",
            "Changed certificate files: loaded, or refused and the last one kept.",
            ("result",),
            registry=registry,
        )
        for result in ("loaded", "refused"):
            self._reloads.labels(result)

    def certificate_reload(self, result: Literal["loaded", "refused"]) -> None:
        """Count one change of the certificate's files."""
        self._reloads.labels(result).inc()


class Metrics(CertificateMetrics):
    """The admission server's metrics, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        super().__init__(self.registry)
        self._reviews = Counter(
            "mendix_mesh_reviews",
            "Admission reviews answered.",
            ("webhook", "mesh", "mode", "kind", "verdict"),
            registry=self.registry,
        )
        self._violations = Counter(
            "mendix_mesh_violations",
            "Violations found, in every mode; exempted ones not counted.",
            ("mesh", "mode", "check"),
            registry=self.registry,
        )
        self._left = Counter(
            "mendix_mesh_enforcement_left",
            "Changes of a namespace's labels, not refused by us, that took it out of enforcement.",
            ("mesh", "to"),
            registry=self.registry,
        )
        duration = Histogram(
            "mendix_mesh_review_duration_seconds",
            "Time from the whole body read to the answer ready.",
            ("webhook",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._durations = {name: duration.labels(name) for name in WEBHOOKS}
        self.shed = Counter(
            "mendix_mesh_reviews_shed",
            "Reviews turned away because an answer would have come too late.",
            registry=self.registry,
        )
        self._lines_lost = Counter(
            "mendix_mesh_log_lines_lost",
            "Log lines that could not be written to standard output.",
            registry=self.registry,
        )
        self._lost = 0
        build = Gauge("mendix_mesh_build_info", "Always 1.", ("version",), registry=self.registry)
        build.labels(version).set(1)
        self._violation_children: dict[tuple[str, str, str], Counter] = {}
        self._children: dict[tuple[str, str, str, str, str], Counter] = {}

    def review(self, webhook: str, mesh: str, mode: str, kind: str, verdict: str) -> None:
        """Count one answered review."""
        key = (webhook, mesh, mode, kind if kind in _KINDS else "other", verdict)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._reviews.labels(*key)
        child.inc()

    def violation(self, mesh: str, mode: str, check: str) -> None:
        """Count one violation."""
        key = (mesh, mode, check)
        child = self._violation_children.get(key)
        if child is None:
            child = self._violation_children[key] = self._violations.labels(*key)
        child.inc()

    def left_enforcement(self, left: Left) -> None:
        """Count a namespace that left enforcement; `to` is a mode, a mesh, or `none`."""
        self._left.labels(left.was.mesh, left.to if left.will_be else "none").inc()

    def duration(self, webhook: str, seconds: float) -> None:
        """Record how long a review took."""
        self._durations[webhook].observe(seconds)

    def expose(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        self._lost, before = Output.lost, self._lost
        self._lines_lost.inc(self._lost - before)
        return generate_latest(self.registry)
