"""The metrics on /metrics. Labels have only a few fixed values, and none comes from outside."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from webhook.policy.namespaces import Left
from webhook.policy.plaintext.review import KINDS as POLICIES
from webhook.policy.pod.workload import TEMPLATES
from webhook.serving.logs import Output
from webhook.serving.metrics import CertificateMetrics

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_KINDS = frozenset({*TEMPLATES, "Ingress", "Namespace"}).union(*POLICIES.values())
#: The first parts of the paths that the server answers.
WEBHOOKS = ("mutate", "validate", "namespace")
_BUCKETS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5,
)  # fmt: skip


class Metrics(CertificateMetrics, Collector):
    """The admission server's metrics, in their own registry.

    All are counted in one thread without locks, because counting is part of the cost of each
    review.
    """

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        super().__init__(self.registry)
        build = Gauge("mendix_mesh_build_info", "Always 1.", ("version",), registry=self.registry)
        build.labels(version).set(1)
        #: Counters by label values.
        self._reviews = Counts[tuple[str, ...]]()
        self._violations = Counts[tuple[str, ...]]()
        self._left = Counts[tuple[str, ...]]()
        self._shed = 0
        #: By webhook: the number of reviews in each bucket, and the total time in seconds.
        self._durations = {name: [0] * (len(_BUCKETS) + 1) for name in WEBHOOKS}
        self._seconds = dict.fromkeys(WEBHOOKS, 0.0)
        self.registry.register(self)

    def review(self, webhook: str, mesh: str, mode: str, kind: str, verdict: str) -> None:
        """Count one answered review."""
        self._reviews[webhook, mesh, mode, kind if kind in _KINDS else "other", verdict] += 1

    def violation(self, mesh: str, mode: str, check: str) -> None:
        """Count one violation."""
        self._violations[mesh, mode, check] += 1

    def left_enforcement(self, left: Left) -> None:
        """Count a namespace that left enforcement. `to` is a mode, a mesh, or `none`."""
        self._left[left.was.mesh, left.to if left.will_be else "none"] += 1

    def shed(self) -> None:
        """Count a review that is rejected because of overload."""
        self._shed += 1

    def duration(self, webhook: str, seconds: float) -> None:
        """Record how long a review took."""
        self._durations[webhook][bisect_left(_BUCKETS, seconds)] += 1
        self._seconds[webhook] += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the counters as metrics for the registry."""
        yield _family(
            "mendix_mesh_reviews",
            "Admission reviews answered.",
            ("webhook", "mesh", "mode", "kind", "verdict"),
            self._reviews,
        )
        yield _family(
            "mendix_mesh_violations",
            "Violations found, in every mode; exempted ones not counted.",
            ("mesh", "mode", "check"),
            self._violations,
        )
        yield _family(
            "mendix_mesh_enforcement_left",
            "Changes of a namespace's labels, not denied by us, that took it out of enforcement.",
            ("mesh", "to"),
            self._left,
        )
        yield _family(
            "mendix_mesh_reviews_shed",
            "Reviews rejected because an answer would have come too late.",
            (),
            {(): self._shed},
        )
        yield _family(
            "mendix_mesh_log_lines_lost",
            "Log lines that could not be written to standard output.",
            (),
            {(): Output.lost},
        )
        durations = HistogramMetricFamily(
            "mendix_mesh_review_duration_seconds",
            "Time from the whole body read to the answer ready.",
            labels=("webhook",),
        )
        bounds = [*map(floatToGoString, _BUCKETS), "+Inf"]
        for webhook, counts in self._durations.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            durations.add_metric((webhook,), buckets, self._seconds[webhook])
        yield durations

    def expose(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _family(
    name: str, what: str, labels: Sequence[str], counts: Mapping[tuple[str, ...], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, what, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
