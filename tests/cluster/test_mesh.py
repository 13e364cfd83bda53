"""The cluster with mendix-mesh on it: that chart, server and injector really work together."""

import pytest

from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.plane import is_ready


def _deployment(namespace: str) -> Json:
    labels = {"app": "shop"}
    container = {"name": "app", "image": "app"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def test_a_deployment_that_asks_for_nothing_runs_in_the_mesh(mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll()
    api = mesh_cluster.plane.api
    api.create(_deployment(where))
    pods = wait_for(
        lambda: [pod for pod in api.list("Pod", where) if is_ready(pod)][1:], why="two ready pods"
    )
    names = [container["name"] for pod in pods for container in _containers(pod)]
    assert "linkerd-proxy" in names


def test_a_pod_that_did_not_join_does_not_start(mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "debug", "namespace": where},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }
    # The injector is down and fails open: without a gate the pod would start in plaintext.
    mesh_cluster.injector.stop()
    try:
        with pytest.raises(StatusError, match="proxy-missing") as denied:
            mesh_cluster.plane.api.create(pod)
    finally:
        mesh_cluster.injector.restart()
    assert denied.value.code == 403
    assert mesh_cluster.plane.api.create(pod)


def test_a_namespace_that_is_not_enrolled_is_left_alone(mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.plane.new_namespace()
    created = mesh_cluster.plane.api.create(_deployment(where))
    assert "annotations" not in created["spec"]["template"]["metadata"]


def _containers(pod: Json) -> list[Json]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
