"""Pods that are created through a real API server: what a user notices of a webhook.

The same pod is created again and again in three namespaces. No webhook reviews the first one. The
second is enrolled in ambient mode, so that both webhooks of mendix-mesh review its pods, and no
injector. In the third, istiod's injector does. The pods are not scheduled, and are deleted between
the rounds.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.bench import load, pods
from tests.bench.load import LoadError
from tests.bench.pods import Json
from tests.bench.results import CREATION, Cell
from tests.cluster.api import wait_for
from tests.cluster.helm import Release
from tests.cluster.istiod import Istiod
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL
from tests.cluster.plane import ControlPlane

CONNECTIONS = (1, 8)
NONE, OURS, ISTIOD = "none", "mendix-mesh", "istiod"
#: The rows of the table, and their names.
NAMES = {
    NONE: "no webhook",
    OURS: "mendix-mesh, both webhooks",
    ISTIOD: "istiod's injector",
}
_LABELS = {
    NONE: {},
    OURS: {MESH_LABEL: "ambient", MODE_LABEL: "enforce"},
    ISTIOD: {"istio-injection": "enabled"},
}


class Cluster(NamedTuple):
    """The namespace of each row, how to call the API server, and whose CPU is counted."""

    plane: ControlPlane
    namespaces: Mapping[str, str]
    headers: Mapping[str, str]
    pids: Mapping[str, Sequence[int]]


@contextlib.contextmanager
def running(plane: ControlPlane, istiod: Istiod) -> Iterator[Cluster]:
    """Install the chart with its default replicas, and create the namespaces."""
    release = Release(plane)
    with ServerKubelet(plane, release.namespace, release.labels) as kubelet:
        release.install(wait=False)
        kubelet.wait_ready(2, seconds=60)
        namespaces = {
            row: plane.new_namespace(f"bench-{row}", labels=labels)
            for row, labels in _LABELS.items()
        }
        pids = {
            # etcd and the API server are the first two that the plane starts.
            "API server and etcd": plane.pids[:2],
            OURS: [process.pid for process in kubelet.processes.values()],
            ISTIOD: [istiod.pid],
        }
        cluster = Cluster(plane, namespaces, {"authorization": f"Bearer {_token(plane)}"}, pids)
        for row in NAMES:
            wait_for(lambda row=row: _is_right(cluster, row), seconds=30, why=f"{row} at work")  # type: ignore[misc]
        yield cluster


def measure(cluster: Cluster, row: str, clients: int, seconds: float, home: Path) -> Cell:
    """Return one round of one row."""
    body = home / "pod.json"
    body.write_text(json.dumps(_pod(cluster.namespaces[row])))
    url = f"{cluster.plane.server}/api/v1/namespaces/{cluster.namespaces[row]}/pods"
    target = load.Target(url, body, cluster.pids, cluster.headers, status=201)
    sample, cpu = load.run(target, clients, seconds, home)
    with httpx.Client(verify=False, trust_env=False, timeout=120) as client:
        reply = client.delete(f"{url}?gracePeriodSeconds=0", headers=dict(cluster.headers))
    if not reply.is_success:
        raise LoadError(f"the pods of {NAMES[row]} could not be deleted: {reply.text[:500]}")
    return Cell(row, CREATION, clients, [sample], {name: [us] for name, us in cpu.items()})


def _pod(namespace: str) -> Json:
    """Return a Mendix app's pod that nothing changes: without an owner, and not to be scheduled."""
    pod = pods.app(namespace)
    del pod["metadata"]["ownerReferences"]
    pod["spec"]["schedulerName"] = "nobody"
    return pod


def _is_right(cluster: Cluster, row: str) -> bool:
    """Return whether exactly the webhooks of the row change a pod."""
    stored = cluster.plane.api.create(_pod(cluster.namespaces[row]), dry_run=True)
    containers = stored["spec"].get("initContainers", []) + stored["spec"]["containers"]
    opted_in = stored["metadata"]["labels"].get("istio.io/dataplane-mode") == "ambient"
    injected = any(container["name"] == "istio-proxy" for container in containers)
    return (opted_in, injected) == (row == OURS, row == ISTIOD)


def _token(plane: ControlPlane) -> str:
    """Return a token of an account with all rights, because h2load has no client certificates."""
    name, namespace, group = "bench", "default", "rbac.authorization.k8s.io"
    metadata = {"name": name, "namespace": namespace}
    plane.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    plane.api.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "subjects": [{"kind": "ServiceAccount", **metadata}],
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        }
    )
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = plane.api.create_subresource("ServiceAccount", name, namespace, "token", request)
    return str(made["status"]["token"])
