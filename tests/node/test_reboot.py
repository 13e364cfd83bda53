"""A node reboots while no server of mendix-mesh answers: its pods come back, deleted ones go."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.plane import is_ready
from tests.cluster.workloads import CONTROL_PLANE_NS, INJECT, pod, workload
from tests.node import settings
from tests.node.installed import ENROLLED, NAMESPACE, NodeCluster, is_reviewed
from tests.standins.cni_status import ADDRESS, CONTAINER
from webhook.policy.inputs.linkerd import CONFIG
from webhook.policy.meshes.ambient import MODE, REDIRECTION

pytestmark = pytest.mark.timeout(300)

REPLICAS = 3
CONTAINERS = [{"name": "app", "image": settings.PAUSE, "imagePullPolicy": "Never"}]


class Place(NamedTuple):
    """An enforced namespace. `judged` are changes of its pods that need an answer."""

    mesh: str
    name: str
    judged: list[Json]


JUDGED: dict[str, list[Json]] = {
    "ambient": [
        {"labels": {MODE: None}},
        {"annotations": {REDIRECTION: "disabled"}},
        {"annotations": {INJECT: "enabled"}},
    ],
    "linkerd": [
        {"labels": {CONTROL_PLANE_NS: "elsewhere"}},
        {"annotations": {CONFIG + "skip-inbound-ports": "8080"}},
    ],
}


@pytest.fixture
def places(nodes: NodeCluster) -> Iterator[list[Place]]:
    """Enforced namespaces with running pods, on one node. Then the servers are gone.

    There is no injector, so the pods of Linkerd's namespace are from before its enrollment.
    """
    api, labels = nodes.api, {**ENROLLED, "mendix-mesh.io/mesh": "linkerd"}
    ambient, linkerd = (
        nodes.plane.new_namespace("mendix", labels=given) for given in (ENROLLED, {})
    )
    wait_for(lambda: is_reviewed(api, ambient), why="the API server to call the webhook")
    for where in (ambient, linkerd):
        on_first: dict[str, Any] = {
            "containers": CONTAINERS,
            "nodeSelector": {"kubernetes.io/hostname": "node-0"},
        }
        api.create(workload("Deployment", where, replicas=REPLICAS, **on_first))
        for name in ("leaving", "last"):
            api.create(pod(where, name, terminationGracePeriodSeconds=1, **on_first))
        running(nodes, where, REPLICAS + 2)
    api.patch("Namespace", linkerd, None, {"metadata": {"labels": labels}})
    wait_for(lambda: denied(nodes, linkerd), why="pods outside the mesh to be denied")
    scale(nodes, 0)
    wait_for(lambda: not nodes.pods(), seconds=90, why="the servers to be gone")
    yield [Place(mesh, name, JUDGED[mesh]) for mesh, name in
           (("ambient", ambient), ("linkerd", linkerd))]  # fmt: skip
    scale(nodes, 2)
    spread(nodes)
    for where in (ambient, linkerd):
        api.delete("Deployment", "shop", where)
        nodes.plane.kubectl("delete", "pods", "--all", "--wait=false", f"--namespace={where}")
        await_count(nodes, where, 0)
    # Here no injector of Linkerd is installed, which the doctor would report.
    without = {"metadata": {"labels": dict.fromkeys(labels)}}
    wait_for(lambda: patched(nodes, linkerd, without), why="a server to answer for the namespace")


def patched(nodes: NodeCluster, namespace: str, patch: Json) -> bool:
    """Return whether a change of a namespace got through.

    The Service may still lead to the server that has just been moved.
    """
    try:
        nodes.api.patch("Namespace", namespace, None, patch)
    except StatusError:
        return False
    return True


def spread(nodes: NodeCluster) -> None:
    """Move a server if both are on one node, for the tests after this one.

    The scheduler may prefer the node that was not rebooted.
    """
    servers = nodes.await_settled()
    if len({server["spec"]["nodeName"] for server in servers}) == 1:
        node, name = servers[0]["spec"]["nodeName"], servers[0]["metadata"]["name"]
        nodes.plane.kubectl("cordon", node)
        nodes.api.delete("Pod", name, NAMESPACE)
        nodes.await_settled()
        nodes.plane.kubectl("uncordon", node)


def denied(nodes: NodeCluster, where: str) -> bool:
    """Return whether a new pod is denied."""
    try:
        nodes.api.create(pod(where, "new", containers=CONTAINERS, hostNetwork=True), dry_run=True)
    except StatusError:
        return True
    return False


def scale(nodes: NodeCluster, replicas: int) -> None:
    spec = {"spec": {"replicas": replicas}}
    nodes.api.patch("Deployment", "mendix-mesh", NAMESPACE, spec, subresource="scale")


def running(
    nodes: NodeCluster, where: str, count: int, after: Mapping[str, set[str]] | None = None
) -> dict[str, set[str]]:
    """Wait until so many pods are ready, with nothing of what they had. Return what they have."""
    known = after or {}

    def ready() -> dict[str, set[str]] | None:
        found = [one for one in nodes.api.list("Pod", where) if is_ready(one)]
        parts = {one["metadata"]["name"]: parts_of(one) for one in found}
        new = all(len(has) == 2 and not has & known.get(name, set()) for name, has in parts.items())
        return parts if len(found) == count and new else None

    return wait_for(ready, seconds=120, why=f"{count} pods to run")


def parts_of(one: Json) -> set[str]:
    """Return a pod's container, if it runs, and the sandbox that the CNI plugin wrote into it."""
    (app,) = one["status"]["containerStatuses"]
    sandbox = one["metadata"].get("annotations", {}).get(CONTAINER)
    running = app.get("containerID") if "running" in app["state"] else None
    return {part for part in (running, sandbox) if part}


