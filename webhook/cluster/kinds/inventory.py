"""What is in a cluster: namespaces, live pods, and the workloads that own them.

Everything is streamed from pages of JSON into the few fields that are read. Of a pod those are what
policy judges, and what shows whether it lives.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from webhook.cluster.api.connection import PAGE, Cluster, path
from webhook.cluster.api.errors import RefusedError
from webhook.policy.pod import objects
from webhook.policy.pod.objects import UndecodableError

_HASH = "pod-template-hash"
#: CronJobs name their Jobs after themselves and the minute, counted from 1970.
_OF_CRON_JOB = re.compile(r".+-\d{8,}")
#: Kinds that others may own, and their plural names; other controllers are at the top.
_CHAINED = {"ReplicaSet": "replicasets", "Job": "jobs"}
#: Selects pods by their fields: those that have ended neither send nor take traffic.
RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
#: Owners that are remembered.
_MOST_OWNERS = 10_000


class _Read(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is read beside policy's fields: camelCase, all else skipped."""


class LiveMeta(objects.Meta, frozen=True, gc=False, rename="camel"):
    """metadata of a stored object."""

    uid: str = ""
    creation_timestamp: datetime.datetime | None = None
    deletion_timestamp: datetime.datetime | None = None


class ContainerStatus(_Read, frozen=True, rename="camel"):
    """How a container of any list does; `started` says that its startup probe has passed."""

    name: str = ""
    ready: bool = False
    started: bool | None = None


class Condition(_Read, frozen=True, rename="camel"):
    """A condition of a pod: Ready, PodScheduled and others."""

    type: str = ""
    status: str = ""


class PodStatus(_Read, frozen=True, rename="camel"):
    """status of a pod."""

    phase: str = ""
    conditions: list[Condition] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None


class LivePod(objects.Object, frozen=True, gc=False, rename="camel"):
    """A stored pod: for policy an `Object`, and how it does."""

    # Items of a list leave out what the list says.
    api_version: str = "v1"
    kind: str = "Pod"
    metadata: LiveMeta = LiveMeta()
    status: PodStatus = PodStatus()

    @property
    def name(self) -> str:
        """Its name, which a stored pod always has."""
        return self.metadata.name or ""

    @property
    def namespace(self) -> str:
        """Its namespace, which a stored pod always has."""
        return self.metadata.namespace or ""

    @property
    def has_ended(self) -> bool:
        """Whether all its containers have, for good: it sends and takes no traffic any more."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def is_leaving(self) -> bool:
        """Whether it is being deleted."""
        return self.metadata.deletion_timestamp is not None

    @property
    def runs(self) -> bool:
        """Whether it is there to stay: neither ended, nor being deleted."""
        return not self.has_ended and not self.is_leaving

    @property
    def is_ready(self) -> bool:
        """Whether it has the condition Ready."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())

    def container(self, name: str) -> ContainerStatus | None:
        """How the container of that name does; None where the kubelet has not told yet."""
        lists = (self.status.init_container_statuses, self.status.container_statuses)
        return next((one for some in lists for one in some or () if one.name == name), None)


class BadPod(NamedTuple):
    """A stored pod whose fields can't be decoded, and why."""

    namespace: str
    name: str
    why: str


class Workload(NamedTuple):
    """What is deployed, restarted or deleted as one: the controller at the top, or a bare pod."""

    namespace: str
    api_version: str
    kind: str
    name: str


class _FieldsOfMeta(msgspec.Struct, frozen=True):
    labels: dict[str, Any] = msgspec.field(name="f:labels", default_factory=dict)


class _Fields(msgspec.Struct, frozen=True):
    metadata: _FieldsOfMeta = msgspec.field(name="f:metadata", default_factory=_FieldsOfMeta)


class _Managed(_Read, frozen=True, rename="camel"):
    time: datetime.datetime | None = None
    fields_v1: _Fields = msgspec.field(name="fieldsV1", default_factory=_Fields)


class _NamespaceMeta(_Read, frozen=True, rename="camel"):
    name: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: datetime.datetime | None = None
    managed_fields: list[_Managed] | None = None


