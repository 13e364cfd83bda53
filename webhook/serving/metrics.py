"""The metrics of a serving certificate."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge


class CertificateMetrics:
    """The metrics of a serving certificate, in a given registry."""

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
        """Count one reload of the certificate's files."""
        self._reloads.labels(result).inc()
