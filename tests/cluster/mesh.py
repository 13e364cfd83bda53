"""A cluster with mendix-mesh installed: chart, real server, and Linkerd's stand-in."""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.cluster.api import Api, Json, core, wait_for
from tests.cluster.helm import Release, Source, Values
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod
from tests.standins.linkerd_server import LinkerdInjector
from webhook.policy.labels import MESHES
from webhook.policy.validate import MODES

MESH_LABEL = "mendix-mesh.io/mesh"
MODE_LABEL = "mendix-mesh.io/mode"


@dataclass(frozen=True)
class MeshCluster:
    """The parts of the cluster. Use them directly: upgrade the release, pause the servers, …

    The cluster is shared, so a test that changes a part must restore it.
    """

    plane: ControlPlane
    release: Release
    kubelet: ServerKubelet
    injector: LinkerdInjector

    @property
    def api(self) -> Api:
        """Return the tests' own client, as cluster administrator."""
        return self.plane.api

    def enroll(self, mode: str = "", *, mesh: str = "linkerd") -> str:
        """Create a new namespace that is enrolled by its labels, and return its name."""
        labels = {MESH_LABEL: mesh} | ({MODE_LABEL: mode} if mode else {})
        with self.labelling(labels):
            return self.plane.new_namespace("mendix", labels=labels)

    def relabel(self, namespace: str, judge: str, *, mesh: str = "linkerd", mode: str = "") -> None:
        """Enroll an existing namespace or change its mode. Wait until `judge` judges its pods."""
        labels = {MESH_LABEL: mesh, MODE_LABEL: mode or None}
        with self.labelling(labels):
            self.api.patch("Namespace", namespace, None, {"metadata": {"labels": labels}})
        self.await_judge(namespace, judge)

    @contextlib.contextmanager
    def labelling(self, labels: Mapping[str, str | None]) -> Iterator[None]:
        """Allow these labels on a namespace, even an unknown mesh or mode.

        Such labels can be older than mendix-mesh. So it does not review namespaces during the
        block.
        """
        mesh, mode = labels.get(MESH_LABEL), labels.get(MODE_LABEL)
        if mesh in (None, *MESHES) and mode in (None, *MODES):
            yield
            return
        kind = "ValidatingWebhookConfiguration"
        before = self.api.get(kind, "mendix-mesh")
        pods = [one for one in before["webhooks"] if not one["name"].startswith("namespaces.")]
        self.api.replace({**before, "webhooks": pods})
        try:
            wait_for(lambda: not self._reviews_namespaces(), why="namespaces not to be reviewed")
            yield
        finally:
            now = self.api.get(kind, "mendix-mesh")
            self.api.replace({**now, "webhooks": before["webhooks"]})
            wait_for(self._reviews_namespaces, why="namespaces to be reviewed")

    def _reviews_namespaces(self) -> bool:
        name = f"probe-{secrets.token_hex(4)}"
        return bool(self.api.denial(core("Namespace", name, labels={MESH_LABEL: "none"})))

    def recorded(self, obj: Json) -> Json:
        """Return our annotations in the audit log of an object's creation, by their last part."""
        meta = obj["metadata"]
        # The scheduler's binding is a creation too, of a subresource.
        (created,) = [
            event
            for event in self.plane.audit(namespace=meta["namespace"], name=meta["name"])
            if event["verb"] == "create" and "subresource" not in event["objectRef"]
        ]
        found = created.get("annotations", {}).items()
        return {key.rpartition("/")[2]: value for key, value in found if ".mendix-mesh.io/" in key}

    def await_judge(self, namespace: str, judge: str) -> None:
        """Wait until `judge` judges the pods of a namespace; see judge_of."""
        wait_for(lambda: self.judge_of(namespace) == judge, why=f"{judge} to judge {namespace}")

    def judge_of(self, namespace: str) -> str:
        """Return the validating webhook that judges pods of a namespace, like "linkerd.enforce".

        Empty if there is none. The function makes a dry run and reads the API server's audit log.
        """
        name = f"probe-{secrets.token_hex(4)}"
        self.api.denial(pod(namespace, name, hostNetwork=True))
        (event,) = self.plane.audit(namespace=namespace, name=name)
        for key in event.get("annotations", {}):
            if key.endswith(".mendix-mesh.io/verdict"):
                return str(key).removesuffix(".mendix-mesh.io/verdict")
        return ""


@contextlib.contextmanager
def installed(
    plane: ControlPlane, values: Values | None = None, *, source: Source = "secret"
) -> Iterator[MeshCluster]:
    """Install everything. Yield when both webhooks and the injector process new pods.

    At the end the processes are stopped. The objects in the API server stay.
    """
    release = Release(plane, source=source)
    # The injector comes first, because users install a mesh before mendix-mesh.
    with (
        LinkerdInjector(plane.user("linkerd-proxy-injector", ["system:masters"])) as injector,
        ServerKubelet(plane, release.namespace, release.labels) as kubelet,
    ):
        # The kubelet waits instead of helm, because it reports why a server can't start.
        release.install(values, wait=False)
        kubelet.wait_ready()
        cluster = MeshCluster(plane, release, kubelet, injector)
        probe = cluster.enroll("enforce")

        def is_called() -> bool:
            # If pods are judged, only one that got a proxy is admitted.
            outside = pod(probe, hostNetwork=True)
            return bool(plane.api.denial(outside)) and not plane.api.denial(pod(probe))

        wait_for(is_called, why="the API server to call mendix-mesh")
        yield cluster


@contextlib.contextmanager
def configured(cluster: MeshCluster, values: Json, works: Callable[[], bool]) -> Iterator[None]:
    """Upgrade the release, wait until it is in use and `works`, and restore it at the end."""
    cluster.release.upgrade(values)
    try:
        cluster.kubelet.wait_replaced(2)
        wait_for(works, why="the new values to be in use")
        yield
    finally:
        cluster.release.upgrade()
        cluster.kubelet.wait_replaced(2)
        wait_for(lambda: not works(), why="the old values to be in use")