class Namespace(_Read, frozen=True, rename="camel"):
    """A namespace: its marks, and since when it has them."""

    metadata: _NamespaceMeta

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels; the API server gives each one its name as a label."""
        return {"kubernetes.io/metadata.name": self.name, **(self.metadata.labels or {})}

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return self.metadata.annotations or {}

    @property
    def created(self) -> datetime.datetime | None:
        """When it was created."""
        return self.metadata.creation_timestamp

    def labelled(self, key: str) -> datetime.datetime | None:
        """When a label got its value, at the latest; None where the API server does not know.

        It knows when the label's manager last wrote: a later write of other fields by the same
        manager moves that time forward.
        """
        times = [
            managed.time
            for managed in self.metadata.managed_fields or ()
            if managed.time and f"f:{key}" in managed.fields_v1.metadata.labels
        ]
        return min(times, default=None)


class _BareMeta(msgspec.Struct):
    namespace: str = ""
    name: str = ""


class _Bare(msgspec.Struct):
    """What is read of a pod that can't be decoded."""

    metadata: _BareMeta


_pods = msgspec.json.Decoder(LivePod)
_bare = msgspec.json.Decoder(_Bare)
_namespaces = msgspec.json.Decoder(Namespace)


def decode(raw: msgspec.Raw | bytes) -> LivePod:
    """Decode one pod. Raises `UndecodableError`, as `policy.objects.decode` does."""
    objects.check_size(raw)
    try:
        return _pods.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(str(error)) from None


class Inventory:
    """Lists of a cluster, streamed, `page` objects at a time. All may raise `ClusterError`."""

    def __init__(self, cluster: Cluster, *, page: int = PAGE) -> None:
        self._cluster = cluster
        self._page = page
        self._owners: dict[tuple[str, str, str, str], Workload] = {}

    def namespaces(self, labels: str = "") -> Iterator[Namespace]:
        """Every namespace, or those that a label selector selects."""
        for raw in self._cluster.items(path("v1", "namespaces"), labels=labels, size=self._page):
            yield _namespaces.decode(raw)

    def namespace(self, name: str) -> Namespace:
        """One namespace. Raises `RefusedError` 404 where there is none."""
        answer = self._cluster.call("GET", path("v1", "namespaces", name=name))
        return _namespaces.decode(answer.body)

    def pods(
        self, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Iterator[LivePod | BadPod]:
        """The pods of a namespace, or of all, ordered by namespace and name."""
        where = path("v1", "pods", namespace)
        stored = self._cluster.items(where, labels=labels, fields=fields, size=self._page)
        return map(_pod, stored)

    def workload(self, pod: LivePod) -> Workload:
        """What owns a pod: its controller, that one's controller, and so on.

        A ReplicaSet with a Deployment's hash in its name is a Deployment's, as the Deployment
        controller names them; other owners are asked for once, and where that is forbidden or they
        are gone, the chain ends with them.
        """
        owner = pod.metadata.controller
        if owner is None:
            return Workload(pod.namespace, pod.api_version, pod.kind, pod.name)
        ending = f"-{(pod.metadata.labels or {}).get(_HASH, '')}"
        if owner.kind == "ReplicaSet" and len(ending) > 1 and owner.name.endswith(ending):
            name = owner.name.removesuffix(ending)
            return Workload(pod.namespace, "apps/v1", "Deployment", name)
        return self._top(Workload(pod.namespace, owner.api_version, owner.kind, owner.name))

    def _top(self, found: Workload) -> Workload:
        plural = _CHAINED.get(found.kind)
        if not plural or (found.kind == "Job" and not _OF_CRON_JOB.fullmatch(found.name)):
            return found
        if found not in self._owners:
            # One namespace after the other is looked at: what was known is needed no more.
            if len(self._owners) > _MOST_OWNERS:
                self._owners.clear()
            self._owners[found] = self._asked(found, plural)
        return self._owners[found]

    def _asked(self, found: Workload, plural: str) -> Workload:
        where = path(found.api_version, plural, found.namespace, found.name)
        try:
            stored = self._cluster.find(where, partial=True)
        except RefusedError as error:
            if error.is_forbidden:
                return found
            raise
        meta = objects.convert(stored or {}).metadata
        owner = meta.controller if meta else None
        if owner is None:
            return found
        return self._top(Workload(found.namespace, owner.api_version, owner.kind, owner.name))


def _pod(raw: msgspec.Raw) -> LivePod | BadPod:
    """A pod, decoded; one that can't be is told, for it must not be overlooked."""
    try:
        return decode(raw)
    except UndecodableError as error:
        meta = _bare.decode(raw).metadata
        return BadPod(meta.namespace, meta.name, str(error))
