"""What the auditor last saw of a cluster: what its metrics, its dashboard and its webhook show."""

import datetime
import threading
from collections import deque
from collections.abc import Sequence

import msgspec

from webhook.cluster.audit import Report
from webhook.cluster.doctor import Diagnosis
from webhook.cluster.traffic.reviews import Counts

#: Points of the history: a day of sweeps every five minutes.
_POINTS = 288


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The coverage of a sweep."""

    at: datetime.datetime
    #: Of all pods, in percent; None where there were none.
    coverage: int | None
    #: The same by namespace, for those that had pods.
    namespaces: dict[str, int]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One sweep. Nothing in it changes any more, so threads may share it."""

    #: When it ended, in UTC; and how many seconds it took.
    at: datetime.datetime
    seconds: float
    report: Report
    #: None until the doctor has looked for the first time.
    diagnosis: Diagnosis | None = None
    #: What the webhook answered by its own count; None where no Prometheus is asked.
    counts: Counts | None = None


class Seen:
    """The last sweep, the coverage of those before, and why the last try failed, if it did.

    One thread tells it, others read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Snapshot | None = None
        self._history: deque[Point] = deque(maxlen=_POINTS)
        self._error = ""

    def swept(self, snapshot: Snapshot) -> None:
        """Take up a sweep that succeeded."""
        with self._lock:
            self._last, self._error = snapshot, ""
            self._history.append(_point(snapshot))

    def updated(self, snapshot: Snapshot) -> None:
        """Take up what has changed since the last sweep; it is no point of the history."""
        with self._lock:
            self._last, self._error = snapshot, ""

    def failed(self, error: str) -> None:
        """Take up why a sweep failed, in one line; the one before stays the last."""
        with self._lock:
            self._error = error

    @property
    def last(self) -> Snapshot | None:
        """The last sweep that succeeded; None before the first."""
        return self._last

    @property
    def error(self) -> str:
        """Why the sweep after the last one failed; empty where none did."""
        return self._error

    @property
    def history(self) -> Sequence[Point]:
        """The coverage of sweeps, oldest first, a day at most; it begins with the process."""
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
