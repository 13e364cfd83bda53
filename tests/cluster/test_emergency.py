"""docs/upgrade.md, in an emergency: GitOps tools, controllers that wait, and pods from a backup.

Argo CD, Flux and Velero are not part of the tests. Their objects are: those of docs/gitops.md with
the tools' own CRDs, and pods as Velero restores them.
"""

import copy
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import guides
from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.guides import Reader
from tests.cluster.istio import IstioCluster
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.workloads import annotations_of, pod, ready_pods, workload
from tests.fixtures.changes import RECORD

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
        api.ensure(core("Namespace", name))
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


def test_a_controller_that_waits_tries_again_at_once(
    mesh_cluster: MeshCluster, reader: Reader
) -> None:
    api, where = mesh_cluster.api, reader.of("NAMESPACE")
    mesh_cluster.await_judge(where, "linkerd.enforce")
    api.create(workload("Deployment", where, replicas=0))
    mesh_cluster.injector.stop()
    try:
        mesh_cluster.plane.kubectl("-n", where, "scale", "deployment/shop", "--replicas=1")
        # 5 ms, doubled each time: after the 13th denial, the controller waits for 20 s.
        wait_for(lambda: any(e["count"] > 12 for e in api.list("Event", where)), why="13 denials")
        before = time.monotonic()
    finally:
        mesh_cluster.injector.restart()
    (command,) = guides.commands("upgrade.md", "Controllers that wait")
    reader.run(command)
    ready_pods(api, where, count=1)
    assert time.monotonic() - before < 16


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


def test_a_pod_with_a_sidecar_from_a_backup_needs_the_exemption_of_the_guide(
    istio_cluster: IstioCluster,
) -> None:
    """Istio's injector injects such a pod again."""
    page = (guides.ROOT / "docs" / "install.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (block,) = (one for one in blocks if "velero.io/restore-name" in one)
    values: Json = yaml.load(block, yaml.BaseLoader)  # the day stays a text
    api, restored = istio_cluster.api, []
    exempt = values["settings"]["exemptions"][0]["namespaces"] = []
    values["settings"]["exemptions"][0]["until"] = "9999-12-31"  # the page's day will be over
    for mesh in ("linkerd", "istio"):
        exempt.append(istio_cluster.enroll("enforce", mesh=mesh))
        istio_cluster.await_judge(exempt[-1], f"{mesh}.enforce")
        restored.append(backup(api, api.create(pod(exempt[-1]))))
        assert "proxy-brought" in api.denial(restored[-1])
    with configured(istio_cluster, values, lambda: not any(map(api.denial, restored))):
        for one in restored:
            again = api.create(one)
            before, names = ([c["name"] for c in made["spec"]["initContainers"]]
                             for made in (one, again))  # fmt: skip
            assert names == before
            assert annotations_of(again)[RECORD].startswith(
                f"proxy-brought spec.initContainers[{names[0]}]"
            )
    # They were admitted, and stay when the exemption ends.
    for where in exempt:
        api.patch("Pod", "shop", where, {"metadata": {"labels": {"team": "shop"}}})
