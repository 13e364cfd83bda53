"""Kubernetes Events on workloads: when one is seen outside its mesh, and when it is mended.

An Event is told when a workload's state changes, and no more than that. It has a name of its own
for each workload, reason and set of checks: one that is there already is counted up, so that ten
changes are one Event; after a restart of the auditor what was told before is not told again as long
as the Event lives (an hour, the API server's --event-ttl).
"""

import datetime
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import structlog

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, RefusedError
from webhook.cluster.audit import Report, Row
from webhook.cluster.audit.reports import message
from webhook.cluster.kinds.inventory import Workload

log = structlog.get_logger(__name__)

_COMPONENT = "mendix-mesh"
#: Events of one sweep: two calls each. What is left is told by the next one.
_MOST = 50
#: Characters of a message (ValidateEventUpdate takes 1,024).
_LONGEST = 1000
#: Where a workload's uid is found, without which `kubectl describe` does not show its Events.
_PLACES: Mapping[tuple[str, str], str] = {
    ("v1", "Pod"): "pods",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("apps/v1", "DaemonSet"): "daemonsets",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("batch/v1", "Job"): "jobs",
    ("batch/v1", "CronJob"): "cronjobs",
}

Reason = Literal["NotMeshed", "Meshed"]


class _Told(NamedTuple):
    """What is to be said of a workload."""

    workload: Workload
    reason: Reason
    text: str
    #: What makes two Events the same.
    about: tuple[str, ...]


class EventRecorder:
    """Remembers which workloads it told of. It never raises: an Event is no more than a hint."""

    def __init__(self, cluster: Cluster, *, instance: str = "") -> None:
        """`instance` is who tells: the pod's name."""
        self._cluster = cluster
        self._instance = instance or _COMPONENT
        #: What was told last of each workload that is outside.
        self._outside: dict[Workload, tuple[str, ...]] = {}
        self._is_first = True
        self._refused = ""

    def tell(self, report: Report, names: Sequence[str] | None = None) -> int:
        """Tell what changed in these namespaces, None for all; gives how many Events were made."""
        looked = [one for one in report.namespaces if names is None or one.name in names]
        rows = {
            Workload(one.name, row.api_version, row.kind, row.name): row
            for one in looked
            if one.enrolled and not one.error
            for row in one.workloads
        }
        made = 0
        for told in self._changes(rows):
            if made >= _MOST or not self._record(told):
                break
            made += 1
            if told.reason == "NotMeshed":
                self._outside[told.workload] = told.about
            else:
                del self._outside[told.workload]
        unread = {one.name for one in looked if one.error}
        self._forget(rows, names, unread)
        if names is None and made < _MOST:
            self._is_first = False
        return made

    def _changes(self, rows: Mapping[Workload, Row]) -> Iterator[_Told]:
        for workload, row in rows.items():
            before = self._outside.get(workload)
            denied = [one for one in row.findings if one.level == "deny"]
            if row.state in ("unmeshed", "partly") or denied:
                about = tuple(sorted({one.check for one in denied})) or (row.state,)
                if about != before:
                    yield _Told(workload, "NotMeshed", _text(row), about)
            elif before is not None and row.state in ("meshed", "exempt"):
                yield _Told(workload, "Meshed", "all its pods are in the mesh", ())

    def _forget(
        self, rows: Mapping[Workload, Row], names: Sequence[str] | None, unread: set[str]
    ) -> None:
        """Forget workloads that are gone; one that could not be looked at is not gone."""
        for workload in list(self._outside):
            looked = names is None or workload.namespace in names
            if looked and workload not in rows and workload.namespace not in unread:
                del self._outside[workload]

    def _record(self, told: _Told) -> bool:
        """Whether an Event could be made, or was there."""
        workload = told.workload
        where = path("v1", "events", workload.namespace)
        try:
            made = self._event(told)
            try:
                self._cluster.create(where, made)
            except RefusedError as error:
                if error.reason != "AlreadyExists":
                    raise
                if not self._is_first:
                    self._count_up(path("v1", "events", workload.namespace, _name(told)), made)
        except RefusedError as error:
            if error.code == 404 or "because it is being terminated" in str(error):
                return True
            self._could_not(error)
            return False
        except ClusterError as error:
            self._could_not(error)
            return False
        self._refused = ""
        return True

    def _could_not(self, error: ClusterError) -> None:
        if str(error) != self._refused:
            self._refused = str(error)
            log.warning("no event was made", why=str(error))

    def _count_up(self, where: str, made: Mapping[str, Any]) -> None:
        last = {"lastTimestamp": made["lastTimestamp"], "message": made["message"]}
        stored, _ = self._cluster.patch(where, last)
        self._cluster.patch(where, {"count": int(stored.get("count") or 1) + 1})

    def _event(self, told: _Told) -> dict[str, Any]:
        workload = told.workload
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        now = now.replace("+00:00", "Z")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": _name(told), "namespace": workload.namespace},
            "involvedObject": {
                "apiVersion": workload.api_version,
                "kind": workload.kind,
                "namespace": workload.namespace,
                "name": workload.name,
                **self._uid(workload),
            },
            "reason": told.reason,
            "type": "Warning" if told.reason == "NotMeshed" else "Normal",
            "message": told.text,
            "source": {"component": _COMPONENT},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._instance,
        }

    def _uid(self, workload: Workload) -> dict[str, str]:
        """The uid of a workload, where it may be looked at."""
        plural = _PLACES.get((workload.api_version, workload.kind))
        if plural is None:
            return {}
        where = path(workload.api_version, plural, workload.namespace, workload.name)
        try:
            found = self._cluster.find(where, partial=True)
        except RefusedError as error:
            if error.is_forbidden:
                return {}
            raise
        return {"uid": found["metadata"]["uid"]} if found else {}


def _name(told: _Told) -> str:
    """The Event's name: 253 characters at most, as those of the workload may be."""
    what = "/".join((told.workload.api_version, told.workload.kind, told.reason, *told.about))
    return f"{told.workload.name[:200]}.{hashlib.sha256(what.encode()).hexdigest()[:16]}"


def _text(row: Row) -> str:
    """Why a workload is outside: check, reason and mend of the first finding, and how many more."""
    # What is refused comes first in a row.
    found = [one for one in row.findings if one.level == "deny"] or row.findings
    if not found:
        return f"its pods are {row.state}"
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    text = f"{found[0].check}: {message(found[0])}"
    return text[: _LONGEST - len(more)] + more
