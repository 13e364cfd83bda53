"""Pods of every kind of workload join the mesh, and those that must end do end."""

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.api import Api, Json, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import (
    INJECT,
    NATIVE,
    VERSIONS,
    annotations_of,
    is_meshed,
    pod,
    ready_pods,
    sidecar_of,
    template_of,
    workload,
)
from tests.standins.linkerd_config import InjectorConfig

CONTROLLERS = [kind for kind in VERSIONS if kind != "Pod"]
SHAPES: dict[str, Any] = {
    "native": {"native": True},
    "classic": {"native": False},
    "classic, last in the pod": {"native": False, "await_proxy": False},
    "native with CNI": {"native": True, "cni": True},
    "classic with CNI": {"native": False, "cni": True},
    "with a root init container": {"init_as_root": True, "close_wait": 3600},
}


@pytest.fixture
def shape(mesh_cluster: MeshCluster, request: pytest.FixtureRequest) -> Iterator[InjectorConfig]:
    """Linkerd with other settings of its injector: the test's parameter."""
    before = mesh_cluster.injector.config
    mesh_cluster.injector.config = dataclasses.replace(before, **request.param)
    yield mesh_cluster.injector.config
    mesh_cluster.injector.config = before


def make(api: Api, kind: str, namespace: str, **arguments: Any) -> Json:
    """Create a workload. A CronJob runs immediately."""
    made = workload(kind, namespace, **arguments)
    stored = api.create(made)
    if kind == "CronJob":
        run_now(api, stored)
    return stored


def run_now(api: Api, cron_job: Json) -> None:
    """Have a yearly CronJob run immediately, and only once: its last run was over a year ago."""
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=367)
    status = {"status": {"lastScheduleTime": long_ago.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    meta = cron_job["metadata"]
    api.patch("CronJob", meta["name"], meta["namespace"], status, subresource="status")


@pytest.mark.parametrize("kind", VERSIONS)
def test_a_workload_that_asks_for_nothing_joins(mesh_cluster: MeshCluster, kind: str) -> None:
    where = mesh_cluster.enroll()
    make(mesh_cluster.api, kind, where)
    (found,) = ready_pods(mesh_cluster.api, where)
    assert sidecar_of(found) == "native"
    assert is_meshed(found)


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_template_is_opted_in_when_it_is_created(
    api: Api, mesh_cluster: MeshCluster, kind: str
) -> None:
    stored = api.create(workload(kind, mesh_cluster.enroll()))
    assert annotations_of(template_of(stored))[INJECT] == "enabled"
    assert INJECT not in annotations_of(stored)
    assert stored["metadata"]["generation"] == 1


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES, indirect=True)
def test_every_shape_that_the_injector_gives_a_pod_is_admitted(
    mesh_cluster: MeshCluster, shape: InjectorConfig
) -> None:
    where = mesh_cluster.enroll()
    mesh_cluster.api.create(workload("Deployment", where))
    (found,) = ready_pods(mesh_cluster.api, where)
    assert sidecar_of(found) == ("native" if shape.native else "classic")


@pytest.mark.parametrize("shape", [{"native": False}], ids=["classic"], indirect=True)
@pytest.mark.parametrize("kind", ["Job", "CronJob", "Pod"])
def test_what_must_end_ends_even_if_the_mesh_injects_classic_sidecars(
    mesh_cluster: MeshCluster, shape: InjectorConfig, kind: str
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll()
    # The same pod without us, in a namespace that only Linkerd watches. It starts first, so that
    # it had more time when the other pod has ended.
    alone = mesh_cluster.plane.new_namespace()
    api.create(workload("Job", alone, annotations={INJECT: "enabled"}))
    (hanging,) = ready_pods(api, alone)
    make(api, kind, where, restartPolicy="Never")
    (ended,) = wait_for(
        lambda: [
            one for one in api.list("Pod", where) if one["status"].get("phase") == "Succeeded"
        ],
        why="the pod to end",
    )
    assert sidecar_of(ended) == "native"
    assert annotations_of(ended)[NATIVE] == "true"
    hanging = api.get("Pod", hanging["metadata"]["name"], alone)
    assert (sidecar_of(hanging), hanging["status"]["phase"]) == ("classic", "Running")


def test_a_pod_whose_name_is_generated_joins(api: Api, mesh_cluster: MeshCluster) -> None:
    made = pod(mesh_cluster.enroll())
    del made["metadata"]["name"]
    made["metadata"]["generateName"] = "shop-"
    stored = api.create(made)
    assert stored["metadata"]["name"].startswith("shop-")
    assert is_meshed(stored)


def test_a_pod_without_a_namespace_in_its_manifest_joins(mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll()
    made = pod(where)
    del made["metadata"]["namespace"]
    mesh_cluster.plane.kubectl("create", "-n", where, "-f", "-", input=json.dumps(made))
    assert is_meshed(mesh_cluster.api.get("Pod", "shop", where))


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_a_dry_run_is_answered_alike_and_stores_nothing(
    mesh_cluster: MeshCluster, kind: str
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll()
    tried = api.create(workload(kind, where), dry_run=True)
    real = api.create(workload(kind, where, "real"))
    if kind == "Pod":
        assert is_meshed(tried)
        assert is_meshed(real)
    else:
        assert annotations_of(template_of(tried)) == annotations_of(template_of(real))
    assert [found["metadata"]["name"] for found in api.list(kind, where)] == ["real"]
