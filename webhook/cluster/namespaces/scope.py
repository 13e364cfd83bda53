"""Selects the namespaces of a command: named ones, enrolled ones, Mendix's, or all."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import StatusError
from webhook.cluster.kinds.inventory import Inventory, Namespace
from webhook.cluster.namespaces.automatic import enrolling
from webhook.cluster.namespaces.discovery import guess_mesh, mendix_namespaces
from webhook.cluster.namespaces.enrollment import Enrolled, Enrollment
from webhook.policy.labels import MESH_LABEL, MESHES
from webhook.policy.settings.mistakes import nearest


class Target(msgspec.Struct, kw_only=True):
    """A namespace to audit."""

    name: str
    #: Mesh and mode by which its pods are judged, also if it is not enrolled.
    judged: Enrolled
    enrolled: bool
    #: Whether its pods are expected in a mesh. False for what only -A selects: namespaces that are
    #: neither enrolled nor Mendix's. They are listed, but their pods are not judged.
    expected: bool = True
    #: Why it can't be audited; else empty.
    error: str = ""
    #: How to enroll it; empty if it is enrolled, or the webhook excludes it.
    enroll: str = ""
    #: Its annotations. Injectors copy some of them to new pods.
    annotations: Mapping[str, str] = {}


def target(namespace: Namespace, enrollment: Enrollment, mesh: str) -> Target:
    """Return a namespace as a target: as enrolled, else judged by `mesh` and mode enforce."""
    enrolled = enrollment.of(namespace)
    excluded = enrollment.excludes(namespace)
    judged = enrolled or Enrolled(mesh, "enforce", ingress=False, since=None)
    return Target(
        name=namespace.name,
        judged=judged,
        enrolled=enrolled is not None,
        annotations=namespace.annotations,
        enroll="" if enrolled or excluded else _enroll(namespace),
    )


def _enroll(namespace: Namespace) -> str:
    """Return how to enroll a namespace, with a command if its marks name a mesh."""
    if mesh := guess_mesh(namespace):
        return f"enroll the namespace: {enrolling(namespace, mesh)}"
    return f"enroll the namespace: set its label {MESH_LABEL} to one of: {', '.join(MESHES)}"


class ScopeError(Exception):
    """No namespace is selected; the text says why, and how to fix it."""


class Scope:
    """Finds namespaces, and how each one is judged. All methods may raise `ClusterError`."""

    def __init__(
        self,
        cluster: Cluster,
        inventory: Inventory,
        enrollment: Enrollment,
        mesh: str | None = None,
    ) -> None:
        """`mesh` judges namespaces that are not enrolled; None: the mesh of their annotations."""
        self._cluster = cluster
        self._inventory = inventory
        self._enrollment = enrollment
        self._mesh = mesh
        #: Number of namespaces in the cluster; 0 if they were not counted.
        self.total = 0
        #: What could not be read, and what that means.
        self.notes: list[str] = []
        #: Mendix's namespaces if all namespaces are selected; else None.
        self._mendix: Collection[str] | None = None

    def targets(
        self, named: Sequence[str] = (), *, everything: bool = False, mendix: bool = False
    ) -> list[Target]:
        """Return the namespaces to audit. Raises `ScopeError` if there are none."""
        if mendix:
            named = list(mendix_namespaces(self._cluster))
            if not named:
                raise ScopeError(
                    "nothing to audit: no namespace has a Mendix custom resource; select "
                    "namespaces with -n or -A"
                )
        if named:
            return [self._there(name) for name in named]
        self._mendix = self._mendix_namespaces() if everything else None
        found = []
        self.total = 0
        for namespace in self._inventory.namespaces():
            self.total += 1
            one = self._target(namespace)
            if everything or one.enrolled:
                found.append(one)
        if not found:
            raise ScopeError(
                "nothing to audit: no namespace is enrolled; enroll one with mendix-mesh discover "
                "--enroll, or select namespaces with -n, -A or --mendix"
            )
        return found

    def target(self, name: str) -> Target | None:
        """Return a namespace as a target, with an error if it can't be read; None if not found."""
        try:
            return self._target(self._inventory.namespace(name))
        except StatusError as error:
            if error.code == 404:
                return None
            if not error.is_forbidden:
                raise
            judged = Enrolled(self._mesh or MESHES[0], "enforce", ingress=False, since=None)
            return Target(name=name, judged=judged, enrolled=False, error=str(error))

    def _mendix_namespaces(self) -> Collection[str]:
        try:
            return mendix_namespaces(self._cluster).keys()
        except StatusError as error:
            if not error.is_forbidden:
                raise
            self.notes.append(f"only enrolled namespaces are judged: {error}")
            return ()

    def _there(self, name: str) -> Target:
        found = self.target(name)
        if found is None:
            raise _missing(self._inventory, name)
        return found

    def _target(self, namespace: Namespace) -> Target:
        mesh = self._mesh or guess_mesh(namespace) or MESHES[0]
        found = target(namespace, self._enrollment, mesh)
        if self._mendix is not None:
            found.expected = found.enrolled or found.name in self._mendix
        return found


def existing(inventory: Inventory, name: str) -> Namespace:
    """Return the namespace of that name. Raises `ScopeError` if it does not exist."""
    try:
        return inventory.namespace(name)
    except StatusError as error:
        if error.code == 404:
            raise _missing(inventory, name) from None
        raise


def check_exist(inventory: Inventory, names: Sequence[str]) -> None:
    """Raise `ScopeError` if a namespace does not exist. Reading it may be forbidden."""
    for name in names:
        try:
            existing(inventory, name)
        except StatusError as error:
            if not error.is_forbidden:
                raise


def _missing(inventory: Inventory, name: str) -> ScopeError:
    """Return the error for a namespace that does not exist, with the nearest name."""
    try:
        near = nearest(name, [one.name for one in inventory.namespaces()])
    except StatusError:
        near = ""
    hint = f"did you mean {near}? " if near else ""
    return ScopeError(
        f"namespace {name} does not exist; {hint}kubectl get namespaces lists all namespaces"
    )
