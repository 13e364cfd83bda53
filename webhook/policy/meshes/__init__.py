"""The meshes, one file each: how a pod opts in, what it promises, and what proves it joined.

A mesh tells facts about a pod as spots: a field, the offending values and, where the check's own
words are too general, a reason and a fix. The checks turn spots into violations.
"""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import Literal, NamedTuple

from webhook.policy.settings import NOTHING, Allowed, Settings
from webhook.policy.workload import Placed, Pod

Level = Literal["deny", "advise"]

#: What our mutating webhook writes on a pod that has containers of its mesh before any injector
#: saw it: their names, sorted, with commas between them.
BROUGHT = "mendix-mesh.io/brought-proxy"


class Spot(NamedTuple):
    """A place in a pod where a mesh found something."""

    field: str
    values: tuple[str, ...] = ()
    reason: str = ""
    fix: str = ""
    #: Another level than the check's own, where the settings demand it.
    level: Level | None = None


class Want(NamedTuple):
    """A label or annotation that a pod must have to be in the mesh."""

    place: Literal["labels", "annotations"]
    key: str
    value: str


def label(key: str) -> str:
    """The field of a label in a pod."""
    return f"metadata.labels[{key}]"


def annotation(key: str) -> str:
    """The field of an annotation in a pod."""
    return f"metadata.annotations[{key}]"


_NOTHING: tuple[Spot, ...] = ()


class Mesh:
    """What policy asks of a mesh; by default it finds nothing.

    Every method is pure, and takes a stored pod as well as a template's. A module in this package
    is a mesh: it has `MESH`, a subclass that is made with the settings.
    """

    name: str
    #: Name of the container that is the proxy; empty for a mesh without sidecars.
    proxy_name: str = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def claims(self, placed: Placed) -> bool:
        """Whether a container, by its name and place, says that it is the mesh's own."""
        return False

    def fills_in(self, placed: Placed) -> bool:
        """Whether the injector would make a container its own: an author's wishes for it."""
        return False

    def allowed(self, pod: Pod) -> Allowed:
        """What an admin lets this pod lead past the mesh; nothing in the common case."""
        if not self.settings.allow:
            return NOTHING
        return self.settings.allowed(pod.namespace, pod.labels, pod.today)

    def opt_in(self, pod: Pod, *, task: bool) -> Iterable[Want]:
        """What the pod lacks to join: nothing where it has it, or its author opted out.

        A task pod must be able to end beside its proxy.
        """
        return ()

    def is_infrastructure(self, pod: Pod) -> bool:
        """Whether the pod is the mesh's own gateway: a proxy with no application beside it."""
        return False

    def proxy_of(self, pod: Pod) -> str:
        """Name of the container that is, or should be, the pod's proxy; empty without one."""
        return self.proxy_name

    def brought(self, pod: Pod) -> list[Placed]:
        """The mesh's containers in a pod that no injector has seen: its author put them there.

        Not those that the injector will fill in, nor the mesh's own gateways.
        """
        if not pod.mesh_containers or self.is_infrastructure(pod):
            return []
        return [placed for placed in pod.mesh_containers if not self.fills_in(placed)]

    def opt_outs(self, pod: Pod) -> Iterable[Spot]:
        """Where the author asks to stay outside."""
        return _NOTHING

    def injector_bypasses(self, pod: Pod) -> Iterable[Spot]:
        """Where the pod keeps the injector from ever seeing it."""
        return _NOTHING

    def missing(self, pod: Pod) -> Iterable[Spot]:
        """Where a stored pod shows that it did not join at all."""
        return _NOTHING

    def forgeries(self, pod: Pod) -> Iterable[Spot]:
        """Where what claims to be the proxy, or its set-up, can't be."""
        return _NOTHING

    def untrusted_images(self, pod: Pod) -> Iterable[Spot]:
        """Images of the mesh's containers that come from elsewhere."""
        return _NOTHING

    def capture_bypasses(self, pod: Pod) -> Iterable[Spot]:
        """Where traffic is led past the proxy."""
        return _NOTHING

    def identity_clashes(self, pod: Pod) -> Iterable[Spot]:
        """Where a container runs as the proxy's user or group, which is not captured."""
        return _NOTHING

    def mtls_disabled(self, pod: Pod) -> Iterable[Spot]:
        """Where the proxy is told to speak plaintext."""
        return _NOTHING

    def overridden_env(self, pod: Pod) -> Iterable[Spot]:
        """Where the proxy's own environment is overridden."""
        return _NOTHING

    def elsewhere(self, pod: Pod) -> Iterable[Spot]:
        """Where the pod obeys another control plane than the cluster's."""
        return _NOTHING

    def exposed_identity(self, pod: Pod) -> Iterable[Spot]:
        """Where a workload container can read the proxy's key or token."""
        return _NOTHING

    def forged_status(self, pod: Pod) -> Iterable[Spot]:
        """Marks that only the mesh itself may set."""
        return _NOTHING

    def forsaken(self, pod: Pod) -> Iterable[Spot]:
        """What an update takes from a running pod that the control plane reads live."""
        return _NOTHING

    def late_proxy(self, pod: Pod) -> Iterable[Spot]:
        """Init containers that run before the proxy."""
        return _NOTHING

    def plaintext_inbound(self, pod: Pod) -> Iterable[Spot]:
        """Where the pod takes in clients that are not of the mesh."""
        return _NOTHING

    def ignored_labels(self, pod: Pod) -> Iterable[Spot]:
        """Labels that their author took for the mesh's annotations."""
        return _NOTHING


def load(settings: Settings) -> dict[str, Mesh]:
    """Every mesh by its name, bound to the settings."""
    modules = (
        import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    meshes: list[Mesh] = [module.MESH(settings) for module in modules]
    return {mesh.name: mesh for mesh in meshes}
