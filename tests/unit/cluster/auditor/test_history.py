"""What the auditor keeps of its scans."""

import datetime

from webhook.cluster.audit import Audited, Report
from webhook.cluster.auditor.history import Scans, Snapshot

NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def _snapshot(coverage: int | None, minutes: int = 0) -> Snapshot:
    namespace = Audited(
        name="shop", mesh="linkerd", mode="enforce", enrolled=True, since=None,
        coverage=coverage, pods={}, workloads=[],
    )  # fmt: skip
    report = Report(namespaces=[namespace], coverage=coverage, pods={}, checks={}, notes=[])
    return Snapshot(at=NOW + datetime.timedelta(minutes=minutes), seconds=0.5, report=report)


def test_before_the_first_scan_nothing_is_known() -> None:
    scans = Scans()
    assert (scans.last, scans.error, scans.history) == (None, "", ())


def test_a_failed_scan_keeps_the_previous_one_and_has_an_error() -> None:
    scans = Scans()
    scans.scanned(_snapshot(50))
    scans.failed("the cluster does not answer")
    assert scans.last == _snapshot(50)
    assert scans.error == "the cluster does not answer"
    scans.scanned(_snapshot(60, 5))
    assert scans.error == ""


def test_the_history_has_the_coverage_of_each_scan_and_of_namespaces_with_pods() -> None:
    scans = Scans()
    scans.scanned(_snapshot(50))
    scans.scanned(_snapshot(None, 5))
    assert [(point.coverage, point.namespaces) for point in scans.history] == [
        (50, {"shop": 50}),
        (None, {}),
    ]


def test_the_history_is_bounded_to_a_day() -> None:
    scans = Scans()
    for minute in range(0, 5 * 300, 5):
        scans.scanned(_snapshot(50, minute))
    assert len(scans.history) == 288
    assert scans.history[-1].at == NOW + datetime.timedelta(minutes=5 * 299)
