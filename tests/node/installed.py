"""The chart on two real nodes: the image of the Dockerfile, certificates of cert-manager."""

import contextlib
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.cluster import netns
from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.certmanager import CertManager
from tests.cluster.helm import IMAGE, Release
from tests.cluster.plane import SERVICE_RANGE, ControlPlane, is_ready
from tests.cluster.workloads import pod
from tests.image.buildah import Image, Store
from tests.node import settings
from tests.node.node import Node, pause

NAMESPACE = "mendix-mesh"
AUDITOR = "mendix-mesh-auditor"
"""The name of its Deployment and its Service, and of its pods by their label."""
CERTIFICATE = "mendix-mesh"
SECRET = "mendix-mesh-tls"
_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ENROLLED = {"mendix-mesh.io/mesh": "ambient", "mendix-mesh.io/mode": "enforce"}
# The chart's own times. The tests on simulated nodes use shorter ones.
_VALUES = {"image": {"pullPolicy": "Never"}, "preStopSleepSeconds": 10}


@dataclass(frozen=True)
class NodeCluster:
    """The parts, each to be used as it is."""

    plane: ControlPlane
    nodes: tuple[Node, ...]
    release: Release
    cert_manager: CertManager
    enrolled: str
    """A namespace in ambient mode, in which pods are only tried."""

    @property
    def api(self) -> Api:
        """The tests' own client, as cluster administrator."""
        return self.plane.api

    @property
    def service_ip(self) -> str:
        """The cluster IP of the chart's Service."""
        return str(self.api.get("Service", "mendix-mesh", NAMESPACE)["spec"]["clusterIP"])

    def pods(self) -> list[Json]:
        """Return the server's pods, those that are leaving included."""
        labels = ",".join(f"{key}={value}" for key, value in self.release.labels.items())
        return self.api.list("Pod", NAMESPACE, labels=labels)

    def await_settled(self, seconds: float = 120) -> list[Json]:
        """Wait until there are two pods, both ready and neither leaving, and return them."""

        def settled() -> list[Json]:
            found = self.pods()
            staying = [p for p in found if "deletionTimestamp" not in p["metadata"]]
            return found if len(staying) == len(found) == 2 and all(map(is_ready, found)) else []

        return wait_for(settled, seconds=seconds, why="two pods that are ready and stay")

    def await_auditor(self, seconds: float = 120) -> Json:
        """Wait until the auditor has one pod and it is ready, and return it."""

        def settled() -> Json | None:
            found = self.api.list("Pod", NAMESPACE, labels=f"app.kubernetes.io/name={AUDITOR}")
            staying = [one for one in found if "deletionTimestamp" not in one["metadata"]]
            return found[0] if len(staying) == len(found) == 1 and is_ready(found[0]) else None

        return wait_for(settled, seconds=seconds, why="the auditor's pod to be ready")

    def upgrade(self, values: Mapping[str, object]) -> None:
        """Upgrade the release to these values, in addition to those of its installation."""
        self.release.upgrade({**_VALUES, **values})

    def run_in(self, one: Json, *command: str) -> str:
        """Run a command in a pod of the release, with `kubectl exec`, and return its output."""
        exec_in = ["exec", "--namespace", NAMESPACE, one["metadata"]["name"], "--"]
        return self.plane.kubectl(*exec_in, *command).stdout

    def log_of(self, one: Json) -> "OpenLog":
        """Open the log of a pod's first container, which stays readable when the pod is gone."""
        meta, container = one["metadata"], one["status"]["containerStatuses"][0]
        (node,) = (node for node in self.nodes if node.name == one["spec"]["nodeName"])
        folder = f"{meta['namespace']}_{meta['name']}_{meta['uid']}/{container['name']}"
        logs = node.machine.workdir / settings.POD_LOGS
        return OpenLog((logs / folder / f"{container['restartCount']}.log").open())

    def reviews(self) -> tuple[int, int]:
        """Return the API server's own counts of answered and failed reviews."""
        text = self.api.text("/metrics")
        calls = re.findall(
            r'^apiserver_admission_webhook_request_total\{code="(\d+)".* (\d+)$', text, re.MULTILINE
        )
        open_ = re.findall(
            r"^apiserver_admission_webhook_fail_open_count\{.* (\d+)$", text, re.MULTILINE
        )
        answered = sum(int(count) for code, count in calls if code == "200")
        return answered, sum(int(count) for code, count in calls if code != "200") + sum(
            map(int, open_)
        )


