"""The auditor's last scan and its history, which metrics, dashboard and webhook show."""

import datetime
import threading
from collections import deque
from collections.abc import Sequence

import msgspec

from webhook.cluster.audit import Report
from webhook.cluster.doctor import Diagnosis
from webhook.cluster.traffic.reviews import Counts

#: The maximum number of points in the history: a day of scans every five minutes.
_POINTS = 288


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The coverage in one scan."""

    at: datetime.datetime
    #: Of all pods, in percent; None if there were no pods.
    coverage: int | None
    #: The coverage of each namespace with pods.
    namespaces: dict[str, int]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one scan. It is immutable, so threads can share it."""

    #: When the scan ended, in UTC, and how many seconds it took.
    at: datetime.datetime
    seconds: float
    report: Report
    #: The namespaces that the user named; empty if they are selected in another way.
    selected: tuple[str, ...] = ()
    #: None until the doctor has run for the first time.
    diagnosis: Diagnosis | None = None
    #: The webhook's verdicts from its own metrics; None if no Prometheus is queried.
    counts: Counts | None = None


class Scans:
    """The last scan, the coverage of earlier ones, and why the last attempt failed, if it did.

    One thread writes it, others read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Snapshot | None = None
        self._history: deque[Point] = deque(maxlen=_POINTS)
        self._error = ""

    def scanned(self, snapshot: Snapshot) -> None:
        """Store a successful scan of all namespaces."""
        with self._lock:
            self._last, self._error = snapshot, ""
            self._history.append(_point(snapshot))

    def updated(self, snapshot: Snapshot) -> None:
        """Store changes since the last full scan; they add no point to the history."""
        with self._lock:
            self._last, self._error = snapshot, ""

    def failed(self, error: str) -> None:
        """Store why a scan failed, in one line; the previous scan stays the last."""
        with self._lock:
            self._error = error

    @property
    def last(self) -> Snapshot | None:
        """Return the last successful scan; None before the first."""
        return self._last

    @property
    def error(self) -> str:
        """Return why the latest attempt failed; empty if it succeeded."""
        return self._error

    @property
    def history(self) -> Sequence[Point]:
        """Return the coverage of earlier scans, oldest first, at most a day of this process."""
        with self._lock:
            return tuple(self._history)


def _point(snapshot: Snapshot) -> Point:
    report = snapshot.report
    known = {one.name: one.coverage for one in report.namespaces}
    return Point(
        at=snapshot.at,
        coverage=report.coverage,
        namespaces={name: each for name, each in known.items() if each is not None},
    )
