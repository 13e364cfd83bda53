"""Enrolls Mendix namespaces without a command: `audit --watch --auto-enroll`.

Watches report where one of Mendix's custom resources, or a Mendix namespace, has changed. Then the
namespace is read and enrolled, if no admin has decided about it: see the module `automatic` of
webhook.cluster.namespaces. Nothing here takes a namespace out of its mesh.
"""

import datetime
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.api.watch import Watcher, WatchEvent
from webhook.cluster.auditor.events import EventRecorder
from webhook.cluster.auditor.metrics import EnrollmentMetrics
from webhook.cluster.auditor.scan import Changes
from webhook.cluster.judge import Judge
from webhook.cluster.kinds import controllers, meshes
from webhook.cluster.kinds.inventory import RUNNING, Inventory, LivePod, Namespace, Workload
from webhook.cluster.namespaces.automatic import AutoMode, Choice, decide
from webhook.cluster.namespaces.discovery import (
    RESOURCES,
    LabelChange,
    mendix_namespaces,
    note,
    served,
    set_labels,
)
from webhook.cluster.namespaces.enrollment import ENROLLED_AT, Enrollment
from webhook.log import Log
from webhook.policy.labels import MESH_LABEL, MODE_LABEL

log = Log(__name__)

#: Seconds between two looks for Mendix's CRDs, until all are served.
_CRDS = 3.0
#: Seconds after which every API server has noticed the labels of a namespace.
_NOTICED = 1.0
#: What Mendix's installer creates beside the custom resources.
_INSTALLED = (("Deployment", "mendix-operator"), ("Deployment", "mendix-agent"))
#: Seconds until a failed look is tried again: the first pause and the longest.
_WAIT, _LONGEST_WAIT = 1.0, 60.0


