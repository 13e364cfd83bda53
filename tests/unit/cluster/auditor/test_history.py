"""What the auditor keeps of its sweeps."""

import datetime

from webhook.cluster.audit import Audited, Report
from webhook.cluster.auditor.history import Seen, Snapshot

NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def _snapshot(coverage: int | None, minutes: int = 0) -> Snapshot:
    namespace = Audited(
        name="shop", mesh="linkerd", mode="enforce", enrolled=True, since=None,
        coverage=coverage, pods={}, workloads=[],
    )  # fmt: skip
    report = Report(namespaces=[namespace], coverage=coverage, pods={}, checks={}, notes=[])
    return Snapshot(at=NOW + datetime.timedelta(minutes=minutes), seconds=0.5, report=report)


def test_before_the_first_sweep_nothing_is_known() -> None:
    seen = Seen()
    assert (seen.last, seen.error, seen.history) == (None, "", ())


def test_a_failed_sweep_leaves_the_one_before_and_says_why() -> None:
    seen = Seen()
    seen.swept(_snapshot(50))
    seen.failed("the cluster does not answer")
    assert seen.last == _snapshot(50)
    assert seen.error == "the cluster does not answer"
    seen.swept(_snapshot(60, 5))
    assert seen.error == ""


def test_the_history_has_the_coverage_of_each_sweep_and_of_namespaces_with_pods() -> None:
    seen = Seen()
    seen.swept(_snapshot(50))
    seen.swept(_snapshot(None, 5))
    assert [(point.coverage, point.namespaces) for point in seen.history] == [
        (50, {"shop": 50}),
        (None, {}),
    ]


def test_the_history_is_bounded_to_a_day() -> None:
    seen = Seen()
    for minute in range(0, 5 * 300, 5):
        seen.swept(_snapshot(50, minute))
    assert len(seen.history) == 288
    assert seen.history[-1].at == NOW + datetime.timedelta(minutes=5 * 299)
