"""The objects of a cluster: namespaces, live pods, and the workloads that own them.

Lists are streamed from pages of JSON, and only a few fields are decoded. For a pod these are the
fields that policy judges, and those of its status.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from webhook.cluster.api.connection import PAGE, Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.policy.pod import objects
from webhook.policy.pod.objects import UndecodableError

_HASH = "pod-template-hash"
#: A CronJob names a Job after itself and the minute since 1970.
_OF_CRON_JOB = re.compile(r".+-\d{8,}")
#: Kinds that can have an owner themselves, with their plural names. Other controllers are the top
#: of the chain.
_CHAINED = {"ReplicaSet": "replicasets", "Job": "jobs"}
#: Selects pods that have not ended. Ended pods neither send nor receive traffic.
RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
#: The maximum number of cached owners.
_MOST_OWNERS = 10_000


class _Read(msgspec.Struct, frozen=True, rename="camel"):
    """Base class for fields that policy does not need: camelCase, other fields ignored."""


class LiveMeta(objects.Meta, frozen=True, gc=False, rename="camel"):
    """metadata of a stored object."""

    uid: str = ""
    creation_timestamp: datetime.datetime | None = None
    deletion_timestamp: datetime.datetime | None = None


class ContainerStatus(_Read, frozen=True, rename="camel"):
    """The status of a container. `started` means that its startup probe has passed."""

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
    """A stored pod: an `Object` for policy, and its status."""

    # The items of a list omit what the list itself says.
    api_version: str = "v1"
    kind: str = "Pod"
    metadata: LiveMeta = LiveMeta()
    status: PodStatus = PodStatus()

    @property
    def name(self) -> str:
        """Return its name. Every stored pod has one."""
        return self.metadata.name or ""

    @property
    def namespace(self) -> str:
        """Return its namespace. Every stored pod has one."""
        return self.metadata.namespace or ""

    @property
    def has_ended(self) -> bool:
        """Return whether all its containers have ended for good, so it has no more traffic."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def is_leaving(self) -> bool:
        """Return whether it is being deleted."""
        return self.metadata.deletion_timestamp is not None

    @property
    def runs(self) -> bool:
        """Return whether it has neither ended nor is being deleted."""
        return not self.has_ended and not self.is_leaving

    @property
    def is_ready(self) -> bool:
        """Return whether it has the condition Ready."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())

    def container(self, name: str) -> ContainerStatus | None:
        """Return the status of the container of that name; None if not yet reported."""
        lists = (self.status.init_container_statuses, self.status.container_statuses)
        return next((one for some in lists for one in some or () if one.name == name), None)


class BadPod(NamedTuple):
    """A stored pod whose fields can't be decoded, and the reason."""

    namespace: str
    name: str
    why: str


class Workload(NamedTuple):
    """The controller at the top of a pod's owners, or a pod without an owner."""

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
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: datetime.datetime | None = None
    deletion_timestamp: datetime.datetime | None = None
    managed_fields: list[_Managed] | None = None


class Namespace(_Read, frozen=True, rename="camel"):
    """A namespace: its labels and annotations, and since when it has them."""

    metadata: _NamespaceMeta

    @property
    def name(self) -> str:
        """Return its name."""
        return self.metadata.name

    @property
    def labels(self) -> Mapping[str, str]:
        """Return its labels. The API server adds the name of the namespace as a label."""
        return {"kubernetes.io/metadata.name": self.name, **(self.metadata.labels or {})}

    @property
    def annotations(self) -> Mapping[str, str]:
        """Return its annotations."""
        return self.metadata.annotations or {}

    @property
    def created(self) -> datetime.datetime | None:
        """Return when it was created."""
        return self.metadata.creation_timestamp

    @property
    def is_leaving(self) -> bool:
        """Return whether it is being deleted."""
        return self.metadata.deletion_timestamp is not None

    @property
    def version(self) -> str:
        """Return its resourceVersion, which changes with each write."""
        return self.metadata.resource_version

    def labelled(self, key: str) -> datetime.datetime | None:
        """Return the latest time when a label can have got its value; None if unknown.

        The API server stores when the label's manager wrote last. If the same manager writes other
        fields later, this time moves forward.
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
    """The fields that are read of a pod that can't be decoded."""

    metadata: _BareMeta


_pods = msgspec.json.Decoder(LivePod)
_bare = msgspec.json.Decoder(_Bare)
_namespaces = msgspec.json.Decoder(Namespace)


def decode(raw: msgspec.Raw | bytes) -> LivePod:
    """Return one decoded pod. Raise `UndecodableError`, as `policy.objects.decode` does."""
    objects.check_size(raw)
    try:
        return _pods.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(str(error)) from None


class Inventory:
    """Streams lists of a cluster, `page` objects at a time. It may raise `ClusterError`."""

    def __init__(self, cluster: Cluster, *, page: int = PAGE) -> None:
        self._cluster = cluster
        self._page = page
        self._owners: dict[tuple[str, str, str, str], Workload] = {}
        self._unread: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        """Return what could not be read, and what that means; a line for each kind."""
        return list(self._unread.values())

    def namespaces(self, labels: str = "") -> Iterator[Namespace]:
        """Yield all namespaces, or those that match a label selector."""
        for raw in self._cluster.items(path("v1", "namespaces"), labels=labels, size=self._page):
            yield _namespaces.decode(raw)

    def namespace(self, name: str) -> Namespace:
        """Return one namespace. Raise `StatusError` 404 if it does not exist."""
        answer = self._cluster.call("GET", path("v1", "namespaces", name=name))
        return _namespaces.decode(answer.body)

    def pods(
        self, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Iterator[LivePod | BadPod]:
        """Yield the pods of one or all namespaces, ordered by namespace and name."""
        where = path("v1", "pods", namespace)
        stored = self._cluster.items(where, labels=labels, fields=fields, size=self._page)
        return map(_pod, stored)

    def workload(self, pod: LivePod) -> Workload:
        """Return the top of a pod's chain of owners.

        If a ReplicaSet has the hash of a Deployment in its name, its owner is that Deployment,
        because the Deployment controller names ReplicaSets so. Other owners are read once. The
        chain ends at an owner that is gone or can't be read.
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
            # Namespaces are read one after the other, so the cached owners are not needed any more.
            if len(self._owners) > _MOST_OWNERS:
                self._owners.clear()
            self._owners[found] = self._read_owner(found, plural)
        return self._owners[found]

    def _read_owner(self, found: Workload, plural: str) -> Workload:
        where = path(found.api_version, plural, found.namespace, found.name)
        try:
            stored = self._cluster.find(where, partial=True)
        except StatusError as error:
            if not error.is_forbidden:
                raise
            note = f"{found.kind}s are listed instead of their owners: {error}"
            self._unread.setdefault(plural, note)
            return found
        meta = objects.convert(stored or {}).metadata
        owner = meta.controller if meta else None
        if owner is None:
            return found
        return self._top(Workload(found.namespace, owner.api_version, owner.kind, owner.name))


def _pod(raw: msgspec.Raw) -> LivePod | BadPod:
    """Return a decoded pod, or a `BadPod`, so that an invalid pod is not overlooked."""
    try:
        return decode(raw)
    except UndecodableError as error:
        meta = _bare.decode(raw).metadata
        return BadPod(meta.namespace, meta.name, str(error))