class Enroller:
    """Enrolls in its own thread. It logs what it does, counts it, and creates Events."""

    def __init__(
        self,
        cluster: Cluster,
        mode: AutoMode,
        judge: Judge,
        metrics: EnrollmentMetrics,
        *,
        interval: float = 300.0,
        recorder: EventRecorder | None = None,
    ) -> None:
        """All Mendix namespaces are read each `interval` seconds, because a mesh may be new."""
        self._cluster = cluster
        self._inventory = Inventory(cluster)
        self._mode = mode
        self._judge = judge
        self._metrics = metrics
        self._interval = interval
        self._recorder = recorder
        self._changes = Changes()
        #: The Mendix namespaces, and what was decided about each.
        self._known: dict[str, Choice] = {}
        #: The mesh of each newly enrolled namespace, until its operator has been restarted.
        self._fresh: dict[str, str] = {}
        self._watchers = {"": Watcher(cluster, path("v1", "namespaces"), self._namespace)}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="enroller", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stop. Wait at most this many seconds for a call to the API server."""
        self._stopping.set()
        for watcher in tuple(self._watchers.values()):
            watcher.stop()
        # Unlike `wake`, this also ends a wait that is about to begin.
        self._changes.namespace(None)
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _namespace(self, change: WatchEvent | None) -> None:
        if change is None or change.name in self._known:
            self._changes.namespace(change)

    def _resource(self, change: WatchEvent | None) -> None:
        self._changes.namespace(change and WatchEvent("", change.namespace))

    def _run(self) -> None:
        self._watchers[""].start()
        due, wait, reported = 0.0, _WAIT, ""
        while not self._stopping.is_set():
            names: list[str] = []
            try:
                is_complete = self._watch()
                names, missed = self._changes.take()
                begun = time.monotonic()
                if missed or begun >= due:
                    due = 0.0
                    self._look()
                    due = begun + self._interval
                elif names:
                    self._look(names)
            except Exception as error:  # any error may be gone at the next look
                if str(error) != reported:
                    write = log.warning if isinstance(error, ClusterError) else log.exception
                    write("can't enroll namespaces", why=str(error))
                reported = str(error)
                self._changes.again(names)
                self._stopping.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
                continue
            if reported:
                log.info("enrolls namespaces again")
            wait, reported = _WAIT, ""
            self._changes.wait(max(0.0, due - begun) if is_complete else _CRDS)

    def _watch(self) -> bool:
        """Watch the custom resources that are served. Return whether these are all of them.

        Each watch begins with a look at all namespaces.
        """
        if len(self._watchers) <= len(RESOURCES):
            for where in served(self._cluster):
                if where not in self._watchers:
                    self._watchers[where] = Watcher(self._cluster, where, self._resource)
                    self._watchers[where].start()
        return len(self._watchers) > len(RESOURCES)

    def _look(self, names: Sequence[str] = ()) -> None:
        """Read these namespaces, or all of Mendix's, and enroll those that are to be enrolled."""
        marked = mendix_namespaces(self._cluster, names)
        for name in names or tuple(self._known):
            if name not in marked:
                self._known.pop(name, None)
                self._fresh.pop(name, None)
        # If the API server fails for one namespace, the others still get their turn.
        failed: list[StatusError] = []
        if marked:
            enrollment = Enrollment.read(self._cluster)
            if enrollment.notes:
                raise ClusterError(enrollment.notes[0])
            installed, mutating = meshes.installed(self._cluster), meshes.mutating(self._cluster)
            for namespace in self._namespaces(marked, names):
                name = namespace.name
                choice = decide(namespace, enrollment, installed, mutating)
                try:
                    done = self._settle(namespace, choice, enrollment)
                except StatusError as error:
                    failed.append(error)
                    continue
                if done != self._known.get(name):
                    self._report(name, done)
                self._known[name] = done
                # After a failed restart, an admin may have removed the labels.
                if done.state != "enrolled":
                    self._fresh.pop(name, None)
            self._restart(marked, failed)
        self._metrics.count(choice.state for choice in self._known.values())
        if failed:
            raise failed[0]

    def _namespaces(self, marked: Collection[str], names: Sequence[str]) -> Iterator[Namespace]:
        """Yield the marked namespaces, without those that are being deleted."""
        every = map(self._inventory.namespace, marked) if names else self._inventory.namespaces()
        for namespace in every:
            if namespace.name in marked and not namespace.is_leaving:
                yield namespace

    def _settle(self, namespace: Namespace, choice: Choice, enrollment: Enrollment) -> Choice:
        """Do what was decided. Return the namespace's state afterwards."""
        enrolled = enrollment.of(namespace)
        since = enrolled.since if enrolled and ENROLLED_AT not in namespace.annotations else None
        try:
            if choice.state == "ready":
                since = self._enroll(namespace, choice.mesh)
                choice = Choice("enrolled")
            # So that it stays removed if an admin removes it.
            note(self._cluster, namespace.name, since)
        except StatusError as error:
            if _is_temporary(error):
                raise
            if error.code in (404, 409):
                # It is gone, or somebody else has just changed it.
                self._changes.again([namespace.name])
            elif choice.state == "ready":
                return Choice("denied", why=f"the API server denied the labels: {error}")
            elif choice != self._known.get(namespace.name):
                where = {"namespace": namespace.name, "annotation": ENROLLED_AT}
                log.warning("enrolled, but can't write the annotation", **where, why=str(error))
        return choice

    def _enroll(self, namespace: Namespace, mesh: str) -> datetime.datetime | None:
        """Label a namespace, and report it. Return since when it has the labels."""
        labels = {MESH_LABEL: mesh, MODE_LABEL: self._mode}
        change = LabelChange(name=namespace.name, labels=labels, before={})
        stored, _ = set_labels(self._cluster, change, version=namespace.version)
        self._fresh[namespace.name] = mesh
        log.info("enrolled", namespace=namespace.name, mesh=mesh, mode=self._mode)
        self._metrics.enrolled(mesh)
        if self._recorder:
            self._recorder.enrolled(
                namespace.name,
                "Enrolled",
                f"enrolled in {mesh} with mode {self._mode}, because the namespace has Mendix "
                "custom resources; new pods join the mesh; for older pods run mendix-mesh restart "
                f"-n {namespace.name}",
            )
        return stored.labelled(MESH_LABEL)

    def _restart(self, marked: Mapping[str, Mapping[str, int]], failed: list[StatusError]) -> None:
        """Restart the operator and its agent in newly enrolled namespaces without an app.

        An installer creates them with the first custom resource or before it, so their pods are
        older than the enrollment. Without an app, a restart interrupts nothing. What may succeed
        later is added to `failed`.
        """
        for name in marked:
            if marked[name].get("mendixapps"):
                self._fresh.pop(name, None)
        due = [name for name in marked if name in self._fresh]
        if not due or self._stopping.wait(_NOTICED):
            return
        for name in due:
            try:
                self._restart_in(name, self._fresh[name])
                del self._fresh[name]
            except StatusError as error:
                failed.append(error)

    def _restart_in(self, namespace: str, mesh: str) -> None:
        outside = {
            self._inventory.workload(pod)
            for pod in self._inventory.pods(namespace, fields=RUNNING)
            if isinstance(pod, LivePod) and pod.runs and self._judge.runs_outside(pod, mesh)
        }
        for workload in sorted(outside):
            if (workload.kind, workload.name) in _INSTALLED:
                self._roll_out(workload)

    def _roll_out(self, workload: Workload) -> None:
        where = {"namespace": workload.namespace, "deployment": workload.name}
        try:
            controllers.roll_out(self._cluster, workload)
        except StatusError as error:
            if _is_temporary(error):
                raise
            log.warning("not restarted", **where, why=str(error))
        else:
            log.info("restarted, because its pods were older than the enrollment", **where)

    def _report(self, name: str, choice: Choice) -> None:
        """Report a namespace that is not enrolled. An admin's decision is only logged."""
        if choice.state == "enrolled":
            return
        if not choice.why:
            log.info("not enrolled", namespace=name, state=choice.state)
            return
        log.warning("not enrolled", namespace=name, state=choice.state, why=choice.why)
        if self._recorder:
            text = f"the namespace has Mendix custom resources, but is not enrolled: {choice.why}"
            self._recorder.enrolled(name, "NotEnrolled", text)


def _is_temporary(error: StatusError) -> bool:
    """Return whether the same call may succeed later."""
    return error.code == 429 or error.code >= 500
