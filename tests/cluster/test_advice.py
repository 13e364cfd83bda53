"""What commands print is true, and their advice works if it is followed, on a real cluster."""

import shlex

import pytest

from tests.cluster import command
from tests.cluster.api import Api, wait_for
from tests.cluster.command import Command
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.workloads import is_meshed, pod, ready_pods, workload
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests

POLICY = "config.linkerd.io/default-inbound-policy"
OURS = "00-mendix-mesh"
VALIDATING = "ValidatingWebhookConfiguration"


@pytest.fixture(scope="module")
def admin(mesh_cluster: MeshCluster) -> Command:
    return command.as_admin(mesh_cluster.plane)


@pytest.fixture
def api(mesh_cluster: MeshCluster) -> Api:
    return mesh_cluster.api


def row(printed: str, namespace: str) -> list[str]:
    return next(line.split() for line in printed.splitlines() if line.startswith(namespace))


@pytest.mark.parametrize("name", ["audit", "discover", "doctor", "dashboard"])
def test_a_namespace_that_does_not_exist_is_exit_code_2(
    mesh_cluster: MeshCluster, admin: Command, name: str
) -> None:
    there = mesh_cluster.plane.new_namespace("crm")
    options = ("--no-open",) if name == "dashboard" else ()
    done = admin(name, "-n", f"{there}x", *options, codes=[2])
    assert f"namespace {there}x does not exist; did you mean {there}?" in done.err


def test_all_namespaces_are_listed_and_only_mendixs_are_judged(
    mesh_cluster: MeshCluster, admin: Command, api: Api
) -> None:
    empty = mesh_cluster.enroll("enforce")
    stray = mesh_cluster.plane.new_namespace("stray")
    mendix.install_crds(api)
    api.create(manifests.operator_configuration(stray))
    api.create(pod(stray, "shop"))
    printed = admin("audit", "-A", codes=[1]).out
    assert row(printed, "kube-system")[1:] == ["-", "not", "enrolled", *["-"] * 8]
    assert row(printed, "mendix-mesh")[1:] == ["-", "not", "enrolled", *["-"] * 8]
    assert row(printed, empty)[-1] == "-"
    assert row(printed, stray)[2:] == ["not", "enrolled", "0%", "1", "0", "0", "1", "0", "0", "-"]
    assert "kube-system/" not in printed
    # The advice, as it is printed, for one that is enrolled by hand.
    done = admin("audit", "-n", stray, codes=[1]).out
    assert "enroll the namespace: " in done
    admin("audit", "-n", stray, "-l", "app=none", codes=[2])


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


def test_the_shared_mesh_is_found_for_a_named_namespace(
    mesh_cluster: MeshCluster, admin: Command, api: Api
) -> None:
    mendix.install_crds(api)
    meshes = {
        one["metadata"]["labels"].get(MESH_LABEL)
        for one in api.list("Namespace")
        if one["metadata"].get("labels", {}).get(MESH_LABEL)
    }
    where = mesh_cluster.plane.new_namespace("new")
    api.create(manifests.operator_configuration(where))
    shared = meshes | {"linkerd"} == {"linkerd"}
    if not meshes:
        mesh_cluster.enroll("warn")
    done = admin("discover", "--enroll", "-n", where, "--dry-run", codes=[0 if shared else 2])
    assert shared == (f"{where}: {MESH_LABEL}=linkerd, {MODE_LABEL}=warn" in done.err)


@pytest.fixture
def quota(mesh_cluster: MeshCluster, api: Api) -> str:
    """An enrolled namespace whose quota requires limits."""
    where = mesh_cluster.enroll("enforce")
    api.create(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "all", "namespace": where},
            "spec": {"hard": {"limits.cpu": "4", "limits.memory": "4Gi"}},
        }
    )
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


def test_a_lost_webhook_comes_before_what_it_causes_and_wait_waits_for_it(
    mesh_cluster: MeshCluster, admin: Command, api: Api
) -> None:
    where = mesh_cluster.enroll("enforce")
    before = api.get("MutatingWebhookConfiguration", OURS)
    api.delete("MutatingWebhookConfiguration", OURS)
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
        before["metadata"].pop(field, None)
    try:

        def consequence() -> bool:
            found = admin("doctor", "-n", where, "-o", "json", codes=[0, 1]).data["findings"]
            because = {one["id"]: one["because"] for one in found}
            return next(iter(because), "") == "webhook-missing" and (
                because.get("probe-unmeshed") == ["webhook-missing"]
            )

        wait_for(consequence, seconds=30, why="the cause and its consequence")
    finally:
        api.create(before)
    assert admin("doctor", "-n", where, "--wait", "60").code == 0


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


def test_a_global_operators_settings_are_found_where_it_is(
    mesh_cluster: MeshCluster, admin: Command, api: Api
) -> None:
    where = mesh_cluster.enroll("enforce")
    home = mesh_cluster.plane.new_namespace("main")
    mendix.install(api, home)
    mendix.install_crds(api)
    marks = {"linkerd.io/inject": "disabled"}
    managed = {"spec": {"managedNamespaces": [where], "runtimeDeploymentPodAnnotations": marks}}
    (configuration,) = api.list("OperatorConfiguration", home)
    name = configuration["metadata"]["name"]
    try:
        api.patch("OperatorConfiguration", name, home, managed)
        found = admin("doctor", "-n", where, "-o", "json", codes=[1]).data["findings"]
        (one,) = [one for one in found if one["id"] == "operator-settings"]
        assert one["evidence"].startswith(f"OperatorConfiguration {home}/{name}")
        doctor = command.as_account(mesh_cluster.plane, "mendix-mesh-doctor", name="doctor-only")
        found = doctor("doctor", "-n", where, "-o", "json", codes=[0, 1]).data
        assert "operator-settings" in {one["id"] for one in found["findings"]}
        assert "operator-settings" not in {one["id"] for one in found["unchecked"]}
    finally:
        api.delete("Deployment", "mendix-operator", home)


def test_after_an_uninstall_no_mode_is_shown(
    mesh_cluster: MeshCluster, admin: Command, api: Api
) -> None:
    where = mesh_cluster.enroll("enforce")
    mendix.install_crds(api)
    api.create(manifests.operator_configuration(where))
    before = api.get(VALIDATING, "mendix-mesh")
    api.delete(VALIDATING, "mendix-mesh")
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
        before["metadata"].pop(field, None)
    try:
        found = admin("discover", "-n", where, "-o", "json").data
        (one,) = found["namespaces"]
        assert (one["mesh"], one["mode"], found["installed"]) == ("linkerd", "", False)
        assert one["missing"][0] == "its labels have no effect: mendix-mesh is not installed"
    finally:
        api.create(before)
