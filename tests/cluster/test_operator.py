"""The Mendix Operator (a stand-in) and our webhook in one namespace: everything joins.

The operator reverts unexpected changes of its Deployments. A webhook that changed them would cause
endless writes and rollouts.
"""

import dataclasses
import json
from collections.abc import Iterator

import pytest

from tests.cluster.api import Api, Json, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import (
    INJECT,
    NATIVE,
    annotations_of,
    is_meshed,
    sidecar_of,
    template_of,
)
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from tests.standins.defaults import defaulted

ENV = "shop"
SERVICE_UPSTREAM = "nginx.ingress.kubernetes.io/service-upstream"
TASKS = [f"{ENV}-{task}" for task in ("build", "database", "file")]


class Installation:
    """A namespace with Mendix's operator and one app in it, as far as the operator has got."""

    replicas = 2

    def __init__(self, cluster: MeshCluster, mode: str = "enforce") -> None:
        self.api = cluster.api
        self.namespace = cluster.enroll(mode)
        mendix.install_crds(self.api)
        self.install()
        user = cluster.plane.user("mendix-operator", ["system:masters"])
        self.operator = mendix.MendixOperator(user, self.namespace)
        self.api.create(manifests.mendix_app(ENV, self.namespace, replicas=self.replicas))

    def install(self) -> None:
        """Create what the operator needs."""
        for obj in (
            *manifests.service_accounts(self.namespace),
            manifests.operator_configuration(self.namespace),
        ):
            self.api.create(obj)

    def settle(self) -> None:
        """Run the operator until a pass changes nothing."""

        def quiet() -> bool:
            self.operator.reconcile()
            done = all(self.get("Pod", task)["status"].get("phase") == "Succeeded"
                       for task in TASKS)  # fmt: skip
            status = self.get("Deployment", f"{ENV}-master").get("status", {})
            up = status.get("availableReplicas") == self.replicas
            # Only a pass that starts after everything is ready can find nothing to do.
            return done and up and not self.operator.reconcile()

        wait_for(quiet, why="the operator to have nothing more to do")

    def get(self, kind: str, name: str) -> Json:
        return self.api.get(kind, name, self.namespace)

    def app_pods(self) -> list[Json]:
        return self.api.list("Pod", self.namespace, labels=f"app={ENV}")


