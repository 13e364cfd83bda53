"""docs/upgrade.md, in an emergency: GitOps tools, controllers that wait, and pods from a backup.

Argo CD, Flux and Velero are not part of the tests. Their objects are: those of docs/gitops.md with
the tools' own CRDs, and pods as Velero restores them.
"""

import contextlib
import copy
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import guides
from tests.cluster.api import Api, Json, StatusError
from tests.cluster.guides import Reader
from tests.cluster.istio import IstioCluster
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.workloads import pod, ready_pods, workload

#: What Velero removes of a pod that it restores (pkg/restore/actions/pod_action.go and restore.go).
RESET = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation",
         "ownerReferences")  # fmt: skip


@pytest.fixture
def reader(mesh_cluster: MeshCluster, tmp_path: Path) -> Reader:
    return Reader(mesh_cluster.plane, tmp_path, mesh_cluster.enroll("enforce"))


@pytest.fixture
def tools(mesh_cluster: MeshCluster, reader: Reader, gitops: None) -> Iterator[None]:
    """The objects of Argo CD and Flux that manage the release, from the guide."""
    plane, api = mesh_cluster.plane, mesh_cluster.api
    for name in ("argocd", "flux-system"):
        with contextlib.suppress(StatusError):
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    # What `flux bootstrap` creates. It applies the HelmRelease.
    source = {"kind": "GitRepository", "name": "flux-system"}
    spec = {"interval": "10m", "path": "./clusters/one", "prune": True, "sourceRef": source}
    api.create({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                "metadata": {"name": "flux-system", "namespace": "flux-system"},
                "spec": spec})  # fmt: skip
    for tool in ("Argo CD", "Flux"):
        (command,) = guides.commands("gitops.md", tool)
        # kubectl rejects fields that the CRDs do not have.
        reader.run(command)
    yield
    # Argo CD removes its finalizer itself.
    free = {"metadata": {"finalizers": None}}
    api.patch("Application", "mendix-mesh", "argocd", free)
    level = "pod-security.kubernetes.io/enforce-"
    plane.kubectl("label", "namespace", "mendix-mesh", level)


def test_a_gitops_tool_is_stopped_before_enforcement_is_lifted(
    mesh_cluster: MeshCluster, reader: Reader, tools: None
) -> None:
    api = mesh_cluster.api
    argo, flux = guides.commands("upgrade.md", "With GitOps")
    before = api.get("Application", "mendix-mesh", "argocd")["spec"]["syncPolicy"]
    assert before.pop("automated") == {"prune": True, "selfHeal": True}
    try:
        reader.run(argo)
        assert api.get("Application", "mendix-mesh", "argocd")["spec"]["syncPolicy"] == before
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
