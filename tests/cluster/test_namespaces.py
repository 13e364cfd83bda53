"""Labels of namespaces on a real API server: denials, who may leave, and what needs the server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import auditor
from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster, configured
from tests.cluster.workloads import pod, ready_pods, workload

ARGO = "system:serviceaccount:argocd:controller"
OTHER = "system:serviceaccount:shop:deployer"
LEAVE = {"settings": {"leaveEnforcement": {"groups": ["platform"], "users": [ARGO]}}}


def relabel(api: Api, name: str, *, dry_run: bool = False, **labels: str | None) -> Json:
    given = {f"mendix-mesh.io/{key}": value for key, value in labels.items()}
    patch = {"metadata": {"labels": given}}
    return api.patch("Namespace", name, None, patch, dry_run=dry_run)


def left(cluster: MeshCluster, name: str) -> list[Json]:
    """Return the audit log's entries of changes by which a namespace left enforcement."""
    found = []
    for event in cluster.plane.audit(resource="namespaces", name=name):
        notes = event.get("annotations", {})
        mine = {k.rpartition("/")[2]: v for k, v in notes.items() if ".mendix-mesh.io/" in k}
        if "left" in mine:
            found.append({"user": event["user"]["username"], **mine})
    return found


def test_a_misspelled_mesh_is_denied_with_kubectl(mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.plane.new_namespace()
    done = mesh_cluster.plane.kubectl(
        "label", "namespace", where, f"{MESH_LABEL}=linkred", check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        'Error from server (Forbidden): admission webhook "namespaces.mendix-mesh.io" denied the '
        f"request: namespace {where}: unknown mesh `linkred` - at "
        "`metadata.labels[mendix-mesh.io/mesh]`; did you mean `linkerd`? Allowed: ambient, "
        "istio, linkerd\n"
    )


def test_a_misspelled_mode_is_denied_in_every_way_to_write_it(
    mesh_cluster: MeshCluster, api: Api
) -> None:
    where = mesh_cluster.enroll("warn")
    words = r"did you mean `enforce`\? Allowed: audit, enforce, warn"
    with pytest.raises(StatusError, match=words):
        relabel(api, where, mode="enforced")
    whole = api.get("Namespace", where)
    whole["metadata"]["labels"][MODE_LABEL] = "enforced"
    with pytest.raises(StatusError, match=words):
        api.replace(whole)
    with pytest.raises(StatusError, match=words):
        api.replace(whole, subresource="status")
    applied = {"apiVersion": "v1", "kind": "Namespace", "metadata": whole["metadata"]}
    del applied["metadata"]["managedFields"]
    with pytest.raises(StatusError, match=words):
        api.patch("Namespace", where, None, applied, how="apply")
    with pytest.raises(StatusError, match=words):
        api.create(core("Namespace", "new", labels={MESH_LABEL: "linkerd", MODE_LABEL: "enforced"}))


def test_a_bad_value_from_before_us_can_be_fixed(mesh_cluster: MeshCluster, api: Api) -> None:
    where = mesh_cluster.enroll("wran", mesh="linkred")
    relabel(api, where, mode="warn")
    relabel(api, where, mesh="linkerd")
    assert left(mesh_cluster, where)[0]["for"] == "unknown, warn"


def test_who_leaves_enforcement_is_in_the_audit_log(mesh_cluster: MeshCluster, api: Api) -> None:
    where = mesh_cluster.enroll()
    relabel(api, where, mode="warn")
    assert api.warnings == [
        "mendix-mesh: pods outside the linkerd mesh are no longer denied; the namespace is now warn"
    ]
    relabel(api, where, mode="enforce")
    relabel(api, where, mesh=None)
    found = left(mesh_cluster, where)
    assert [(one["left"], one["for"]) for one in found] == [
        ("linkerd, enforce", "linkerd, warn"),
        ("linkerd, enforce", "not enrolled"),
    ]
    assert all(one["user"] for one in found)


@pytest.fixture(scope="module")
def labellers(mesh_cluster: MeshCluster) -> dict[str, Api]:
    """Users who may change namespaces, by name. One of them is in the platform group."""
    api, plane = mesh_cluster.api, mesh_cluster.plane
    rules = [{"apiGroups": [""], "resources": ["namespaces", "namespaces/status"],
              "verbs": ["get", "patch", "update"]}]  # fmt: skip
    meta = {"name": "labeller"}
    version = "rbac.authorization.k8s.io/v1"
    api.create({"apiVersion": version, "kind": "ClusterRole", "metadata": meta, "rules": rules})
    subjects = [{"kind": "User", "name": name} for name in (ARGO, OTHER, "carol")]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "labeller"}
    api.create({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": meta,
                "subjects": subjects, "roleRef": reference})  # fmt: skip
    return {
        ARGO: plane.user(ARGO, ["system:serviceaccounts"]),
        OTHER: plane.user(OTHER, ["system:serviceaccounts"]),
        "carol": plane.user("carol", ["platform"]),
    }


