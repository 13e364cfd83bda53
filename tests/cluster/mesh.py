"""A cluster on which mendix-mesh is installed: chart, real server, and Linkerd's stand-in."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.cluster.api import Json, Refused, wait_for
from tests.cluster.helm import Release, Values
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.plane import ControlPlane
from tests.standins.linkerd_server import LinkerdInjector

MESH_LABEL = "mendix-mesh.io/mesh"
MODE_LABEL = "mendix-mesh.io/mode"


@dataclass(frozen=True)
class MeshCluster:
    """The parts, each to be used as it is: upgrade the release, pause the servers, …

    A test that changes one of them puts it back, for the cluster is shared.
    """

    plane: ControlPlane
    release: Release
    kubelet: ServerKubelet
    injector: LinkerdInjector

    def enrol(self, mode: str = "", *, mesh: str = "linkerd") -> str:
        """Make a fresh namespace that is enrolled by its labels, and return its name."""
        labels = {MESH_LABEL: mesh} | ({MODE_LABEL: mode} if mode else {})
        return self.plane.new_namespace("mendix", labels=labels)


@contextlib.contextmanager
def installed(plane: ControlPlane, values: Values | None = None) -> Iterator[MeshCluster]:
    """Install everything, yield when both webhooks and the injector take part in a pod's creation.

    At the end the processes are stopped; what is in the API server stays.
    """
    release = Release(plane)
    # The injector first, as a mesh is installed before mendix-mesh.
    with (
        LinkerdInjector(plane.user("linkerd-proxy-injector", ["system:masters"])) as injector,
        ServerKubelet(plane, release.namespace, release.labels) as kubelet,
    ):
        # Not helm but the kubelet waits: it says so when a server cannot start.
        release.install(values, wait=False)
        kubelet.wait_ready()
        cluster = MeshCluster(plane, release, kubelet, injector)
        probe = cluster.enrol("enforce")
        wait_for(
            lambda: _is_meshed(plane, probe) and _is_judged(plane, probe),
            why="the API server to call mendix-mesh",
        )
        yield cluster


def _is_meshed(plane: ControlPlane, namespace: str) -> bool:
    """Say whether a pod that asks for nothing comes back with a proxy."""
    try:
        pod = plane.api.create(_pod(namespace), dry_run=True)
    except Refused:
        return False
    containers = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
    return any(container["name"] == "linkerd-proxy" for container in containers)


def _is_judged(plane: ControlPlane, namespace: str) -> bool:
    """Say whether a pod that no mesh can capture is refused."""
    try:
        plane.api.create(_pod(namespace, hostNetwork=True), dry_run=True)
    except Refused:
        return True
    return False


def _pod(namespace: str, **spec: object) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
    }
