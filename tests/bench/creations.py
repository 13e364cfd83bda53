"""Pods that are created through a real API server: what a user notices of mendix-mesh.

The same pod is created again and again in several namespaces. Nothing reviews the first one. The
others are enrolled in ambient mode, so that no injector is in the way: in one, the API server's own
policies decide (`engine: policy`), in one of which 30 % of the pods also go to the webhook,
in one, both webhooks review each pod (`engine: webhook`). In the last, istiod's injector does. The
pods are not scheduled, and are deleted between the rounds.
"""

import base64
import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.bench import load, pods
from tests.bench.load import LoadError
from tests.bench.pods import Json
from tests.bench.results import CREATION, Cell
from tests.chart import helm
from tests.cluster.api import wait_for
from tests.cluster.helm import Release
from tests.cluster.istiod import Istiod
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL
from tests.cluster.plane import ControlPlane

CONNECTIONS = (1, 8, 32)
NONE, POLICY, MIXED, OURS, ISTIOD = "none", "policy", "mixed", "mendix-mesh", "istiod"
#: A namespace whose pods are all special. It is a part of the row MIXED.
_SPECIAL = "special"
#: The rows of the table, and their names.
NAMES = {
    NONE: "nothing",
    POLICY: "mendix-mesh, engine policy",
    MIXED: "the same, 30 % special pods",
    OURS: "mendix-mesh, engine webhook",
    ISTIOD: "istiod's injector",
}
_BY_LABEL = {MESH_LABEL: "ambient", MODE_LABEL: "enforce"}
_LABELS = {
    NONE: {},
    POLICY: _BY_LABEL,
    _SPECIAL: _BY_LABEL,
    OURS: {},
    ISTIOD: {"istio-injection": "enabled"},
}
#: The namespaces to which ten pods of a row go.
_TURNS = {
    MIXED: (POLICY, POLICY, _SPECIAL, POLICY, POLICY, _SPECIAL, POLICY, POLICY, _SPECIAL, POLICY)
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
        namespaces = {
            row: plane.new_namespace(f"bench-{row}", labels=labels)
            for row, labels in _LABELS.items()
        }
        exempt = {"checks": ["udp-port"], "namespaces": [namespaces[_SPECIAL]], "reason": "special"}
        release.install({"engine": "policy", "policyDelaySeconds": 1,
                         "settings": {"exemptions": [exempt]}}, wait=False)  # fmt: skip
        kubelet.wait_ready(2, seconds=60)
        _webhooks_of(plane, release, namespaces[OURS])
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


def _webhooks_of(plane: ControlPlane, release: Release, namespace: str) -> None:
    """Install, for one namespace, the webhook configurations of `engine: webhook` as well."""
    authority = base64.b64encode(release.authority.pem).decode()
    rendered = helm.render({
        "namespaces": [{"name": namespace, "mesh": "ambient", "mode": "enforce"}],
        "tls": {"source": "secret", "caBundle": authority},
    })  # fmt: skip
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        made = rendered.one(kind)
        made["metadata"] = {"name": f"{made['metadata']['name']}-by-name"}
        made["webhooks"] = [one for one in made["webhooks"] if namespace in str(one)]
        plane.api.create(made)


def measure(cluster: Cluster, row: str, clients: int, seconds: float, home: Path) -> Cell:
    """Return one round of one row."""
    body = home / "pod.json"
    body.write_text(json.dumps(_pod()))
    urls = [
        f"{cluster.plane.server}/api/v1/namespaces/{cluster.namespaces[turn]}/pods"
        for turn in _TURNS.get(row, (row,))
    ]
    target = load.Target(urls, body, cluster.pids, cluster.headers, status=201)
    sample, cpu = load.run(target, clients, seconds, home)
    with httpx.Client(verify=False, trust_env=False, timeout=120) as client:
        for url in set(urls):
            reply = client.delete(f"{url}?gracePeriodSeconds=0", headers=dict(cluster.headers))
            if not reply.is_success:
                raise LoadError(f"the pods at {url} could not be deleted: {reply.text[:500]}")
    # The cluster goes on working on these pods, and must not do so at the next row's expense.
    load.settle(cluster.plane.pids)
    return Cell(row, CREATION, clients, [sample], {name: [us] for name, us in cpu.items()})


def _pod() -> Json:
    """Return a Mendix app's pod that nothing changes: without an owner, and not to be scheduled.

    The URL names its namespace.
    """
    pod = pods.app("")
    del pod["metadata"]["ownerReferences"], pod["metadata"]["namespace"]
    pod["spec"]["schedulerName"] = "nobody"
    return pod


def _is_right(cluster: Cluster, row: str) -> bool:
    """Return whether exactly what the row names has decided on a pod, by the audit log."""
    if row == MIXED:
        return _is_right(cluster, POLICY) and _calls(cluster, _SPECIAL) == 1
    stored = _stored(cluster, row)
    containers = stored["spec"].get("initContainers", []) + stored["spec"]["containers"]
    opted_in = stored["metadata"]["labels"].get("istio.io/dataplane-mode") == "ambient"
    injected = any(container["name"] == "istio-proxy" for container in containers)
    ours = row in (POLICY, OURS)
    return (opted_in, injected) == (ours, row == ISTIOD) and _calls(cluster, row) == (row == OURS)


def _stored(cluster: Cluster, row: str) -> Json:
    new = _pod()
    new["metadata"] |= {"namespace": cluster.namespaces[row], "name": f"try-{secrets.token_hex(4)}"}
    new["metadata"].pop("generateName", None)
    return cluster.plane.api.create(new, dry_run=True)


def _calls(cluster: Cluster, row: str) -> int:
    """Return how often the validating webhook was called for a new pod."""
    name = _stored(cluster, row)["metadata"]["name"]
    (event,) = cluster.plane.audit(namespace=cluster.namespaces[row], name=name)
    return sum(key.endswith(".mendix-mesh.io/verdict") for key in event.get("annotations", {}))


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