class OpenLog:
    """The log of a container, by an open file: the kubelet removes that of a deleted pod soon.

    `kubectl logs` would ask the kubelet, which asks containerd for a container that may be gone.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def read(self) -> str:
        """Return what the container has written so far, without the runtime's part of the lines."""
        self._file.seek(0)
        # TIME STREAM F|P TEXT: F is a line's last part.
        parts = [line.rstrip("\n").split(" ", 3)[2:] for line in self._file]
        return "".join(f"{text}\n" if tag == "F" else text for tag, text in parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextlib.contextmanager
def installed(
    workdir: Path, binaries: Mapping[str, Path], store: Store, image: Image
) -> Iterator[NodeCluster]:
    """Start everything, and yield when pods of an enrolled namespace are reviewed."""
    archives = [pause(workdir, store), own_image(workdir, store, image)]
    with (
        real_nodes(workdir, binaries, archives) as (plane, nodes),
        CertManager(plane) as cert_manager,
    ):
        plane.api.create(core("Namespace", NAMESPACE, labels=_RESTRICTED))
        release = Release(plane, source="certManager")
        # Created first, so that it is in the auditor's first scan, after which the doctor runs.
        enrolled = plane.new_namespace("mendix", labels=ENROLLED)
        release.install(_VALUES, wait=False)
        cluster = NodeCluster(plane, nodes, release, cert_manager, enrolled)
        cluster.await_settled()
        wait_for(lambda: is_reviewed(plane.api, enrolled), why="the API server to call the webhook")
        yield cluster


def own_image(folder: Path, store: Store, image: Image) -> Path:
    """Write the archive of mendix-mesh's image, with the name in the release."""
    archive = folder / "mendix-mesh.tar"
    store.save(image.id, archive, f"{IMAGE}:{_app_version()}")
    return archive


@contextlib.contextmanager
def real_nodes(
    workdir: Path, binaries: Mapping[str, Path], archives: Sequence[Path], *, dns: str = ""
) -> Iterator[tuple[ControlPlane, tuple[Node, ...]]]:
    """Start a control plane and two nodes with these images. Yield them when both are ready."""
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(
            ControlPlane(workdir / "plane", binaries, nodes=(), address=netns.HOST_IP)
        )
        nodes = tuple(Node(number, plane, dns) for number in range(2))
        for node in nodes:
            stack.callback(node.stop)
            node.start_containerd()
            node.load(archives)
            node.start_kubelet(binaries)
        route = ["ip", "route", "replace", SERVICE_RANGE, "via", nodes[0].machine.address]
        subprocess.run(route, check=True)
        for node in nodes:
            node.await_ready()
        yield plane, nodes
        for node in nodes:
            node.check()


def served_certificate(one: Json) -> str:
    """Return the certificate that a pod of the release shows on a new connection, as PEM."""
    return ssl.get_server_certificate((one["status"]["podIP"], 10250))


def joins(stored: Json) -> bool:
    """Return whether a stored pod is in the ambient mesh."""
    labels = stored["metadata"].get("labels", {})
    return bool(labels.get("istio.io/dataplane-mode") == "ambient")


def is_reviewed(api: Api, namespace: str) -> bool:
    """Return whether the webhook is called for the pods of a namespace in ambient mode."""
    try:
        return joins(api.create(pod(namespace), dry_run=True))
    except StatusError:
        return False


def _app_version() -> str:
    chart = Path(__file__).parents[2] / "charts/mendix-mesh/Chart.yaml"
    found = re.search(r'^appVersion: "?([^"\s]+)', chart.read_text(), re.MULTILINE)
    assert found
    return found[1]
