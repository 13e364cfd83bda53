"""Creates Kubernetes Events: on workloads that leave the mesh, or join it again, and on namespaces.

An Event is created only when a workload's state changes. Its name is derived from workload, reason
and checks, so for a repeated change the count of the existing Event is increased. After a restart
of the auditor, Events that still exist (an hour, the API server's --event-ttl) are not repeated.
"""

import datetime
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.audit import Report, Row
from webhook.cluster.audit.reports import message
from webhook.cluster.kinds.inventory import Workload
from webhook.log import Log

log = Log(__name__)

_COMPONENT = "mendix-mesh"
#: The maximum number of Events per scan, with two calls each. The next scan creates the others.
_MOST = 50
#: The maximum length of a message in characters (ValidateEventUpdate allows 1,024).
_LONGEST = 1000
#: Resources from which a workload's uid is read. `kubectl describe` finds Events by the uid.
_PLACES: Mapping[tuple[str, str], str] = {
    ("v1", "Pod"): "pods",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("apps/v1", "DaemonSet"): "daemonsets",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("batch/v1", "Job"): "jobs",
    ("batch/v1", "CronJob"): "cronjobs",
}
_NAMESPACE = ("v1", "Namespace")

Reason = Literal["NotMeshed", "Meshed", "NotEnrolled", "Enrolled"]


class _Change(NamedTuple):
    """A change of a workload or namespace that gets an Event."""

    workload: Workload
    reason: Reason
    text: str
    #: Two changes with the same value share one Event.
    about: tuple[str, ...]


class EventRecorder:
    """Creates Events for changed workloads. It never raises, because Events are optional."""

    def __init__(self, cluster: Cluster, *, instance: str = "") -> None:
        """`instance` is the name of the auditor's pod."""
        self._cluster = cluster
        self._instance = instance or _COMPONENT
        #: The checks in the last Event of each workload that is outside the mesh.
        self._outside: dict[Workload, tuple[str, ...]] = {}
        self._is_first = True
        self._reported = self._without_uid = ""

    def tell(self, report: Report, names: Sequence[str] | None = None) -> int:
        """Create Events for what changed in these namespaces (None: all); return their number."""
        looked = [one for one in report.namespaces if names is None or one.name in names]
        rows = {
            Workload(one.name, row.api_version, row.kind, row.name): row
            for one in looked
            if one.enrolled and not one.error
            for row in one.workloads
        }
        made = 0
        for change in self._changes(rows):
            if made >= _MOST or not self._record(change):
                break
            made += 1
            if change.reason == "NotMeshed":
                self._outside[change.workload] = change.about
            else:
                del self._outside[change.workload]
        unread = {one.name for one in looked if one.error}
        self._forget(rows, names, unread)
        if names is None and made < _MOST:
            self._is_first = False
        return made

    def enrolled(
        self, namespace: str, reason: Literal["NotEnrolled", "Enrolled"], why: str
    ) -> None:
        """Create an Event in a namespace about its enrollment."""
        self._record(_Change(Workload(namespace, *_NAMESPACE, namespace), reason, why, ()))

    def _changes(self, rows: Mapping[Workload, Row]) -> Iterator[_Change]:
        for workload, row in rows.items():
            before = self._outside.get(workload)
            denied = [one for one in row.findings if one.level == "deny"]
            if row.state in ("unmeshed", "partly") or denied:
                about = tuple(sorted({one.check for one in denied})) or (row.state,)
                if about != before:
                    yield _Change(workload, "NotMeshed", _text(row), about)
            elif before is not None and row.state in ("meshed", "exempt"):
                yield _Change(workload, "Meshed", "all pods are in the mesh", ())

    def _forget(
        self, rows: Mapping[Workload, Row], names: Sequence[str] | None, unread: set[str]
    ) -> None:
        """Forget workloads that are gone; keep those in namespaces that could not be read."""
        for workload in list(self._outside):
            looked = names is None or workload.namespace in names
            if looked and workload not in rows and workload.namespace not in unread:
                del self._outside[workload]

    def _record(self, change: _Change) -> bool:
        """Create or update an Event; return whether that succeeded."""
        workload = change.workload
        where = path("v1", "events", workload.namespace)
        try:
            made = self._event(change)
            try:
                self._cluster.create(where, made)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
                if not self._is_first:
                    self._count_up(path("v1", "events", workload.namespace, _name(change)), made)
        except StatusError as error:
            if error.code == 404 or "because it is being terminated" in str(error):
                return True
            self._could_not(error)
            return False
        except ClusterError as error:
            self._could_not(error)
            return False
        self._reported = ""
        return True

    def _could_not(self, error: ClusterError) -> None:
        if str(error) != self._reported:
            self._reported = str(error)
            log.warning("event not created", why=str(error))

    def _count_up(self, where: str, made: Mapping[str, Any]) -> None:
        last = {"lastTimestamp": made["lastTimestamp"], "message": made["message"]}
        stored, _ = self._cluster.patch(where, last)
        self._cluster.patch(where, {"count": int(stored.get("count") or 1) + 1})

    def _event(self, change: _Change) -> dict[str, Any]:
        workload = change.workload
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        now = now.replace("+00:00", "Z")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": _name(change), "namespace": workload.namespace},
            "involvedObject": {
                "apiVersion": workload.api_version,
                "kind": workload.kind,
                "namespace": workload.namespace,
                "name": workload.name,
                **self._uid(workload),
            },
            "reason": change.reason,
            "type": "Warning" if change.reason.startswith("Not") else "Normal",
            "message": change.text,
            "source": {"component": _COMPONENT},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._instance,
        }

    def _uid(self, workload: Workload) -> dict[str, str]:
        """Return the uid of a workload or namespace; empty if reading it is forbidden."""
        kind = workload.api_version, workload.kind
        if kind == _NAMESPACE:
            where = path("v1", "namespaces", name=workload.name)
        elif kind in _PLACES:
            where = path(kind[0], _PLACES[kind], workload.namespace, workload.name)
        else:
            return {}
        try:
            found = self._cluster.find(where, partial=True)
        except StatusError as error:
            if not error.is_forbidden:
                raise
            if str(error) != self._without_uid:
                self._without_uid = str(error)
                log.warning(
                    "event without uid, so kubectl describe does not show it", why=str(error)
                )
            return {}
        return {"uid": found["metadata"]["uid"]} if found else {}


def _name(change: _Change) -> str:
    """Return the Event's name, with at most 253 characters."""
    what = "/".join(
        (change.workload.api_version, change.workload.kind, change.reason, *change.about)
    )
    return f"{change.workload.name[:200]}.{hashlib.sha256(what.encode()).hexdigest()[:16]}"


def _text(row: Row) -> str:
    """Return why a workload is outside the mesh: its first finding, and the number of others."""
    # Findings that are denied come first in a row.
    found = [one for one in row.findings if one.level == "deny"] or row.findings
    if not found:
        return f"pods of this workload are {row.state}; see mendix-mesh audit"
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    text = f"{found[0].check}: {message(found[0])}"
    return text[: _LONGEST - len(more)] + more
