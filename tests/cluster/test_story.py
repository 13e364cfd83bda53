"""The whole story of a user who finds a namespace full of Mendix pods in plaintext.

Each step is a command with the rights that docs/day-2.md lists for it, on a real API server. The
Mendix Operator and Linkerd's injector are stand-ins.
"""

from pathlib import Path

import pytest

from tests.cluster import command
from tests.cluster.api import wait_for
from tests.cluster.auditor import called
from tests.cluster.command import Command
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.plane import STAY_ANNOTATION
from tests.cluster.workloads import INJECT, is_meshed, pod, ready_pods, workload
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests

pytestmark = pytest.mark.timeout(300)

#: By workload, what a restart does to each, and how many pods it has.
RESTARTED = {"mendix-operator": ("restart", 1), "mendix-agent": ("restart", 1),
             "shop-master": ("evict", 2), "shop-worker": ("restart", 2)}  # fmt: skip


def test_a_namespace_is_found_meshed_and_guarded(mesh_cluster: MeshCluster, tmp_path: Path) -> None:
    """`make demo MESH=istio` shows the same with Istio."""
    cluster, api = mesh_cluster, mesh_cluster.api
    namespace = cluster.plane.new_namespace("mendix")
    user = cluster.plane.user("mendix-operator", ["system:masters"])
    with (
        called(cluster.plane, tmp_path),
        mendix.MendixOperator(user, namespace).run() as operator,
    ):
        settle(cluster, namespace)

        (found,) = account(cluster, "mendix-mesh-auditor")(
            "discover", "-n", namespace, "-o", "json"
        ).data["namespaces"]
        assert (found["mesh"], found["operator"]) == ("", "2.25.0")
        assert found["missing"] == [
            f"not enrolled: run mendix-mesh discover --enroll -n {namespace}"
        ]

        enroll = account(cluster, "mendix-mesh-auditor", "mendix-mesh-enroller")
        done = enroll("discover", "--enroll", "--mesh", "linkerd", "-n", namespace, "--yes")
        warned = [line for line in done.err.splitlines() if "Warning: " in line]
        assert f"7 of 7 pods in {namespace} are outside the linkerd mesh" in warned[0]
        assert warned[1].endswith(" and 6 more: proxy-missing")
        labels = api.get("Namespace", namespace)["metadata"]["labels"]
        assert (labels[MESH_LABEL], labels[MODE_LABEL]) == ("linkerd", "warn")
        cluster.await_judge(namespace, "linkerd.warn")

        auditor = account(cluster, "mendix-mesh-auditor")
        (before,) = auditor.audit("-n", namespace, codes=[1])["namespaces"]
        assert before["coverage"] == 0
        assert {row["name"]: row["state"] for row in before["workloads"]} == dict.fromkeys(
            [*RESTARTED, "crm-build"], "unmeshed"
        )
        denied = {
            (finding["check"], finding["origin"])
            for row in before["workloads"]
            for finding in row["findings"]
            if finding["level"] == "deny"
        }
        assert denied == {("proxy-missing", "before-enrollment")}
        assert before["fix"] == f"mendix-mesh restart -n {namespace}"

        (place,) = account(cluster, "mendix-mesh-doctor")(
            "doctor", "-n", namespace, "-o", "json"
        ).data["namespaces"]
        assert place["meshed"] == "yes"

        restart = account(cluster, "mendix-mesh-auditor", "mendix-mesh-restarter")
        writes = operator.writes.total()
        restarted = restart("restart", "-n", namespace, "--yes", "-o", "json").data
        assert restarted["summary"] == {"done": len(RESTARTED), "left": 1}
        how = {one["name"]: one["how"] for one in restarted["workloads"] if one["state"] == "done"}
        assert how == {name: way for name, (way, _) in RESTARTED.items()}
        assert operator.writes.total() == writes, "the operator had something to undo"

        # The task that still ran is not touched, and ends.
        ended = {"status": {"phase": "Succeeded"}}
        api.patch("Pod", "crm-build", namespace, ended, subresource="status")
        assert coverage(auditor, namespace) == 100

        enroll("discover", "--enroll", "--mode", "enforce", "-n", namespace, "--yes")
        cluster.await_judge(namespace, "linkerd.enforce")
        api.create(manifests.mendix_app("portal", namespace))
        for found in ready_pods(api, namespace, "portal"):
            assert is_meshed(found)
        mendix.await_tasks(api, namespace, "portal")
        for task in ("portal-build", "portal-database", "portal-file"):
            assert is_meshed(api.get("Pod", task, namespace))
        assert operator.denied == {}
        opted_out = pod(namespace, "shop-legacy", annotations={INJECT: "disabled"})
        assert "opted-out" in api.denial(opted_out)
        assert coverage(auditor, namespace) == 100


def settle(cluster: MeshCluster, namespace: str) -> None:
    """A namespace as Mendix's users have them: operator, agent, leader, workers, and a task."""
    api = cluster.api
    mendix.install(api, namespace)
    api.create(manifests.custom_resource("StoragePlan", "postgres", namespace, {}))
    api.create(manifests.mendix_app("shop", namespace, replicas=2))
    worker = workload("Deployment", namespace, "shop-worker", replicas=2)
    of_worker = worker["spec"]["template"]["metadata"]["labels"]
    of_worker |= {"component": "mendix-app", "node-type": "worker"}
    api.create(worker)
    build = api.create(manifests.custom_resource("Build", "crm-build", namespace, {}))
    stays = {STAY_ANNOTATION: "true"}
    api.create(manifests.build_pod("crm", namespace, owner=build, annotations=stays))

    def ready(name: str) -> int:
        found = {one["metadata"]["name"]: one for one in api.list("Deployment", namespace)}
        return int(found.get(name, {}).get("status", {}).get("readyReplicas", 0))

    for name, (_, count) in RESTARTED.items():
        wait_for(lambda name=name, count=count: ready(name) == count, why=f"{name} to be ready")  # type: ignore[misc]
    mendix.await_tasks(api, namespace, "shop")


def account(cluster: MeshCluster, *roles: str) -> Command:
    """A ServiceAccount with these roles of docs/rbac.yaml, and no others."""
    name = "-".join(["story", *(role.removeprefix("mendix-mesh-") for role in roles)])
    return command.as_account(cluster.plane, *roles, name=name)


def coverage(auditor: Command, namespace: str) -> int:
    (found,) = auditor.audit("-n", namespace, codes=[0])["namespaces"]
    return int(found["coverage"])
