"""`restart` in ambient mode, in which a pod joins only once the node redirects it.

What is the same in every mesh is in test_restart.py. The tests are the node's agent.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster import command
from tests.cluster.api import Api, Json, StatusError
from tests.cluster.command import Command
from tests.cluster.mesh import MeshCluster
from tests.cluster.part import repeated
from tests.cluster.plane import KUBELET_ANNOTATION, is_ready
from tests.cluster.test_ambient import REDIRECTION, mode_of
from tests.cluster.test_restart import END, Watch, budget
from tests.cluster.workloads import annotations_of, pods_of, ready_pods, workload
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests

pytestmark = pytest.mark.timeout(300)

#: Kind, name, replicas, the minimum of its budget, and what restarts it.
OTHERS = [
    ("Deployment", "at-once", 3, 2, "evict"),
    ("Deployment", "surging", 2, 1, "restart"),
    ("StatefulSet", "store", 2, 1, "restart"),
    ("ReplicaSet", "old-style", 2, 1, "evict"),
]
APP, APP_LEAST = 3, 2


@pytest.fixture(scope="module")
def restart(mesh_cluster: MeshCluster) -> Command:
    return command.as_account(mesh_cluster.plane, "mendix-mesh-restarter")


class Node:
    """The part of kubelet and of ambient's CNI agent: a pod is ready once it is redirected."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.redirects = True
        self._api, self._namespace = api, namespace

    @contextmanager
    def running(self) -> Iterator["Node"]:
        with repeated(self._attend_all):
            yield self

    def _attend_all(self) -> None:
        for one in self._api.list("Pod", self._namespace):
            self._attend(one)

    def _attend(self, one: Json) -> None:
        if annotations_of(one).get(KUBELET_ANNOTATION) != "server":
            return
        name = one["metadata"]["name"]
        try:
            if "deletionTimestamp" in one["metadata"]:
                self._api.delete("Pod", name, self._namespace, grace=0)
            elif one["status"].get("phase") == "Running" and not is_ready(one):
                self._start(name, one)
        except StatusError as denied:
            if denied.code != 404:
                raise

    def _start(self, name: str, one: Json) -> None:
        conditions = [{**condition, "status": "True"} for condition in one["status"]["conditions"]]
        patch: Json = {"status": {"conditions": conditions}}
        if mode_of(one) == "ambient" and self.redirects:
            patch["metadata"] = {"annotations": {REDIRECTION: "enabled"}}
        self._api.patch("Pod", name, self._namespace, patch, subresource="status")


def is_redirected(one: Json) -> bool:
    return mode_of(one) == "ambient" and annotations_of(one).get(REDIRECTION) == "enabled"


SIMULATED = {KUBELET_ANNOTATION: "server"}


def test_every_workload_is_redirected_to_ztunnel_and_no_budget_is_broken(
    mesh_cluster: MeshCluster, restart: Command
) -> None:
    """An operator's app and others, with budgets, from before the enrollment."""
    api, plane = mesh_cluster.api, mesh_cluster.plane
    namespace = plane.new_namespace("mendix")
    mendix.install_crds(api)
    for obj in manifests.service_accounts(namespace):
        api.ensure(obj)
    settings = {"runtimeDeploymentPodAnnotations": SIMULATED}
    api.create(manifests.operator_configuration(namespace, **settings))
    api.create(manifests.mendix_app("shop", namespace, replicas=APP))
    api.create(budget(namespace, "shop", APP_LEAST))
    for kind, name, replicas, least, _ in OTHERS:
        obj = workload(kind, namespace, name, replicas=replicas, annotations=SIMULATED)
        if name == "at-once":
            obj["spec"]["strategy"] = {"type": "Recreate"}
        api.create(obj)
        api.create(budget(namespace, name, least))
    node = Node(plane.user("node", ["system:masters"]), namespace)
    user = plane.user("mendix-operator", ["system:masters"])
    with node.running(), mendix.MendixOperator(user, namespace).run() as operator:
        ready_pods(api, namespace, "shop", count=APP)
        for _, name, replicas, _, _ in OTHERS:
            ready_pods(api, namespace, name, count=replicas)
        mendix.await_tasks(api, namespace, "shop")
        mesh_cluster.relabel(namespace, "ambient.enforce", mesh="ambient", mode="enforce")
        generation = api.get("Deployment", "shop-master", namespace)["metadata"]["generation"]
        writes = operator.writes.total()

        with Watch(plane.user("watcher", ["system:masters"]), namespace).running() as watch:
            done = restart("restart", "-n", namespace, "--yes", "-o", "json", "--timeout", "60")

        how = {one["name"]: one["how"] for one in done.data["workloads"] if one["state"] == "done"}
        expected = {name: way for _, name, _, _, way in OTHERS} | {"shop-master": "evict"}
        assert {name: how.get(name) for name in expected} == expected
        for name, count in [("shop", APP), *((name, count) for _, name, count, _, _ in OTHERS)]:
            pods = pods_of(api, namespace, name)
            assert len(pods) == count
            assert all(is_ready(one) and is_redirected(one) for one in pods), name
        for _, name, _, least, _ in OTHERS:
            assert watch.least[name] >= least, name
        assert watch.least["shop"] == APP_LEAST
        after = api.get("Deployment", "shop-master", namespace)["metadata"]["generation"]
        assert after == generation
        assert operator.writes.total() == writes
        assert operator.denied == {}
    api.delete("Pod", END, namespace, grace=0)
    report = restart.audit("-n", namespace, codes=[0])
    assert report["namespaces"][0]["coverage"] == 100


def test_a_node_that_redirects_nothing_stops_the_run(
    mesh_cluster: MeshCluster, restart: Command
) -> None:
    api, plane = mesh_cluster.api, mesh_cluster.plane
    namespace = plane.new_namespace("mendix")
    for name in ("a-first", "b-second"):
        api.create(workload("Deployment", namespace, name, annotations=SIMULATED))
    with Node(plane.user("node", ["system:masters"]), namespace).running() as node:
        for name in ("a-first", "b-second"):
            ready_pods(api, namespace, name)
        node.redirects = False
        mesh_cluster.relabel(namespace, "ambient.enforce", mesh="ambient", mode="enforce")
        done = restart("restart", "-n", namespace, "--yes", "-o", "json", codes=[1])
    first, second = done.data["workloads"]
    assert (first["state"], second["state"]) == ("failed", "not-done")
    assert "istio-cni-node and ztunnel" in first["why"][0]
