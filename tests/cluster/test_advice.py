"""What commands print is true, and their advice works if it is followed, on a real cluster."""

import shlex

import pytest

from tests.cluster import command
from tests.cluster.api import Api, core, wait_for
from tests.cluster.command import Command
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import is_meshed, pod, ready_pods, workload

POLICY = "config.linkerd.io/default-inbound-policy"
OURS = "00-mendix-mesh"
VALIDATING = "ValidatingWebhookConfiguration"


@pytest.fixture(scope="module")
def admin(mesh_cluster: MeshCluster) -> Command:
    return command.as_admin(mesh_cluster.plane)


@pytest.fixture
def api(mesh_cluster: MeshCluster) -> Api:
    return mesh_cluster.api


def test_after_strict_the_pods_are_restarted_by_the_command_that_is_printed(
    mesh_cluster: MeshCluster, admin: Command, api: Api
) -> None:
    """Linkerd's policy reaches only new pods."""
    where = mesh_cluster.enroll("enforce")
    api.create(workload("Deployment", where, replicas=2))
    ready_pods(api, where, count=2)
    done = admin("discover", "--enroll", "--strict", "-n", where, "--yes", "--cut-off-anyway")
    assert api.get("Namespace", where)["metadata"]["annotations"][POLICY] == "all-authenticated"
    printed = f"mendix-mesh restart -n {where}"
    assert f"running pods after their restart: {printed}\n" in done.err
    (audited,) = admin.audit("-n", where)["namespaces"]
    assert audited["fix"] == printed
    (found,) = audited["workloads"]
    checks = {one["check"]: one for one in found["findings"]}
    assert checks["inbound-policy-outdated"]["pods"] == 2
    plan = admin("restart", "-n", where, "--dry-run", "-o", "json").data["workloads"]
    assert [(one["how"], one["reason"]) for one in plan] == [("restart", "inbound policy outdated")]
    admin(*shlex.split(printed)[1:], "--yes")
    assert {one["metadata"]["annotations"][POLICY] for one in ready_pods(api, where, count=2)} == {
        "all-authenticated"
    }
    (audited,) = admin.audit("-n", where)["namespaces"]
    assert (audited["fix"], audited["plaintext"]["accepts"]) == ("", "no")
    assert admin("restart", "-n", where, "--yes").err == "nothing to do: no pod needs a restart\n"


@pytest.fixture
def quota(mesh_cluster: MeshCluster, api: Api) -> str:
    """An enrolled namespace whose quota requires limits."""
    where = mesh_cluster.enroll("enforce")
    spec = {"hard": {"limits.cpu": "4", "limits.memory": "4Gi"}}
    api.create(core("ResourceQuota", "all", where, spec=spec))
    wait_for(
        lambda: api.get("ResourceQuota", "all", where).get("status", {}).get("used"),
        why="the quota to be counted",
    )
    return where


def test_limits_that_a_quota_requires_are_set_by_the_command_that_is_printed(
    mesh_cluster: MeshCluster, admin: Command, api: Api, quota: str
) -> None:
    found = admin("doctor", "-n", quota, "-o", "json", codes=[1]).data["findings"]
    cause = next(one for one in found if one["id"] == "quota")
    assert "requires limits that a container lacks" in cause["evidence"]
    assert "linkerd-proxy" in cause["evidence"]
    because = {one["id"]: one["because"] for one in found}
    assert because["probe-unmeshed"] == ["quota"]
    typed = cause["fix"].partition("LimitRange: ")[2]
    echoed, _, kubectl = typed.partition(" | kubectl ")
    mesh_cluster.plane.kubectl(*kubectl.split(), input=shlex.split(echoed)[1])
    assert admin("doctor", "-n", quota).err == ""
    limits = {"requests": {"cpu": "10m"}, "limits": {"cpu": "10m", "memory": "16Mi"}}
    containers = [{"name": "app", "image": "r.example.com/shop:1", "resources": limits}]
    assert is_meshed(api.create(pod(quota, "shop", containers=containers)))


def test_before_an_install_the_real_api_server_is_called(
    mesh_cluster: MeshCluster, admin: Command
) -> None:
    checks = admin("doctor", "--pre", "-o", "json", codes=[0, 1]).data["checks"]
    results: dict[str, set[str]] = {}
    for one in checks:
        results.setdefault(one["id"], set()).add(one["result"])
    assert results["kubernetes"] == results["mesh"] == results["rights"] == {"ok"}
    assert results["order"] == {"ok"}
    reader = command.as_account(mesh_cluster.plane, "mendix-mesh-doctor", name="before")
    found = {one["id"]: one for one in
             reader("doctor", "--pre", "-o", "json", codes=[0, 1]).data["checks"]}  # fmt: skip
    assert found["rights"]["result"] == "error"
    assert "clusterroles.rbac.authorization.k8s.io" in found["rights"]["text"]
