"""What the webhook refused and let in, by its own count in Prometheus.

Its metrics know neither namespaces nor pods, but they miss nobody: Events tell of what controllers
were refused, and a person at a terminal leaves none.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from webhook.cluster.traffic.prometheus import Prometheus, PrometheusError, Sample, whole
from webhook.cluster.traffic.queries import counted, within

#: As `mendix_mesh_reviews_total` has it: `audited` and `warned` were let in.
Verdict = Literal["denied", "warned", "audited"]

_REVIEWS = counted(
    "mendix_mesh_reviews_total",
    'verdict=~"denied|warned|audited"',
    "mesh, kind, verdict",
)
_VIOLATIONS = counted("mendix_mesh_violations_total", "", "mesh, mode, check")
# There from the start of a server, and not of the auditor.
_SCRAPED = "count(last_over_time(mendix_mesh_review_duration_seconds_count[$window]))"


class Answered(msgspec.Struct, kw_only=True):
    """How often the webhook gave one answer to one kind of object."""

    verdict: Verdict
    mesh: str
    kind: str
    times: int


class Violated(msgspec.Struct, kw_only=True):
    """How often a check found something; in enforce that was a refusal, if its level is deny."""

    check: str
    mesh: str
    mode: str
    times: int


class Counts(msgspec.Struct, kw_only=True):
    """The webhook's answers of the last `window` seconds, most frequent first."""

    window: int
    answers: list[Answered] = []
    violations: list[Violated] = []
    #: Why nothing is known, in one line; empty where all is.
    error: str = ""

    def times(self, *verdicts: Verdict) -> int:
        """How often it gave one of these answers."""
        return sum(one.times for one in self.answers if one.verdict in verdicts)


def look(prometheus: Prometheus, *, window: int) -> Counts:
    """Ask for the answers of the last `window` seconds. Never raises: the error says why not."""
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
