"""Reads the pod from any object that is a pod or has a pod template."""

import datetime
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from webhook.policy.occurrences import Occurrence
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

#: The field that leads to the pod template, by kind; empty for the pod itself.
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
#: A pod has at most four containers of one mesh: older releases have a debug container too.
_MOST_MESH_CONTAINERS = 8
#: The maximum size in bytes of a volume's source that is cached. The sources of the meshes are the
#: same in all pods.
_LONGEST_SOURCE = 1024
#: The maximum number of a pod's labels or annotations, and the maximum total length of annotations
#: in characters, as in the API server.
_MOST_KEYS, _MOST_ANNOTATED = 1_000, 262_144
#: Replaces missing metadata.
NO_META = Meta()
_NO_SPEC = PodSpec()


class Source(NamedTuple):
    """The source of a volume: its field name, and its content if the field is in `SOURCES`."""

    field: str
    content: Any


def _source(field: str, text: bytes) -> Source:
    try:
        return Source(field, msgspec.json.decode(text, type=SOURCES[field]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # a manifest file may contain anything; the API server stores only valid sources
        return Source("unreadable", None)


_remembered_source = lru_cache(maxsize=128)(_source)


class Placed:
    """A container and its place in the pod."""

    __slots__ = ("_flags", "_variables", "container", "index", "kind")

    def __init__(self, container: Container, kind: str, index: int) -> None:
        self._variables: Variables | None = None
        self._flags: Flags | None = None
        self.container = container
        #: The list that contains it: containers, initContainers or ephemeralContainers.
        self.kind = kind
        self.index = index

    @property
    def name(self) -> str:
        """Return the container's name."""
        return self.container.name

    @property
    def variables(self) -> Variables:
        """Return the variables. Raise `UndecodableError` if they can't be read."""
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

        The result is cached, because arguments do not change and each container has only one set of
        known flags.
        """
        if self._flags is None:
            self._flags = flags((self.container.args or ())[skip:], known, switches)
        return self._flags

    def field(self, inner: str = "") -> str:
        """Return the container's path, like `spec.containers[shop]`, or that of a field in it."""
        path = f"spec.{self.kind}[{self.name[:63]}]"
        return f"{path}.{inner}" if inner else path


class Claimant(Protocol):
    """What a pod must know about its mesh: its containers and its proxy."""

    proxy_name: str

    def claims(self, placed: Placed) -> bool:
        """Return whether a container claims, by its name and list, to be the mesh's own."""

    def fills_in(self, placed: Placed) -> bool:
        """Return whether the injector would complete a container, which only customizes its own."""


class Pod:
    """A pod, or the pod of a template, as the checks see it.

    `final` means that the API server stores the pod like this, after all webhooks. Such a pod is
    judged by evidence. A template or a manifest is judged by the pod that it will become.
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
        "to_be_filled",
        "update",
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
        #: The path of the template in its object, like `spec.template`; empty for a pod.
        self.template = template
        self.final = final
        #: Whether the pod is being created. Then only its author and webhooks can have written it.
        self.new = new
        #: Whether the pod is the new or the old version in an update.
        self.update = update
        #: Whether the update is of pods/status. Nodes and their agents use this subresource.
        self.by_status = by_status
        #: The annotations of its namespace, if known.
        self.namespace_annotations = namespace_annotations
        #: Results that the mesh computes once.
        self.inputs: Mapping[str, Sequence[Occurrence]] | None = None
        self.infrastructure: bool | None = None
        self.proof: Proof | None = None
        self._volumes: dict[str, Volume] | None = None
        #: The namespace of the request. The object's own may be empty.
        self.namespace = namespace
        #: Whether the pod belongs to an ingress controller. It must accept clients outside the
        #: mesh.
        self.ingress = ingress
        #: The controller of the pod; for a template, the object that contains it.
        self.controller = controller
        self._today: datetime.date | None = None
        #: The pod before this update; None if it is no update.
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
        #: The mesh's containers by name and place. The checks detect forged ones.
        self.mesh_containers: list[Placed] = []
        #: The same containers by name. If a name is repeated, the last one counts.
        self.mesh_named: dict[str, Placed] = {}
        #: Containers that the injector will complete. They contain the author's customizations.
        self.to_be_filled: list[Placed] = []
        #: All other containers.
        self.workload_containers: list[Placed] = []
        #: The mesh's proxy, if the pod has one.
        self.proxy: Placed | None = None
        for placed in self.containers:
            if mesh.claims(placed):
                # The API server admits only one container per name, so more of them need not be
                # judged.
                if len(self.mesh_containers) == _MOST_MESH_CONTAINERS:
                    raise UndecodableError("more containers with the mesh's names than it has")
                self.mesh_containers.append(placed)
                self.mesh_named[placed.container.name] = placed
                if self.proxy is None and placed.container.name == mesh.proxy_name:
                    self.proxy = placed
            elif not final and mesh.fills_in(placed):
                self.to_be_filled.append(placed)
            else:
                self.workload_containers.append(placed)
        inits = self.spec.init_containers
        #: Whether the pod has init containers besides those of the mesh.
        self.has_own_inits = bool(inits) and any(
            placed.kind == "initContainers" for placed in self.workload_containers
        )

    @property
    def today(self) -> datetime.date:
        """Return the date that decides whether exemptions and allowances have expired."""
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
        """Return the volumes by name. Raise `UndecodableError` if a name is not UTF-8."""
        if self._volumes is None:
            self._volumes = {}
            for volume in self.spec.volumes or ():
                try:
                    name = bytes(volume.get("name", b"")).decode().strip('"')
                except UnicodeDecodeError:
                    raise UndecodableError("the name of a volume is not UTF-8") from None
                # The API server stores no two volumes with one name. If there are two, all their
                # sources count.
                known = self._volumes.get(name)
                self._volumes[name] = volume if known is None else {**known, **volume}
        return self._volumes

    def source(self, volume: str) -> Source | None:
        """Return a volume's source; None if there is no such volume.

        A volume without a source is an emptyDir, as in the API server. If a volume has several
        sources, or can't be read, the returned field is one that Kubernetes does not have.
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

        Jobs require one of these restart policies. Mendix's build and storage pods also have one.
        """
        return self.spec.restart_policy in ("Never", "OnFailure")


class Users(NamedTuple):
    """Users and groups whose traffic the mesh does not capture."""

    uids: frozenset[int]
    gids: frozenset[int]
    #: The numbers that only this pod has, each with its key runAsUser or runAsGroup. No image was
    #: built to use them.
    own: tuple[tuple[str, int], ...] = ()


NOBODY = Users(frozenset(), frozenset())


class Proof(NamedTuple):
    """What the mesh's containers prove by themselves, in any pod."""

    #: A pod with only these containers, and what was read from them.
    pod: Pod
    #: What is wrong with them, by the check that reports it.
    occurrences: Mapping[str, Sequence[Occurrence]]
    users: Users


def pod_of(obj: Object, mesh: Claimant, request: Request, *, final: bool = False) -> Pod | None:
    """Return the pod that `obj` is or would create; None for a kind without pods.

    `final` has an effect only for pods, because a template is not stored as a pod.
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
    """Return whether a controller manages the object, and would revert changes of its template."""
    return obj.metadata is not None and obj.metadata.controller is not None


#: The kinds that Kubernetes' own controllers create, from their owner's template, and the groups of
#: these owners.
COPIES, COPIED_FROM = ("ReplicaSet", "Job"), ("apps", "batch")


def is_copy(obj: Object) -> bool:
    """Return whether the object's template is a copy of that of its owner, which is judged."""
    controller = obj.metadata.controller if obj.metadata and obj.kind in COPIES else None
    return controller is not None and controller.group in COPIED_FROM