def test_the_operator_compares_with_the_api_servers_defaults(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    """Otherwise it would revert them for ever, or overlook a change."""
    where = mesh_cluster.plane.new_namespace()
    for made in (
        manifests.app_deployment("shop", where, annotations={"a": "b"}),
        manifests.operator_deployment(where),
        manifests.agent_deployment(where),
    ):
        assert defaulted(made)["spec"] == api.create(made, dry_run=True)["spec"]


@pytest.fixture(scope="module")
def mendix_namespace(mesh_cluster: MeshCluster) -> Installation:
    installation = Installation(mesh_cluster)
    installation.settle()
    return installation


def test_the_apps_pods_join_although_its_deployment_is_left_alone(
    mendix_namespace: Installation,
) -> None:
    deployment = mendix_namespace.get("Deployment", f"{ENV}-master")
    assert annotations_of(template_of(deployment)) == {}
    assert deployment["metadata"]["generation"] == 1
    (replica_set,) = mendix_namespace.api.list("ReplicaSet", mendix_namespace.namespace)
    assert annotations_of(template_of(replica_set)) == {}
    pods = mendix_namespace.app_pods()
    assert len(pods) == 2
    assert all(map(is_meshed, pods))
    assert mendix_namespace.operator.denied == {}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_pod_joins_with_a_native_sidecar_and_ends(
    mendix_namespace: Installation, name: str
) -> None:
    found = mendix_namespace.get("Pod", name)
    assert sidecar_of(found) == "native"
    assert annotations_of(found)[NATIVE] == "true"
    assert found["status"]["phase"] == "Succeeded"


def test_the_app_and_its_operator_settle_for_good(mendix_namespace: Installation) -> None:
    """After a hundred reconciles, nothing has been written, rolled out or restarted."""
    operator = mendix_namespace.operator
    kinds = ("Deployment", "ReplicaSet", "Pod", "Ingress", "Service")

    def versions() -> dict[str, object]:
        """Return a value for each object that changes with every write, except of the status."""
        found: dict[str, object] = {}
        for kind in kinds:
            for one in mendix_namespace.api.list(kind, mendix_namespace.namespace):
                meta = one["metadata"]
                version = meta.get("generation", meta["resourceVersion"])
                found[f"{kind}/{meta['name']}"] = (meta["uid"], version, annotations_of(one))
        return found

    before, writes = versions(), operator.writes.total()
    for _ in range(100):
        assert operator.reconcile() == 0
    assert operator.writes.total() == writes
    assert set(operator.writes.values()) <= {1, 2}  # created, and a task once more when it ended
    assert versions() == before


def test_a_change_of_the_deployment_would_have_been_rolled_back(
    mendix_namespace: Installation,
) -> None:
    """The stand-in does revert changes: otherwise the test above would prove nothing."""
    name, where = f"{ENV}-master", mendix_namespace.namespace
    template = {"metadata": {"annotations": {INJECT: "enabled"}}}
    patch = {"spec": {"template": template, "paused": True}}
    mendix_namespace.api.patch("Deployment", name, where, patch)
    # Its first try may conflict with the Deployment controller's write of the status.
    wait_for(mendix_namespace.operator.reconcile, why="the operator to roll it back")
    stored = mendix_namespace.get("Deployment", name)
    # Our webhook reviewed the operator's write as well, and admitted it.
    assert annotations_of(template_of(stored)) == {}
    assert mendix_namespace.operator.reconcile() == 0


def test_a_rollout_that_the_operator_wants_is_one_rollout(mesh_cluster: MeshCluster) -> None:
    """New pod annotations from the OperatorConfiguration, as Mendix documents it for Linkerd."""
    installation = Installation(mesh_cluster)
    installation.settle()
    annotations = {"runtimeDeploymentPodAnnotations": {INJECT: "enabled", "team": "shop"}}
    installation.api.patch(
        "OperatorConfiguration",
        manifests.CONFIGURATION,
        installation.namespace,
        {"spec": annotations},
    )
    wait_for(installation.operator.reconcile, why="the operator to write the Deployment")
    installation.settle()
    deployment = installation.get("Deployment", f"{ENV}-master")
    assert deployment["metadata"]["generation"] == 2
    pods = wait_for(
        lambda: (
            [pod for pod in installation.app_pods() if "team" in annotations_of(pod)][1:]
            and installation.app_pods()
        ),
        why="the new pods",
    )
    assert all(map(is_meshed, pods))


def test_the_ingress_dials_the_service_and_the_operator_keeps_it(
    mendix_namespace: Installation,
) -> None:
    where = mendix_namespace.namespace
    assert annotations_of(mendix_namespace.get("Ingress", ENV))[SERVICE_UPSTREAM] == "true"
    # A user removes it: that update is reviewed as well, and the operator is not involved.
    removal = {"metadata": {"annotations": {SERVICE_UPSTREAM: None}}}
    patched = mendix_namespace.api.patch("Ingress", ENV, where, removal)
    assert annotations_of(patched)[SERVICE_UPSTREAM] == "true"
    assert mendix_namespace.operator.reconcile() == 0


def test_operator_and_agent_join_when_they_are_applied(mesh_cluster: MeshCluster) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll()
    for obj in manifests.service_accounts(where):
        api.create(obj)
    deployments = [manifests.operator_deployment(where), manifests.agent_deployment(where)]
    applied = json.dumps({"apiVersion": "v1", "kind": "List", "items": deployments})
    mesh_cluster.plane.kubectl("apply", "-f", "-", input=applied)
    for obj in deployments:
        name = obj["metadata"]["name"]
        wait_for(
            lambda name=name: api.get("Deployment", name, where)["status"].get("availableReplicas"),  # type: ignore[misc]
            why=f"{name} to be available",
        )
        (found,) = api.list("Pod", where, labels=f"name={name}")
        assert is_meshed(found)
    again = mesh_cluster.plane.kubectl("apply", "-f", "-", input=applied).stdout
    assert [line.split()[-1] for line in again.splitlines()] == ["unchanged", "unchanged"]


@pytest.fixture
def classic(mesh_cluster: MeshCluster) -> Iterator[MeshCluster]:
    """Linkerd as it was before 2.20: classic sidecars by default."""
    before = mesh_cluster.injector.config
    mesh_cluster.injector.config = dataclasses.replace(before, native=False)
    yield mesh_cluster
    mesh_cluster.injector.config = before


def test_task_pods_end_also_if_the_mesh_injects_classic_sidecars(classic: MeshCluster) -> None:
    installation = Installation(classic)
    installation.settle()
    assert {sidecar_of(installation.get("Pod", name)) for name in TASKS} == {"native"}
    assert {sidecar_of(pod) for pod in installation.app_pods()} == {"classic"}


def test_the_other_pods_that_mendix_documents_join(api: Api, mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll()
    for obj in manifests.service_accounts(where):
        api.create(obj)
    assert is_meshed(api.create(manifests.backup_pod(where)))
    api.create(manifests.installer_job(where))
    wait_for(
        lambda: api.get("Job", "mxpc-cli-installer", where)["status"].get("succeeded"),
        why="the installer to end",
    )