def uids(nodes: NodeCluster, where: str) -> set[str]:
    return {one["metadata"]["uid"] for one in nodes.api.list("Pod", where)}


def seconds_until_gone(nodes: NodeCluster, places: list[Place], name: str) -> float:
    started = time.monotonic()
    for place in places:
        nodes.api.delete("Pod", name, place.name)
    left = {place.name for place in places}
    while left:
        left = {one for one in left if name in names(nodes, one)}
        assert time.monotonic() < started + 60, f"{name} is still in {left}"
    return time.monotonic() - started


def await_count(nodes: NodeCluster, where: str, count: int) -> None:
    wait_for(lambda: len(names(nodes, where)) == count, seconds=90, why=f"{count} pods in {where}")


def names(nodes: NodeCluster, where: str) -> set[str]:
    return {one["metadata"]["name"] for one in nodes.api.list("Pod", where)}


def test_admitted_pods_come_back_and_deleted_ones_go_while_no_server_answers(
    nodes: NodeCluster, places: list[Place]
) -> None:
    api = nodes.api
    for place in places:
        with pytest.raises(StatusError, match="failed calling webhook"):
            api.create(pod(place.name, "new", containers=CONTAINERS))
    before = {place.name: running(nodes, place.name, REPLICAS + 2) for place in places}
    left = seconds_until_gone(nodes, places, "leaving")
    kept = {place.name: uids(nodes, place.name) for place in places}

    started = time.monotonic()
    nodes.nodes[0].reboot()
    up = time.monotonic()
    for place in places:
        running(nodes, place.name, REPLICAS + 1, after=before[place.name])
    back = time.monotonic()
    assert {place.name: uids(nodes, place.name) for place in places} == kept
    gone = seconds_until_gone(nodes, places, "last")
    print(
        f"\nwithout a server: {len(places) * (REPLICAS + 1)} pods ready {back - started:.1f} s "
        f"after the reboot began, {back - up:.1f} s after containerd answered; deleted pods gone "
        f"in {left:.1f} s before it, {gone:.1f} s after it"
    )


def test_only_what_is_judged_waits_for_a_server(nodes: NodeCluster, places: list[Place]) -> None:
    api, kubectl = nodes.api, nodes.plane.kubectl
    for place in places:
        name = (names(nodes, place.name) - {"leaving", "last"}).pop()
        target = (f"--namespace={place.name}", f"pod/{name}")
        kubectl("label", *target, "team=shop")
        kubectl("annotate", *target, "example.com/seen=yes")
        for subresource in ("", "status"):
            for patch in place.judged:
                if subresource and REDIRECTION in patch.get("annotations", {}):
                    continue
                with pytest.raises(StatusError, match="failed calling webhook"):
                    api.patch("Pod", name, place.name, {"metadata": patch}, subresource=subresource)
        stored = api.get("Pod", name, place.name)["metadata"]
        assert stored["labels"]["team"] == "shop"
        assert stored["annotations"][ADDRESS]
        api.patch("Deployment", "shop", place.name, {"spec": {"replicas": 1}})
        await_count(nodes, place.name, 3)
        if place.mesh == "ambient":  # the part of Istio's CNI agent
            redirected = {"metadata": {"annotations": {REDIRECTION: "enabled"}}}
            (name,) = names(nodes, place.name) - {"leaving", "last"}
            api.patch("Pod", name, place.name, redirected, subresource="status")
    for name in ("leaving", "last"):
        seconds_until_gone(nodes, places, name)
