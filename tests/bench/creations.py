"""Pods created through a real API server: what a user feels of a webhook.

The same pod is created over and over in four namespaces: one that no webhook looks at; one that is
enrolled in ambient mode, so that both of our webhooks and no injector see its pods; one with two
webhooks that only say yes, which is what the API server itself spends on being asked to call two;
and one of istiod's. Nobody schedules the pods; they are deleted between the rounds.
"""

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.bench import load, pods, servers
from tests.bench.load import LoadError
from tests.bench.pods import Json
from tests.bench.results import Creations
from tests.cluster.api import StatusError, wait_for
from tests.cluster.helm import Release
from tests.cluster.istiod import Istiod
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL
from tests.cluster.plane import ControlPlane

CONNECTIONS = (1, 8)
NONE, YES, OURS, ISTIOD = "none", "yes", "mendix-mesh", "istiod"
NAMES = {
    NONE: "no webhook",
    YES: "two webhooks that only say yes",
    OURS: "mendix-mesh, both webhooks",
    ISTIOD: "istiod's injector",
}
"""The rows of the table, and what they are called."""


class Cluster(NamedTuple):
    """What takes part: namespaces by row, how to call the API server, whose CPU is told."""

    plane: ControlPlane
    namespaces: Mapping[str, str]
    headers: Mapping[str, str]
    pids: Mapping[str, Sequence[int]]


@contextlib.contextmanager
def running(plane: ControlPlane, istiod: Istiod, home: Path) -> Iterator[Cluster]:
    """Install our chart, with the replicas that it ships with, and make the namespaces."""
    release = Release(plane)
    with (
        ServerKubelet(plane, release.namespace, release.labels) as kubelet,
        servers.yes(home) as yes,
    ):
        release.install(wait=False)
        kubelet.wait_ready(2, seconds=60)
        for obj in _yes_configurations(plane, yes.url, home):
            plane.api.create(obj)
        namespaces = {
            NONE: plane.new_namespace("bench-none"),
            YES: plane.new_namespace("bench-yes", labels=_SAYS_YES),
            OURS: plane.new_namespace(
                "bench-ambient", labels={MESH_LABEL: "ambient", MODE_LABEL: "enforce"}
            ),
            ISTIOD: plane.new_namespace("bench-istio", labels={"istio-injection": "enabled"}),
        }
        pids = {
            # etcd and the API server are the first two that the plane starts.
            "API server and etcd": plane.pids[:2],
            YES: [yes.pid],
            OURS: [process.pid for process in kubelet.processes.values()],
            ISTIOD: [istiod.pid],
        }
        headers = {"authorization": f"Bearer {_token(plane)}"}
        cluster = Cluster(plane, namespaces, headers, pids)
        for row in NAMES:
            wait_for(lambda row=row: _is_right(cluster, row), seconds=30, why=f"{row} at work")  # type: ignore[misc]
        yield cluster


def measure(cluster: Cluster, row: str, clients: int, seconds: float, home: Path) -> Creations:
    """One round of one row."""
    body = home / "pod.json"
    body.write_text(json.dumps(_pod(cluster.namespaces[row])))
    target = load.Target(_url(cluster, row), body, cluster.pids, cluster.headers, status=201)
    window = load.run(target, clients, seconds, home)
    _delete_all(cluster, row)
    count = len(window.latencies)
    cpu = {name: [round(total / count, 1)] for name, total in window.cpu_us.items()}
    return Creations(row, clients, [window.sample("API server and etcd")], cpu)


def _url(cluster: Cluster, row: str) -> str:
    return f"{cluster.plane.server}/api/v1/namespaces/{cluster.namespaces[row]}/pods"


def _pod(namespace: str) -> Json:
    """A Mendix app's pod that stays as it is: no owner that could be missed, nobody's to place."""
    pod = pods.app(namespace)
    del pod["metadata"]["ownerReferences"]
    pod["spec"]["schedulerName"] = "nobody"
    return pod


def _is_right(cluster: Cluster, row: str) -> bool:
    """Say whether a pod has met just those webhooks that the row is about."""
    stored = cluster.plane.api.create(_pod(cluster.namespaces[row]), dry_run=True)
    labels = stored["metadata"]["labels"]
    containers = stored["spec"].get("initContainers", []) + stored["spec"]["containers"]
    met = {
        OURS: labels.get("istio.io/dataplane-mode") == "ambient",
        ISTIOD: any(container["name"] == "istio-proxy" for container in containers),
    }
    expected = {OURS: row in (OURS, YES), ISTIOD: row == ISTIOD}
    return met == expected and (row != OURS or _is_validated(cluster))


def _is_validated(cluster: Cluster) -> bool:
    pod = _pod(cluster.namespaces[OURS])
    pod["metadata"]["labels"]["istio.io/dataplane-mode"] = "none"
    try:
        cluster.plane.api.create(pod, dry_run=True)
    except StatusError as refused:
        return "opted-out" in refused.message
    return False


_SAYS_YES = {"bench": "yes"}


def _yes_configurations(plane: ControlPlane, url: str, home: Path) -> Iterator[Json]:
    """Ours for ambient mode over again, with all that they ask for, but for where they lead."""
    ca = base64.b64encode((home / "ca.crt").read_bytes()).decode()
    for kind, name, webhook, path in (
        ("MutatingWebhookConfiguration", "00-mendix-mesh", "ambient.mutate-pods.enforce", "mutate"),
        ("ValidatingWebhookConfiguration", "mendix-mesh", "ambient.enforce", "validate"),
    ):
        ours = plane.api.get(kind, name)
        entry = next(w for w in ours["webhooks"] if w["name"] == f"{webhook}.mendix-mesh.io")
        entry["namespaceSelector"] = {"matchLabels": _SAYS_YES}
        entry["clientConfig"] = {"url": f"{url}/{path}", "caBundle": ca}
        metadata = {"name": f"00-yes-{path}"}
        yield {
            "apiVersion": ours["apiVersion"],
            "kind": kind,
            "metadata": metadata,
            "webhooks": [entry],
        }


def _token(plane: ControlPlane) -> str:
    """A token of an account that may do everything: h2load has no client certificates."""
    name, namespace = "bench", "default"
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    plane.api.create(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        }
    )
    plane.api.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "subjects": [account],
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
        }
    )
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = plane.api.create_subresource("ServiceAccount", name, namespace, "token", request)
    return str(made["status"]["token"])


def _delete_all(cluster: Cluster, row: str) -> None:
    with httpx.Client(verify=False, trust_env=False, timeout=120) as client:
        url = f"{_url(cluster, row)}?gracePeriodSeconds=0"
        said = client.delete(url, headers=dict(cluster.headers))
    if not said.is_success:
        raise LoadError(f"the pods of {NAMES[row]} could not be deleted: {said.text[:500]}")
