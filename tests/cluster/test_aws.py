"""The cluster of Mendix's Terraform module for AWS, and what mendix-mesh does to each part.

docs/aws.md describes the same.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.istio import IstioCluster
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.plane import is_ready
from tests.cluster.test_operator import ENV, SERVICE_UPSTREAM, TASKS, Installation
from tests.cluster.workloads import INJECT, annotations_of, is_meshed, sidecar_of
from tests.standins import aws_manifests as aws
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests


class Aws(Installation):
    """A namespace as the module's installer leaves it, with one app. The operator is a stand-in."""

    replicas = 1

    def install(self) -> None:
        # The installer is the first pod. It creates all others.
        for account in manifests.service_accounts(self.namespace):
            self.api.create(account)
        self.api.create(manifests.installer_job(self.namespace))
        mendix.install(self.api, self.namespace, **aws.CONFIGURATION)
        self.api.create(aws.collector(self.namespace))

    def pods(self) -> dict[str, Json]:
        """Return the pods by their workload's name, once all are ready or have ended."""
        system = ("mendix-operator", "mendix-agent", "adot-collector", "mxpc-cli-installer")
        names = (*system, f"{ENV}-master", *TASKS)

        def all_there() -> dict[str, Json]:
            stored = self.api.list("Pod", self.namespace)
            found = {
                name: pod
                for pod in stored
                for name in names
                if pod["metadata"]["name"].startswith(name)
                and (is_ready(pod) or pod["status"].get("phase") == "Succeeded")
            }
            return found if len(found) == len(names) else {}

        return wait_for(all_there, why=f"{', '.join(names)} to be there")

    def denials(self) -> dict[str, str]:
        """Return the Events' messages for pods that could not be created, by their controller."""
        events = self.api.list("Event", self.namespace, fields="reason=FailedCreate")
        return {event["involvedObject"]["name"]: event["message"] for event in events}


@contextlib.contextmanager
def no_mesh(cluster: MeshCluster) -> Iterator[None]:
    """The cluster as the module leaves it: it installs no Linkerd."""
    cluster.injector.stop()
    cluster.injector.uninstall()
    try:
        yield
    finally:
        cluster.injector.start()


@pytest.fixture(scope="module")
def meshed(mesh_cluster: MeshCluster) -> Aws:
    made = Aws(mesh_cluster, "enforce")
    made.settle()
    return made


def test_without_a_mesh_audit_lets_all_run_and_records_what_is_outside(
    mesh_cluster: MeshCluster,
) -> None:
    with no_mesh(mesh_cluster):
        made = Aws(mesh_cluster, "audit")
        made.settle()
        pods = made.pods()
    assert not any(map(sidecar_of, pods.values()))
    created = [
        event["annotations"]
        for event in mesh_cluster.plane.audit(namespace=made.namespace, resource="pods")
        if event["verb"] == "create" and "subresource" not in event["objectRef"]
    ]
    assert len(created) == len(pods)
    for annotations in created:
        assert annotations["linkerd.audit.mendix-mesh.io/verdict"] == "audited"
        assert "proxy-missing" in annotations["linkerd.audit.mendix-mesh.io/checks"]


def test_without_a_mesh_enforce_lets_nothing_start_whatever_the_annotations_promise(
    mesh_cluster: MeshCluster,
) -> None:
    with no_mesh(mesh_cluster):
        made = Aws(mesh_cluster, "enforce")
        made.operator.reconcile()
        made.operator.reconcile()
        expected = {"mendix-operator", "mendix-agent", "adot-collector", "mxpc-cli-installer"}
        expected.add(f"{ENV}-master")

        def all_denied() -> bool:
            said = made.denials()
            return all(
                any(who.startswith(name) and "proxy-missing" in why for who, why in said.items())
                for name in expected
            )

        wait_for(all_denied, why="every controller to be denied")
        assert made.api.list("Pod", made.namespace) == []
        # The task pods. The operator itself receives their denial.
        assert {f"Pod/{task}" for task in TASKS} <= made.operator.denied.keys()
        assert all("proxy-missing" in made.operator.denied[f"Pod/{task}"] for task in TASKS)
        # The operator's settings put the annotation on the app's pods. It proves nothing.
        template = made.api.get("Deployment", f"{ENV}-master", made.namespace)["spec"]["template"]
        assert annotations_of(template)[INJECT] == "enabled"
        with pytest.raises(StatusError, match="proxy-missing"):
            made.api.create(aws.solver_pod(made.namespace))