def test_leaving_can_be_kept_to_named_groups_and_users(
    mesh_cluster: MeshCluster, labellers: dict[str, Api]
) -> None:
    probe = mesh_cluster.enroll()

    def is_kept() -> bool:
        try:
            relabel(labellers[OTHER], probe, dry_run=True, mode="warn")
        except StatusError:
            return True
        return False

    with configured(mesh_cluster, LEAVE, is_kept):
        where = mesh_cluster.enroll()
        denied = (
            rf"namespace {where}: the namespace would leave enforcement \(mesh and mode "
            rf"now: linkerd, enforce; after the change: .*\); settings.leaveEnforcement "
            rf"allows this only for group platform, user {ARGO}"
        )
        for key, value in (("mode", "warn"), ("mesh", None), ("mesh", "istio")):
            with pytest.raises(StatusError, match=denied):
                relabel(labellers[OTHER], where, dry_run=False, **{key: value})
        whole = labellers[OTHER].get("Namespace", where)
        del whole["metadata"]["labels"][MESH_LABEL]
        with pytest.raises(StatusError, match=denied):
            labellers[OTHER].replace(whole, subresource="status")
        for user in (ARGO, "carol"):
            relabel(labellers[user], where, mode="audit")
            # Back in is everybody's.
            relabel(labellers[OTHER], where, mode="enforce")
        relabel(mesh_cluster.api, where, mode="warn")  # system:masters
        found = [(one["user"], one["verdict"]) for one in left(mesh_cluster, where)]
        assert found == [
            *[(OTHER, "denied")] * 4,
            (ARGO, "warned"),
            ("carol", "warned"),
            (found[-1][0], "warned"),
        ]


def test_while_we_are_down_only_a_change_of_an_enforced_namespaces_labels_waits(
    mesh_cluster: MeshCluster, api: Api
) -> None:
    enforced, watching = mesh_cluster.enroll(), mesh_cluster.enroll("warn")
    plain, ending = mesh_cluster.plane.new_namespace(), mesh_cluster.enroll()
    held = {"metadata": {"finalizers": ["example.com/held"]}}
    api.patch("Namespace", ending, None, held)
    mesh_cluster.kubelet.pause()
    try:
        with pytest.raises(StatusError, match=r"failed calling webhook \"namespaces\.enforced\."):
            relabel(api, enforced, mode="warn")
        # Everything else continues, also what we would have judged.
        api.patch("Namespace", enforced, None, {"metadata": {"labels": {"team": "shop"}}})
        annotated: Json = {"metadata": {"annotations": {"a": "b"}, "finalizers": ["example.com/x"]}}
        api.patch("Namespace", enforced, None, annotated)
        api.patch("Namespace", enforced, None, {"metadata": {"finalizers": None}})
        relabel(api, watching, mode="enforce")
        relabel(api, plain, mesh="linkerd")
        api.create(core("Namespace", "born-in-an-outage", labels={MESH_LABEL: "linkerd"}))
        api.delete("Namespace", ending)
        # A deletion is not reviewed, even with these labels.
        relabel(api, ending, mesh=None)
        api.patch("Namespace", ending, None, {"metadata": {"finalizers": None}})
        wait_for(lambda: not api.exists("Namespace", ending), why="the namespace to be gone")
    finally:
        mesh_cluster.kubelet.resume()
    relabel(api, enforced, mode="warn")


