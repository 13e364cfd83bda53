"""Any pod-bearing object seen as its pod."""

import datetime
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from webhook.policy.pod.containers import Flags, flags
from webhook.policy.pod.objects import (
    NULL,
    SOURCES,
    Container,
    Meta,
    Object,
    OwnerReference,
    PodSpec,
    UndecodableError,
    Volume,
)
from webhook.policy.pod.request import Request
from webhook.policy.pod.variables import Variables, variables
from webhook.policy.spots import Spot

#: kind -> field that leads to the pod template; empty for the pod itself.
TEMPLATES: Mapping[str, str] = {
    "Pod": "",
    "Deployment": "spec.template",
    "StatefulSet": "spec.template",
    "DaemonSet": "spec.template",
    "ReplicaSet": "spec.template",
    "Job": "spec.template",
    "CronJob": "spec.jobTemplate.spec.template",
}

_EMPTY: Mapping[str, str] = {}
_NO_SWITCHES: frozenset[str] = frozenset()
#: A pod has four of one mesh at most: in older releases a debug container, too.
_MOST_MESH_CONTAINERS = 8
#: Bytes of a volume's source that is remembered: the meshes' are the same in all pods.
_LONGEST_SOURCE = 1024
#: Labels, or annotations, of a pod; and characters of all annotations, as the API server has it.
_MOST_KEYS, _MOST_ANNOTATED = 1_000, 262_144
#: Stands for metadata that is not there at all.
NO_META = Meta()
_NO_SPEC = PodSpec()


class Source(NamedTuple):
    """Where a volume is from: the field, and its content if it is of `SOURCES`."""

    field: str
    content: Any


