"""docs/upgrade.md, in an emergency: GitOps tools, controllers that wait, and pods from a backup.

Argo CD, Flux and Velero are not part of the tests. Their objects are, with the fields that the
commands change, and pods as Velero restores them.
"""

import contextlib
import copy
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.cluster import guides
from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.guides import Reader
from tests.cluster.istio import IstioCluster
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.workloads import pod, ready_pods, workload

#: Kind, plural, group, version, and namespace of the objects of the GitOps tools.
TOOLS = (
    ("Application", "applications", "argoproj.io", "v1alpha1", "argocd"),
    ("Kustomization", "kustomizations", "kustomize.toolkit.fluxcd.io", "v1", "flux-system"),
    ("HelmRelease", "helmreleases", "helm.toolkit.fluxcd.io", "v2", "mendix-mesh"),
)
NAMES = {"Kustomization": "flux-system"}
#: What Velero removes of a pod that it restores (pkg/restore/actions/pod_action.go and restore.go).
RESET = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation",
         "ownerReferences")  # fmt: skip


def definition(kind: str, plural: str, group: str, version: str) -> Json:
    """The CRD of a kind, with any fields."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [
                {"name": version, "served": True, "storage": True,
                 "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }  # fmt: skip


@pytest.fixture
def reader(mesh_cluster: MeshCluster, tmp_path: Path) -> Reader:
    return Reader(mesh_cluster.plane, tmp_path, mesh_cluster.enroll("enforce"))


@pytest.fixture
def tools(mesh_cluster: MeshCluster) -> Iterator[None]:
    """The objects of Argo CD and Flux that manage the release."""
    plane, api = mesh_cluster.plane, mesh_cluster.api
    for kind, plural, group, version, namespace in TOOLS:
        api.create(definition(kind, plural, group, version))
        with contextlib.suppress(StatusError):
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        plane.kubectl("wait", "--for=condition=Established", f"crd/{plural}.{group}")
        spec = {"syncPolicy": {"automated": {"selfHeal": True}}} if kind == "Application" else {}
        meta = {"name": NAMES.get(kind, "mendix-mesh"), "namespace": namespace}
        made = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": meta, "spec": spec}
        wait_for(partial(_is_created, api, made), why=f"the kind {kind}")
    yield
    for _, plural, group, *_ in TOOLS:
        api.delete("CustomResourceDefinition", f"{plural}.{group}")


def _is_created(api: Api, obj: Json) -> bool:
    """Return whether an object could be created. The API server knows a new kind after a moment."""
    try:
        api.create(obj)
    except (StatusError, LookupError):
        return False
    return True


def test_a_gitops_tool_is_stopped_before_enforcement_is_lifted(
    mesh_cluster: MeshCluster, reader: Reader, tools: None
) -> None:
    api = mesh_cluster.api
    argo, flux = guides.commands("upgrade.md", "With GitOps")
    try:
        reader.run(argo)
        assert api.get("Application", "mendix-mesh", "argocd")["spec"]["syncPolicy"] == {}
        mesh_cluster.release.upgrade()
        reader.run(flux)
        for kind, name, namespace in (
            ("Kustomization", "flux-system", "flux-system"),
            ("HelmRelease", "mendix-mesh", "mendix-mesh"),
        ):
            assert api.get(kind, name, namespace)["spec"]["suspend"] is True
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
            names = {one["metadata"]["name"] for one in api.list(kind)}
            assert not {"mendix-mesh", "00-mendix-mesh"} & names
    finally:
        mesh_cluster.release.upgrade()
    where = mesh_cluster.enroll("enforce")
    mesh_cluster.await_judge(where, "linkerd.enforce")


@pytest.mark.timeout(180)
def test_a_controller_that_waits_tries_again_at_once(
    mesh_cluster: MeshCluster, reader: Reader
) -> None:
    api, where = mesh_cluster.api, reader.of("NAMESPACE")
    mesh_cluster.await_judge(where, "linkerd.enforce")
    api.create(workload("Deployment", where, replicas=0))
    mesh_cluster.kubelet.pause()
    try:
        mesh_cluster.plane.kubectl("-n", where, "scale", "deployment/shop", "--replicas=1")
        # 5 ms, doubled each time: after 20 s, the controller waits for 20 s more.
        time.sleep(22)
    finally:
        mesh_cluster.kubelet.resume()
    (command,) = guides.commands("upgrade.md", "Controllers that wait")
    before = time.monotonic()
    reader.run(command)
    ready_pods(api, where, count=1)
    assert time.monotonic() - before < 6


def backup(api: Api, stored: Json) -> Json:
    """Delete a pod, and return it as Velero restores it."""
    made = copy.deepcopy(stored)
    meta, spec = made["metadata"], made["spec"]
    api.delete("Pod", meta["name"], meta["namespace"], grace=0)
    for field in RESET:
        meta.pop(field, None)
    meta.setdefault("labels", {})["velero.io/restore-name"] = "after-the-fire"
    made.pop("status", None)
    spec.pop("nodeName", None)
    token = "kube-api-access-"
    spec["volumes"] = [one for one in spec["volumes"] if not one["name"].startswith(token)]
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        mounts = container.get("volumeMounts") or ()
        container["volumeMounts"] = [one for one in mounts if not one["name"].startswith(token)]
    return made


@pytest.mark.parametrize("mesh", ["linkerd", "istio"])
def test_a_pod_with_a_sidecar_from_a_backup_is_denied(
    istio_cluster: IstioCluster, mesh: str
) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll("enforce", mesh=mesh)
    istio_cluster.await_judge(where, f"{mesh}.enforce")
    restored = backup(api, api.create(pod(where)))
    with pytest.raises(StatusError, match="proxy-brought"):
        api.create(restored)


def test_a_redirected_pod_of_ambient_mode_from_a_backup_is_denied(
    istio_cluster: IstioCluster,
) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll("enforce", mesh="ambient")
    istio_cluster.await_judge(where, "ambient.enforce")
    stored = api.create(pod(where))
    stored["metadata"].setdefault("annotations", {})["ambient.istio.io/redirection"] = "enabled"
    restored = backup(api, stored)
    with pytest.raises(StatusError, match="status-forged"):
        api.create(restored)
    del restored["metadata"]["annotations"]["ambient.istio.io/redirection"]
    api.create(restored)


def test_the_exemption_of_the_guide_admits_a_pod_from_a_backup(mesh_cluster: MeshCluster) -> None:
    page = (guides.ROOT / "docs" / "install.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (block,) = (one for one in blocks if "velero.io/restore-name" in one)
    values: Json = yaml.load(block, yaml.BaseLoader)  # the day stays a text
    api, where = mesh_cluster.api, mesh_cluster.enroll("enforce")
    values["settings"]["exemptions"][0]["namespaces"] = [where]
    mesh_cluster.await_judge(where, "linkerd.enforce")
    restored = backup(api, api.create(pod(where)))

    def works() -> bool:
        try:
            api.create(restored, dry_run=True)
        except StatusError:
            return False
        return True

    with configured(mesh_cluster, values, works):
        api.create(restored)
