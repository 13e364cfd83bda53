"""The webhook's denials and admissions, from its own metrics in Prometheus.

These metrics have no namespaces or pods, but they are complete. Events cover only the denials of
controllers; a person's denied request leaves no Event.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from webhook.cluster.traffic.prometheus import Prometheus, PrometheusError, Sample, whole
from webhook.cluster.traffic.queries import counted, within

#: The verdicts in `mendix_mesh_reviews_total`. `audited` and `warned` were admitted.
Verdict = Literal["denied", "warned", "audited"]

_REVIEWS = counted(
    "mendix_mesh_reviews_total",
    'verdict=~"denied|warned|audited"',
    "mesh, kind, verdict",
)
_VIOLATIONS = counted("mendix_mesh_violations_total", "", "mesh, mode, check")
# The webhook has this metric from its start. The auditor does not have it.
_SCRAPED = "count(last_over_time(mendix_mesh_review_duration_seconds_count[$window]))"


class Answered(msgspec.Struct, kw_only=True):
    """How often the webhook gave one verdict for one kind of object."""

    verdict: Verdict
    mesh: str
    kind: str
    times: int


class Violated(msgspec.Struct, kw_only=True):
    """How often a check found a violation. Mode enforce denies a violation of level deny."""

    check: str
    mesh: str
    mode: str
    times: int


class Counts(msgspec.Struct, kw_only=True):
    """The webhook's verdicts of the last `window` seconds, most frequent first."""

    window: int
    answers: list[Answered] = []
    violations: list[Violated] = []
    #: Why the verdicts are unknown, in one line; empty if they are known.
    error: str = ""

    def times(self, *verdicts: Verdict) -> int:
        """Return how often the webhook gave one of these verdicts."""
        return sum(one.times for one in self.answers if one.verdict in verdicts)


def look(prometheus: Prometheus, *, window: int) -> Counts:
    """Return the verdicts of the last `window` seconds. Never raise; the result has an error."""
    try:
        answers = list(_answers(prometheus.query(within(_REVIEWS, window))))
        violations = list(_violations(prometheus.query(within(_VIOLATIONS, window))))
        if not answers and not violations and not prometheus.query(within(_SCRAPED, window)):
            return Counts(
                window=window,
                error="Prometheus has no metrics of the webhook: does it scrape its pods? "
                "serviceMonitor.enabled in the chart's values has the Prometheus operator do so",
            )
    except PrometheusError as error:
        return Counts(window=window, error=str(error))
    answers.sort(key=lambda one: (-one.times, one.kind, one.mesh, one.verdict))
    violations.sort(key=lambda one: (-one.times, one.check, one.mesh, one.mode))
    return Counts(window=window, answers=answers, violations=violations)


def _answers(samples: Iterable[Sample]) -> Iterable[Answered]:
    known: dict[str, Verdict] = {"denied": "denied", "warned": "warned", "audited": "audited"}
    for labels, value in samples:
        verdict, times = known.get(labels.get("verdict", "")), whole(value)
        if verdict and times:
            yield Answered(
                verdict=verdict,
                mesh=labels.get("mesh", ""),
                kind=labels.get("kind", ""),
                times=times,
            )


def _violations(samples: Iterable[Sample]) -> Iterable[Violated]:
    for labels, value in samples:
        if times := whole(value):
            yield Violated(
                check=labels.get("check", ""),
                mesh=labels.get("mesh", ""),
                mode=labels.get("mode", ""),
                times=times,
            )
