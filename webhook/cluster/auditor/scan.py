"""The auditor's loop. It scans all namespaces at intervals, and changed namespaces immediately.

Watches report in which namespaces something changed. Their objects are not kept. The loop audits
these namespaces again and replaces them in the last report. If the cluster fails, the loop logs it
and tries again. Only `stop` ends the loop.
"""

import datetime
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError
from webhook.cluster.api.watch import Watcher, WatchEvent
from webhook.cluster.audit import Audited, Auditor, Report, reports, summed
from webhook.cluster.audit import traffic as wire
from webhook.cluster.auditor.events import EventRecorder
from webhook.cluster.auditor.history import Scans, Snapshot
from webhook.cluster.auditor.metrics import AuditorMetrics
from webhook.cluster.doctor import examine
from webhook.cluster.doctor.facts import Facts, places
from webhook.cluster.judge import Judge
from webhook.cluster.judge.outdated import CurrentProxies
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import Scope, ScopeError, Target
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.cluster.traffic import Prometheus, reviews
from webhook.log import Log
from webhook.policy.settings import Settings

log = Log(__name__)

#: Seconds between a change and the scan of its namespace, because a rollout consists of many
#: changes.
DEBOUNCE = 5.0
#: Scans of changed namespaces take at most a tenth of the time. After each second of scanning the
#: loop rests for nine.
_REST = 9
#: Seconds until a failed scan is tried again: the first pause and the longest.
_WAIT, _LONGEST_WAIT = 2.0, 60.0
#: Seconds that the first scan waits for the watches to start, so that no change is missed.
_BEGIN = 5.0
#: Up to this number of named namespaces, each gets its own watch. If there are more, one watch
#: covers all pods.
_FEW = 10


class ScanOptions(NamedTuple):
    """Which namespaces the auditor scans, how often, and what it does with the results."""

    #: Seconds between the starts of two full scans.
    interval: float = 300.0
    #: The namespaces, selected as for `audit`: these, all, those of Mendix, or the enrolled ones.
    named: tuple[str, ...] = ()
    everything: bool = False
    mendix: bool = False
    #: The mesh by which namespaces are judged that are not enrolled. None: by their labels and
    #: annotations.
    mesh: str | None = None
    #: Whether each full scan writes reports.
    reports: bool = False
    #: The Prometheus that each full scan queries for traffic and denials, and the time window in
    #: seconds.
    prometheus: Prometheus | None = None
    window: int = 3600
    debounce: float = DEBOUNCE


#: Called when a report replaces another one, with the previous report (None at first) and the new
#: one.
OnReport = Callable[[Report | None, Report], None]