def _source(field: str, text: bytes) -> Source:
    try:
        return Source(field, msgspec.json.decode(text, type=SOURCES[field]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Source("unreadable", None)  # a file may hold anything; in a cluster none is


_remembered_source = lru_cache(maxsize=128)(_source)


class Placed:
    """A container and the place that it has in the pod."""

    __slots__ = ("_flags", "_variables", "container", "index", "kind")

    def __init__(self, container: Container, kind: str, index: int) -> None:
        self._variables: Variables | None = None
        self._flags: Flags | None = None
        self.container = container
        #: The list it is in: containers, initContainers or ephemeralContainers.
        self.kind = kind
        self.index = index

    @property
    def name(self) -> str:
        """Return the container's name."""
        return self.container.name

    @property
    def variables(self) -> Variables:
        """Return the variables. Raises `UndecodableError` where they are none."""
        if self._variables is None:
            self._variables = variables(self.container)
        return self._variables

    @property
    def env(self) -> Mapping[str, str]:
        """Return the values of the variables."""
        return self.variables.values

    def flags(
        self, known: frozenset[str], switches: frozenset[str] = _NO_SWITCHES, *, skip: int = 0
    ) -> Flags:
        """Return its arguments, except the first `skip`, as `containers.flags` reads them.

        Nobody changes them; a container knows but one set of flags.
        """
        if self._flags is None:
            self._flags = flags((self.container.args or ())[skip:], known, switches)
        return self._flags

    def field(self, inner: str = "") -> str:
        """Return the container's path, as `spec.containers[shop]`, or that of a field in it."""
        path = f"spec.{self.kind}[{self.name[:63]}]"
        return f"{path}.{inner}" if inner else path


class Claimant(Protocol):
    """What a pod must know of its mesh: which containers are the mesh's, and which the proxy."""

    proxy_name: str

    def claims(self, placed: Placed) -> bool:
        """Return whether a container, by its name and place, says that it is the mesh's own."""

    def fills_in(self, placed: Placed) -> bool:
        """Return whether the injector would make a container its own: an author's wishes for it."""


class Pod:
    """A pod, or the pod of a template, as the checks see it.

    `final` says that the pod is what the API server stores, after every webhook: then it is judged
    by evidence. A template or a manifest is judged by what it will become.
    """

    __slots__ = (
        "_today",
        "_volumes",
        "annotations",
        "by_status",
        "containers",
        "controller",
        "final",
        "has_own_inits",
        "infrastructure",
        "ingress",
        "inputs",
        "labels",
        "mesh_containers",
        "mesh_named",
        "meta",
        "namespace",
        "namespace_annotations",
        "new",
        "old",
        "proof",
        "proxy",
        "spec",
        "template",
        "update",
        "wishes",
        "workload_containers",
    )

    def __init__(  # noqa: PLR0913 - what is known of a pod
        self,
        meta: Meta | None,
        spec: PodSpec | None,
        mesh: Claimant,
        *,
        final: bool = False,
        template: str = "",
        ingress: bool = False,
        new: bool = False,
        namespace: str = "",
        controller: OwnerReference | None = None,
        update: bool = False,
        by_status: bool = False,
        namespace_annotations: Mapping[str, str] | None = None,
    ) -> None:
        self.meta = meta or NO_META
        self.spec = spec or _NO_SPEC
        self.labels: Mapping[str, str] = self.meta.labels or _EMPTY
        self.annotations: Mapping[str, str] = self.meta.annotations or _EMPTY
        if len(self.labels) > _MOST_KEYS or len(self.annotations) > _MOST_KEYS:
            raise UndecodableError(f"more than {_MOST_KEYS} labels or annotations")
        if sum(map(len, self.annotations.values())) > _MOST_ANNOTATED:
            raise UndecodableError("annotations of more than 256 KiB")
        #: Path of the template in its object, as `spec.template`; empty for a pod.
        self.template = template
        self.final = final
        #: It is being created now: nothing but its author and webhooks can have written it.
        self.new = new
        #: It, or what it was before, is part of an update.
        self.update = update
        #: The update goes through pods/status, as those of nodes and their agents do.
        self.by_status = by_status
        #: Those of its namespace, if they are known.
        self.namespace_annotations = namespace_annotations
        #: What its mesh found once, and need not look for again.
        self.inputs: Mapping[str, Sequence[Spot]] | None = None
        self.infrastructure: bool | None = None
        self.proof: Proof | None = None
        self._volumes: dict[str, Volume] | None = None
        #: The request's namespace: the object's own may be empty.
        self.namespace = namespace
        #: An ingress controller's pod: it must take in clients that are not of the mesh.
        self.ingress = ingress
        #: What manages the pod; for a template, the object that has it.
        self.controller = controller
        self._today: datetime.date | None = None
        #: The pod before this update, where there was one.
        self.old: Pod | None = None
        self.containers = [
            Placed(container, kind, index)
            for kind, members in (
                ("initContainers", self.spec.init_containers),
                ("containers", self.spec.containers),
                ("ephemeralContainers", self.spec.ephemeral_containers),
            )
            if members
            for index, container in enumerate(members)
        ]
        #: The containers that the mesh put there, by name and place; checks tell the forged ones.
        self.mesh_containers: list[Placed] = []
        #: The same by their names; the last of a name.
        self.mesh_named: dict[str, Placed] = {}
        #: Those that the injector will make its own: what their author wishes for them.
        self.wishes: list[Placed] = []
        #: The others.
        self.workload_containers: list[Placed] = []
        #: The mesh's proxy, where the pod has one.
        self.proxy: Placed | None = None
        for placed in self.containers:
            if mesh.claims(placed):
                # The API server admits one container of a name; more are not worth a look each.
                if len(self.mesh_containers) == _MOST_MESH_CONTAINERS:
                    raise UndecodableError("more containers with the mesh's names than it has")
                self.mesh_containers.append(placed)
                self.mesh_named[placed.container.name] = placed
                if self.proxy is None and placed.container.name == mesh.proxy_name:
                    self.proxy = placed
            elif not final and mesh.fills_in(placed):
                self.wishes.append(placed)
            else:
                self.workload_containers.append(placed)
        inits = self.spec.init_containers
        #: Whether it has init containers beside those of the mesh.
        self.has_own_inits = bool(inits) and any(
            placed.kind == "initContainers" for placed in self.workload_containers
        )

    @property
    def today(self) -> datetime.date:
        """Return the day by which exemptions and allowances run out."""
        if self._today is None:
            self._today = datetime.date.today()
        return self._today

    @today.setter
    def today(self, day: datetime.date) -> None:
        self._today = day

    @property
    def recorded(self) -> bool:
        """Return whether our mutating webhook's record shows what the author set."""
        return self.final and not self.update

    @property
    def volumes(self) -> Mapping[str, Volume]:
        """Return the volumes by their names."""
        if self._volumes is None:
            self._volumes = {}
            for volume in self.spec.volumes or ():
                name = bytes(volume.get("name", b"")).decode().strip('"')
                # Of two with one name, which the API server does not store, all sources count.
                known = self._volumes.get(name)
                self._volumes[name] = volume if known is None else {**known, **volume}
        return self._volumes

    def source(self, volume: str) -> Source | None:
        """Return a volume's source; None without a volume.

        A volume that names no source is an emptyDir, as the API server has it. Of one that names
        several, or that can't be read, the field is none that Kubernetes has.
        """
        found = self.volumes.get(volume)
        if found is None:
            return None
        held = [(field, raw) for field, raw in found.items() if field != "name" and raw != NULL]
        if len(held) != 1:
            return Source("several" if held else "emptyDir", None)
        field, raw = held[0]
        kind = SOURCES.get(field)
        if kind is None:
            return Source(field, None)
        text = bytes(raw)
        return (_remembered_source if len(text) <= _LONGEST_SOURCE else _source)(field, text)

    @property
    def tasks_end(self) -> bool:
        """Return whether the pod must end, so a classic sidecar would keep it running.

        Jobs demand one of these restart policies, and Mendix's build and storage pods have one.
        """
        return self.spec.restart_policy in ("Never", "OnFailure")


class Users(NamedTuple):
    """Users and groups whose traffic the mesh does not capture."""

    uids: frozenset[int]
    gids: frozenset[int]
    #: Those of the pod's own, each with its key, runAsUser or runAsGroup: no image was made with
    #: them in mind.
    own: tuple[tuple[str, int], ...] = ()


NOBODY = Users(frozenset(), frozenset())


class Proof(NamedTuple):
    """What the mesh's containers show by themselves, whatever pod they are in."""

    #: A pod of these containers alone, with what was read of them.
    pod: Pod
    #: What is wrong with them, by the check that reports it.
    spots: Mapping[str, Sequence[Spot]]
    users: Users


def pod_of(obj: Object, mesh: Claimant, request: Request, *, final: bool = False) -> Pod | None:
    """Return the pod that `obj`, of a request, is or would make; None for a kind that bears none.

    `final` counts for pods alone: a template is never what is stored in the end.
    """
    path = TEMPLATES.get(obj.kind)
    if path is None:
        return None
    meta, spec = obj.metadata, obj.spec
    if path == "":
        controller = meta.controller if meta else None
        return Pod(
            meta,
            spec,
            mesh,
            final=final,
            ingress=request.ingress,
            new=request.operation == "CREATE" and not request.stored,
            namespace=request.namespace,
            controller=controller,
            update=request.operation == "UPDATE",
            by_status=request.subresource == "status",
            namespace_annotations=request.namespace_annotations,
        )
    owner = OwnerReference(obj.api_version, obj.kind, (meta.name if meta else "") or "", True)
    template = None
    if spec is not None:
        nested = spec.job_template
        job = nested.spec if nested is not None else None
        template = job.template if job is not None else spec.template
    return Pod(
        template.metadata if template else None,
        template.spec if template else None,
        mesh,
        template=path,
        ingress=request.ingress,
        namespace=request.namespace,
        controller=owner,
        namespace_annotations=request.namespace_annotations,
    )


def is_owned(obj: Object) -> bool:
    """Return whether a controller manages the object, and would undo a change of its template."""
    return obj.metadata is not None and obj.metadata.controller is not None