def test_in_an_emergency_the_line_of_the_notes_opens_this_gate_too(
    mesh_cluster: MeshCluster, api: Api
) -> None:
    where = mesh_cluster.enroll()
    mesh_cluster.kubelet.pause()
    try:
        mesh_cluster.plane.kubectl(
            "delete",
            "validatingwebhookconfiguration/mendix-mesh",
            "mutatingwebhookconfiguration/00-mendix-mesh",
        )
        try:
            wait_for(lambda: _can(api, where), why="labels to be free")
        finally:
            # With helm, because the object belongs to it: helm would not overwrite another one.
            mesh_cluster.release.upgrade(wait=False)
    finally:
        mesh_cluster.kubelet.resume()


def _can(api: Api, where: str) -> bool:
    try:
        relabel(api, where, mode="warn")
    except StatusError:
        return False
    return True


def test_a_caller_who_is_not_known_gets_numbers_of_enrolled_namespaces_only(
    mesh_cluster: MeshCluster, api: Api, tmp_path: Path
) -> None:
    where = mesh_cluster.plane.new_namespace("mendix")
    api.create(pod(where, "debug"))
    audit = f"mendix-mesh audit -n {where} shows which pods are outside the mesh"
    with auditor.called(mesh_cluster.plane, tmp_path, limited=False):
        relabel(api, where, mesh="linkerd", mode="warn")
        assert api.warnings == [audit]
        # From now on it is enrolled.
        relabel(api, where, mode="audit")
        relabel(api, where, mode="warn")
        assert api.warnings == [
            f"1 of 1 pods in {where} are outside the linkerd mesh; mendix-mesh restart -n {where}",
            "1 pod: proxy-missing",
        ]


@pytest.fixture(scope="module")
def labelled(mesh_cluster: MeshCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The auditor is called when a namespace is labelled."""
    with auditor.called(mesh_cluster.plane, tmp_path_factory.mktemp("labelled")):
        yield


def test_who_labels_a_namespace_is_shown_the_pods_that_lack_the_mesh(
    mesh_cluster: MeshCluster, api: Api, labelled: None
) -> None:
    plane = mesh_cluster.plane
    where = plane.new_namespace("mendix")
    made = workload("Deployment", where)
    made["spec"]["replicas"] = 3
    api.create(made)
    api.create(pod(where, "debug", hostNetwork=True))
    names = sorted(one["metadata"]["name"] for one in ready_pods(api, where, count=3))
    for arguments in (("--dry-run=server",), ()):
        done = plane.kubectl("label", "namespace", where, f"{MESH_LABEL}=linkerd",
                             f"{MODE_LABEL}=warn", *arguments)  # fmt: skip
        assert done.stderr.splitlines() == [
            f"Warning: 4 of 4 pods in {where} are outside the linkerd mesh; mendix-mesh restart "
            f"-n {where}",
            f"Warning: {names[0]} and 2 more: proxy-missing",
            "Warning: debug: host-network",
        ]
        assert f"namespace/{where} labeled" in done.stdout
    # From warn to enforce is stricter, and back again is not.
    relabel(api, where, mode="enforce")
    assert api.warnings[0].startswith("4 of 4 pods")
    relabel(api, where, mode="warn")
    assert not any("4 of 4 pods" in text for text in api.warnings)
    relabel(api, where, mode="audit")
    assert api.warnings == []


def test_the_auditor_is_called_for_what_the_chart_reviews(labelled: None, api: Api) -> None:
    relabel(api, "kube-system", dry_run=True, mesh="linkerd")
    assert not any("outside the linkerd mesh" in text for text in api.warnings)