class Changes:
    """Collects the namespaces to scan again. Watches add them, the scanner takes them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        #: The namespaces that changed themselves, and those with changed pods.
        self._changed: set[str] = set()
        self._with_pods: set[str] = set()
        self._missed = False
        #: Only pods of these namespaces count. Before they are known (None), all pods count.
        self._watched: frozenset[str] | None = None

    def namespace(self, change: WatchEvent | None) -> None:
        """Record a change of a namespace. None means that changes may have been missed."""
        with self._condition:
            if change is None:
                self._missed = True
            else:
                self._changed.add(change.name)
            self._condition.notify()

    def pod(self, change: WatchEvent | None) -> None:
        """Record a change of a pod. None means that changes may have been missed."""
        with self._condition:
            if change is None:
                self._missed = True
            elif self._watched is None or change.namespace in self._watched:
                self._with_pods.add(change.namespace)
            else:
                return
            self._condition.notify()

    def watch(self, names: Iterable[str]) -> None:
        """From now on, record only pods of these namespaces."""
        with self._condition:
            self._watched = frozenset(names)
            self._with_pods &= self._watched

    def again(self, names: Iterable[str]) -> None:
        """Add these namespaces once more."""
        with self._condition:
            self._changed.update(names)

    def wait(self, seconds: float) -> None:
        """Wait for a change or for `wake`, at most this many seconds."""
        with self._condition:
            if not (self._changed or self._with_pods or self._missed):
                self._condition.wait(seconds)

    def wake(self) -> None:
        """End a wait."""
        with self._condition:
            self._condition.notify()

    @property
    def are_there(self) -> bool:
        """Return whether there are any changes."""
        with self._condition:
            return bool(self._changed or self._with_pods or self._missed)

    def take(self) -> tuple[list[str], bool]:
        """Return the namespaces and clear them; and whether changes may have been missed."""
        with self._condition:
            names, missed = sorted(self._changed | self._with_pods), self._missed
            self._changed, self._with_pods, self._missed = set(), set(), False
            return names, missed


class _FullScan(NamedTuple):
    """Results of a full scan that later scans of single namespaces need."""

    scope: Scope
    auditor: Auditor
    uid: str


class Scanner:
    """Scans in its own thread. Updates `scans`, metrics and Events, and calls `on_report`."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        scans: Scans,
        metrics: AuditorMetrics,
        options: ScanOptions,
        *,
        recorder: EventRecorder | None = None,
        on_report: OnReport = lambda _before, _after: None,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._scans = scans
        self._metrics = metrics
        self._options = options
        self._recorder = recorder
        self._on_report = on_report
        self._changes = Changes()
        self._stopping = threading.Event()
        self._full: _FullScan | None = None
        self._reported: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="scanner", daemon=True)
        self._watchers = [
            Watcher(cluster, path("v1", "namespaces"), self._changes.namespace),
            *(
                Watcher(cluster, path("v1", "pods", name), self._changes.pod)
                for name in (options.named if len(options.named) <= _FEW else ()) or ("",)
            ),
        ]

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stop. Wait at most this many seconds for a call to the API server."""
        self._stopping.set()
        for watcher in self._watchers:
            watcher.stop()
        self._changes.wake()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        for watcher in self._watchers:
            watcher.start()
        end = time.monotonic() + _BEGIN
        for watcher in self._watchers:
            watcher.begun.wait(max(0.0, end - time.monotonic()))
        due, rested, wait = time.monotonic(), 0.0, _WAIT
        while not self._stopping.is_set():
            now = time.monotonic()
            if now < due and self._full is None:
                # Before the first scan there is no report to put a change into.
                self._stopping.wait(due - now)
                continue
            if now < due and not self._changes.are_there:
                self._changes.wait(due - now)
                continue
            if now < due:
                # Wait a moment, so that one scan covers all changes that follow each other closely.
                self._stopping.wait(max(self._options.debounce, rested - now))
                if self._stopping.is_set():
                    return
            names, missed = self._changes.take()
            begun = time.monotonic()
            if missed or begun >= due:
                if self._try(lambda begun=begun: self._all(begun)):  # type: ignore[misc]
                    now, wait = time.monotonic(), _WAIT
                    # If a scan takes longer than half of the interval, rest as long as it took.
                    due = max(begun + self._options.interval, now + (now - begun))
                else:
                    self._metrics.failed()
                    due = time.monotonic() + wait * random.uniform(0.8, 1.2)  # noqa: S311
                    wait = min(2 * wait, _LONGEST_WAIT)
            elif names and not self._try(lambda names=names: self._some(names)):  # type: ignore[misc]
                self._changes.again(names)
                self._stopping.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            rested = time.monotonic() + _REST * (time.monotonic() - begun)

    def _try(self, scan: Callable[[], None]) -> bool:
        """Return whether a scan succeeds. Log an error once, as long as it stays the same."""
        before = self._scans.error
        try:
            scan()
        except ClusterError as error:
            why = str(error)
            if why != before:
                log.warning("the audit failed", why=why)
        except Exception as error:  # any error may be gone at the next scan
            why = f"{type(error).__name__}: {error}"
            if why != before:
                log.exception("the audit failed", why=why)
        else:
            if before:
                log.info("the audit works again")
            return True
        self._scans.failed(why)
        return False

    def _all(self, begun: float) -> None:
        """Scan all namespaces. Then run the doctor and write reports."""
        options = self._options
        enrollment = Enrollment.read(self._cluster)
        inventory = Inventory(self._cluster)
        scope = Scope(self._cluster, inventory, enrollment, options.mesh)
        current = CurrentProxies(self._cluster, self._settings)
        policies = PolicyObjects(self._cluster, self._settings)
        auditor = Auditor(inventory, Judge(self._settings), current, policies)
        report = auditor.audit(self._targets(scope), total=scope.total)
        report.notes += [*enrollment.notes, *scope.notes, *inventory.notes]
        counts = None
        if options.prometheus:
            wire.see(report, options.prometheus, window=options.window)
            counts = reviews.look(options.prometheus, window=options.window)
        self._full = _FullScan(scope, auditor, enrollment.uid)
        last = self._scans.last
        snapshot = Snapshot(
            at=_now(),
            seconds=round(time.monotonic() - begun, 3),
            report=report,
            selected=options.named,
            diagnosis=last.diagnosis if last else None,
            counts=counts,
        )
        self._scans.scanned(snapshot)
        self._metrics.scanned(snapshot.at.timestamp(), snapshot.seconds)
        self._tell(last.report if last else None, report, None)
        self._log_unread(report)
        self._examine(inventory, enrollment, snapshot)
        if options.reports:
            self._write(report, enrollment.uid)

    def _some(self, names: list[str]) -> None:
        """Scan some namespaces again and put them into the last report."""
        last, full = self._scans.last, self._full
        if last is None or full is None:
            return
        begun = time.monotonic()
        found = {name: self._target(full.scope, last.report, name) for name in names}
        targets = [one for one in found.values() if one]
        made = full.auditor.audit(targets, total=full.scope.total)
        traffic = last.report.traffic
        if traffic:
            # The traffic from the last full scan is the latest that is known.
            wire.add(made, traffic)
        kept = [one for one in last.report.namespaces if one.name not in found]
        merged = sorted([*kept, *made.namespaces], key=lambda one: one.name)
        report = summed(merged, [*last.report.notes, *made.notes])
        report.traffic = traffic
        changed = msgspec.structs.replace(
            last, at=_now(), seconds=round(time.monotonic() - begun, 3), report=report
        )
        self._scans.updated(changed)
        self._tell(last.report, report, names)
        self._log_unread(report)

    def _targets(self, scope: Scope) -> list[Target]:
        options = self._options
        if options.named:
            return [one for name in options.named if (one := scope.target(name))]
        try:
            return scope.targets(everything=options.everything, mendix=options.mendix)
        except ScopeError:
            # No namespace is enrolled yet. This is not an error.
            return []

    def _target(self, scope: Scope, report: Report, name: str) -> Target | None:
        """Return a namespace as it must be audited now; None if it is gone or not selected."""
        options = self._options
        if options.named and name not in options.named:
            return None
        found = scope.target(name)
        if found is None or options.named or options.everything:
            return found
        known = any(one.name == name for one in report.namespaces)
        # If it can't be read, nobody knows whether it is still enrolled.
        kept = known and (options.mendix or found.error)
        return found if found.enrolled or kept else None

    def _tell(self, before: Report | None, report: Report, names: list[str] | None) -> None:
        self._changes.watch(one.name for one in report.namespaces)
        self._on_report(before, report)
        if self._recorder:
            self._recorder.tell(report, names)

    def _log_unread(self, report: Report) -> None:
        """Log what could not be read, once as long as it stays the same."""
        unread = {f"{one.name}: {one.error}" for one in report.namespaces if one.error}
        unread.update(report.notes)
        for why in sorted(unread - self._reported):
            log.warning("could not be read", what=why)
        self._reported = unread

    def _examine(self, inventory: Inventory, enrollment: Enrollment, snapshot: Snapshot) -> None:
        try:
            try:
                found = places(inventory, enrollment, self._settings, self._options.named)
            except ScopeError:
                found = []
            diagnosis = examine(Facts(self._cluster, self._settings), found)
        # the doctor reads what others wrote; the audit is valid without it
        except Exception as error:
            why = str(error) if isinstance(error, ClusterError) else repr(error)
            log.warning("the doctor failed", why=why)
            return
        self._scans.updated(msgspec.structs.replace(snapshot, diagnosis=diagnosis))

    def _write(self, report: Report, owner: str) -> None:
        whole = not self._options.named and not self._options.mendix
        try:
            written = reports.write(self._cluster, report, owner, prune=whole)
        except ClusterError as error:
            log.warning("report not written", why=str(error))
            return
        for why in written.errors:
            log.warning("report not written", why=why)


class Changed(NamedTuple):
    """A namespace with changed numbers, before and after; None if it did not exist or is gone."""

    name: str
    before: Audited | None
    after: Audited | None


def changes(before: Report | None, after: Report) -> list[Changed]:
    """Return the namespaces whose numbers differ between two reports."""
    old = {one.name: one for one in before.namespaces} if before else {}
    new = {one.name: one for one in after.namespaces}
    return [
        Changed(name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if _numbers(old.get(name)) != _numbers(new.get(name))
    ]


def _numbers(one: Audited | None) -> object:
    return one and (one.mesh, one.mode, one.pods, one.error)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
