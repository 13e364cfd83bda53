"""Which namespaces are looked at: those that are named, enrolled, Mendix's, or all."""

from collections.abc import Mapping, Sequence

import msgspec

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.kinds.inventory import Inventory, Namespace
from webhook.cluster.namespaces.discovery import guess_mesh, mendix_namespaces
from webhook.cluster.namespaces.enrollment import Enrolled, Enrollment
from webhook.policy.labels import MESHES


class Target(msgspec.Struct, kw_only=True):
    """A namespace that is to be audited."""

    name: str
    #: How its pods are judged; for one that is not enrolled, how they would be.
    judged: Enrolled
    enrolled: bool
    #: Why it can't be audited; empty where it can.
    error: str = ""
    #: Its annotations, of which the injectors copy some to new pods.
    annotations: Mapping[str, str] = {}


def target(namespace: Namespace, enrollment: Enrollment, mesh: str) -> Target:
    """How a namespace is to be judged: as it is enrolled, else by `mesh`, as if enforced."""
    enrolled = enrollment.of(namespace)
    judged = enrolled or Enrolled(mesh, "enforce", ingress=False, since=None)
    return Target(
        name=namespace.name,
        judged=judged,
        enrolled=enrolled is not None,
        annotations=namespace.annotations,
    )


class ScopeError(Exception):
    """There is nothing to look at; the text says why, and what to do."""


class Scope:
    """Finds namespaces, and how each one is to be judged. All may raise `ClusterError`."""

    def __init__(
        self,
        cluster: Cluster,
        inventory: Inventory,
        enrollment: Enrollment,
        mesh: str | None = None,
    ) -> None:
        """`mesh` is what those are judged by that are not enrolled; None: by their own marks."""
        self._cluster = cluster
        self._inventory = inventory
        self._enrollment = enrollment
        self._mesh = mesh
        #: Namespaces in the cluster; 0 where they were not counted.
        self.total = 0

    def targets(
        self, named: Sequence[str] = (), *, everything: bool = False, mendix: bool = False
    ) -> list[Target]:
        """What is to be audited. Raises `ScopeError` where that is nothing."""
        if mendix:
            named = list(mendix_namespaces(self._cluster))
            if not named:
                raise ScopeError("no namespace has a Mendix custom resource: nothing to audit")
        if named:
            return [self._there(name) for name in named]
        found = []
        self.total = 0
        for namespace in self._inventory.namespaces():
            self.total += 1
            one = self._target(namespace)
            if everything or one.enrolled:
                found.append(one)
        if not found:
            raise ScopeError(
                "no namespace is enrolled: nothing to audit; see mendix-mesh discover --enroll, or "
                "name some with -n, -A or --mendix"
            )
        return found

    def target(self, name: str) -> Target | None:
        """How one namespace is to be audited, or why it can't be; None where there is none."""
        try:
            return self._target(self._inventory.namespace(name))
        except RefusedError as error:
            if error.code == 404:
                return None
            if not error.is_forbidden:
                raise
            judged = Enrolled(self._mesh or MESHES[0], "enforce", ingress=False, since=None)
            return Target(name=name, judged=judged, enrolled=False, error=str(error))

    def _there(self, name: str) -> Target:
        found = self.target(name)
        if found is None:
            raise _missing(name)
        return found

    def _target(self, namespace: Namespace) -> Target:
        mesh = self._mesh or guess_mesh(namespace) or MESHES[0]
        return target(namespace, self._enrollment, mesh)


def existing(inventory: Inventory, name: str) -> Namespace:
    """The namespace of that name. Raises `ScopeError` where there is none."""
    try:
        return inventory.namespace(name)
    except RefusedError as error:
        if error.code == 404:
            raise _missing(name) from None
        raise


def _missing(name: str) -> ScopeError:
    return ScopeError(f"there is no namespace {name}")