def test_with_linkerd_everything_in_the_namespace_joins(meshed: Aws) -> None:
    pods = meshed.pods()
    assert {name for name, pod in pods.items() if not is_meshed(pod)} == set()
    # Pods that must end have a native sidecar, and have ended.
    for name in (*TASKS, "mxpc-cli-installer"):
        assert sidecar_of(pods[name]) == "native"
        assert pods[name]["status"]["phase"] == "Succeeded"


def test_the_annotations_of_the_operators_settings_stay(meshed: Aws) -> None:
    stored = annotations_of(meshed.pods()[f"{ENV}-master"])
    assert aws.CONFIGURATION["runtimeDeploymentPodAnnotations"].items() <= stored.items()


def test_no_controllers_conflict_over_the_apps_ingress(meshed: Aws) -> None:
    stored = annotations_of(meshed.api.get("Ingress", ENV, meshed.namespace))
    assert stored[SERVICE_UPSTREAM] == "true"
    assert aws.CONFIGURATION["endpoint"]["ingress"]["annotations"].items() <= stored.items()
    before = meshed.operator.writes.copy()
    for _ in range(5):
        meshed.operator.reconcile()
    assert meshed.operator.writes == before


def test_with_linkerd_a_solver_pod_joins_and_its_ingress_leads_to_the_service(
    meshed: Aws,
) -> None:
    assert is_meshed(meshed.api.create(aws.solver_pod(meshed.namespace)))
    ingress = meshed.api.create(aws.solver_ingress(meshed.namespace))
    assert annotations_of(ingress)[SERVICE_UPSTREAM] == "true"


@pytest.mark.parametrize("name", aws.ADD_ONS)
def test_what_the_module_installs_beside_mendix_is_untouched(
    mesh_cluster: MeshCluster, name: str
) -> None:
    where = mesh_cluster.plane.new_namespace(name)
    created = mesh_cluster.api.create(aws.add_on(name, where))
    assert annotations_of(created) == {}
    labels = {"labels": f"app.kubernetes.io/name={name}"}
    (stored,) = wait_for(lambda: mesh_cluster.api.list("Pod", where, **labels), why="its pod")
    assert annotations_of(stored) == {}
    assert not sidecar_of(stored)
    # None of our webhooks was called: the audit log would contain a verdict.
    events = mesh_cluster.plane.audit(namespace=where)
    assert [e for e in events if "mendix-mesh" in str(e.get("annotations"))] == []


def test_with_istio_a_solver_pod_opts_out_until_its_issuer_says_otherwise(
    istio_cluster: IstioCluster,
) -> None:
    where = istio_cluster.enroll("enforce", mesh="istio")
    with pytest.raises(StatusError, match="opted-out"):
        istio_cluster.api.create(aws.solver_pod(where))
    joining = {"sidecar.istio.io/inject": "true"}
    stored = istio_cluster.api.create(aws.solver_pod(where, annotations=joining))
    containers = [*stored["spec"].get("initContainers", []), *stored["spec"]["containers"]]
    assert "istio-proxy" in {container["name"] for container in containers}


def test_with_istio_a_solver_pod_may_be_exempted_as_the_guide_says(
    istio_cluster: IstioCluster,
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "aws.md").read_text()
    *_, example = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    settings = yaml.safe_load(example)["settings"]
    where = istio_cluster.enroll("enforce", mesh="istio")
    (exemption,) = settings["exemptions"]
    exemption["namespaces"] = [where]
    solver, other = aws.solver_pod(where), aws.solver_pod(where)
    other["metadata"]["labels"] = {}
    api = istio_cluster.api
    with configured(istio_cluster, {"settings": settings}, lambda: not api.denial(solver)):
        assert "opted-out" in api.denial(other)
