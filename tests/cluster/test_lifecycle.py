"""Upgrade, outage, uninstallation and a late installation: none blocks or opens the cluster.

The module removes the shared release, and installs it again at its end.
"""

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart import helm
from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.helm import CHART, IMAGE, Release, Source
from tests.cluster.load import JOINS, OUTSIDE, Load
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.plane import KUBELET_ANNOTATION, is_ready
from tests.cluster.workloads import is_meshed, pod, pods_of, ready_pods, workload

WHERE = "mendix-mesh"
ENOUGH = 2500  # Pods, with two reviews for each of them.
# Chart and server as they were before: `git archive --format=tgz -9 COMMIT charts/mendix-mesh
# webhook`. The last release's, once there is one.
PREVIOUS = Path(__file__).parent / "previous" / "89e275b.tgz"
AMBIENT = "istio.io/dataplane-mode"


def opted_in(cluster: MeshCluster, namespace: str) -> bool:
    """Whether pods of an ambient namespace are opted in."""
    stored = cluster.api.create(pod(namespace, "probe"), dry_run=True)
    return bool(stored["metadata"].get("labels", {}).get(AMBIENT) == "ambient")


@pytest.fixture(scope="module")
def cluster(mesh_cluster: MeshCluster) -> Iterator[MeshCluster]:
    """The cluster without mendix-mesh."""
    mesh_cluster.release.uninstall(at_once=True)
    try:
        yield mesh_cluster
    finally:
        mesh_cluster.release.install()
        mesh_cluster.kubelet.wait_ready(2)
        mesh_cluster.await_judge(mesh_cluster.enroll("enforce"), "linkerd.enforce")


@contextlib.contextmanager
def installed(
    cluster: MeshCluster, *, chart: Path = CHART, tag: str = "", source: Source = "secret"
) -> Iterator[Release]:
    """A release in the namespace of the shared one. It is removed afterwards.

    It works: a pod outside the mesh is denied.
    """
    release = Release(cluster.plane, chart=chart, source=source)
    try:
        release.install({"image": {"tag": tag}})
        cluster.kubelet.wait_ready(2)
        cluster.await_judge(cluster.enroll("enforce", mesh="ambient"), "ambient.enforce")
        yield release
    finally:
        if "mendix-mesh" in cluster.plane.helm("list", "--short", f"--namespace={WHERE}").stdout:
            release.uninstall(at_once=True)


def trees(cluster: MeshCluster) -> set[str]:
    """The source trees that the running servers are from."""
    found = set()
    for process in cluster.kubelet.processes.values():
        # A pod that ends meanwhile is not running.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            environment = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
            found |= {Path(e).name for e in environment if e.startswith("PYTHONPATH=")}
    return found


@pytest.mark.timeout(400)
def test_an_upgrade_from_the_previous_version_and_back_loses_no_review(
    cluster: MeshCluster, tmp_path: Path
) -> None:
    with tarfile.open(PREVIOUS) as archive:
        archive.extractall(tmp_path / "previous", filter="data")
    cluster.kubelet.trees = {"mendix-mesh:previous": tmp_path / "previous"}
    chart = tmp_path / "previous" / "charts" / "mendix-mesh"
    with installed(cluster, chart=chart, tag="previous") as release:
        wait_for(lambda: trees(cluster) == {"previous"}, why="the previous servers alone")
        where = cluster.enroll("enforce", mesh="ambient")
        wait_for(lambda: opted_in(cluster, where), why="pods to be opted in")
        with Load(cluster.plane, where).running() as load:
            load.await_total(500)
            release.chart = CHART
            release.upgrade()
            cluster.kubelet.wait_ready(2)
            wait_for(lambda: trees(cluster) == {CHART.parents[1].name}, why="the new servers")
            upgraded = load.total
            load.await_total(upgraded + 500)
            cluster.plane.helm("rollback", "mendix-mesh", f"--namespace={WHERE}", "--wait")
            wait_for(lambda: trees(cluster) == {"previous"}, why="the old servers")
            load.await_total(max(ENOUGH, load.total + 500))
    print(f"\nupgrade and rollback: {load.total} pods, {2 * load.total} reviews: {load.answers}")
    assert set(load.answers) == {JOINS}


@pytest.mark.timeout(240)
def test_the_charts_own_certificate_is_kept_and_an_uninstallation_blocks_and_leaves_nothing(
    cluster: MeshCluster,
) -> None:
    objects = [
        obj
        for obj in yaml.safe_load_all(
            cluster.plane.helm(
                *("template", "mendix-mesh", str(CHART), f"--namespace={WHERE}"),
                *("--set", f"tls.source=helm,image.repository={IMAGE}"),
            ).stdout
        )
        if "helm.sh/hook" not in obj["metadata"].get("annotations", {})
    ]
    where = cluster.enroll("enforce", mesh="ambient")
    # The one of other tests. Helm would not overwrite it.
    cluster.api.delete("Secret", "mendix-mesh-tls", WHERE)
    with installed(cluster, source="helm") as release:
        made = cluster.api.get("Secret", "mendix-mesh-tls", WHERE)["data"]
        release.upgrade({"timeoutSeconds": 4})
        assert cluster.api.get("Secret", "mendix-mesh-tls", WHERE)["data"] == made
        assert {
            entry["clientConfig"]["caBundle"]
            for kind, name in (("Mutating", "00-mendix-mesh"), ("Validating", "mendix-mesh"))
            for entry in cluster.api.get(f"{kind}WebhookConfiguration", name)["webhooks"]
        } == {made["ca.crt"]}
        wait_for(lambda: opted_in(cluster, where), why="pods to be opted in")
        with Load(cluster.plane, where).running() as load:
            load.await_total(500)
            assert set(load.answers) == {JOINS}
            release.uninstall()
            load.await_total(load.total + 300)
    print(f"\nuninstallation: {load.total} pods: {load.answers}")
    assert set(load.answers) == {JOINS, OUTSIDE}
    labels = ",".join(f"{key}={value}" for key, value in release.labels.items())
    kinds = {*(obj["kind"] for obj in objects), "Pod", "ReplicaSet", "EndpointSlice"}
    assert len(kinds) > 8
    for kind in kinds:
        wait_for(
            lambda kind=kind: not cluster.api.list(kind, labels=labels),  # type: ignore[misc]
            why=f"{kind} of the release to be gone",
        )


def test_pods_that_were_there_before_stay_and_only_new_ones_are_judged(
    cluster: MeshCluster,
) -> None:
    api = cluster.api
    # No injector, as in a cluster whose mesh is not complete: every pod is outside.
    cluster.injector.stop()
    try:
        where = cluster.plane.new_namespace(
            "full", labels={MESH_LABEL: "linkerd", MODE_LABEL: "enforce"}
        )
        api.create(workload("Deployment", where, replicas=3))
        api.create(pod(where, "bare", hostNetwork=True))
        before = ready_pods(api, where, count=3)
        assert not any(map(is_meshed, before))
    finally:
        cluster.injector.restart()
    with installed(cluster):
        # They stay, and can be changed and deleted like any other.
        names = {one["metadata"]["name"] for one in before}
        assert {one["metadata"]["name"] for one in pods_of(api, where)} == names
        patch = {"metadata": {"labels": {"team": "a"}, "finalizers": ["example.com/hold"]}}
        for name in (*names, "bare"):
            api.patch("Pod", name, where, patch)
            api.patch("Pod", name, where, {"metadata": {"finalizers": None}})
        # New pods are judged: an offender is denied, and scaled-up pods join.
        with pytest.raises(StatusError, match="host-network"):
            api.create(pod(where, "other", hostNetwork=True))
        api.patch("Deployment", "shop", where, {"spec": {"replicas": 5}})
        after = ready_pods(api, where, count=5)
        assert {is_meshed(one) for one in after if one["metadata"]["name"] in names} == {False}
        assert {is_meshed(one) for one in after if one["metadata"]["name"] not in names} == {True}
        # And a restart of the workload brings in the rest.
        cluster.plane.kubectl("rollout", "restart", "deployment/shop", f"--namespace={where}")

        def all_meshed() -> bool:
            found = pods_of(api, where)
            return len(found) == 5 and all(is_ready(one) and is_meshed(one) for one in found)

        wait_for(all_meshed, seconds=60, why="all five pods to be meshed")


def test_with_every_replica_down_only_enforced_namespaces_wait_and_all_comes_back(
    cluster: MeshCluster,
) -> None:
    api = cluster.api
    enforced = cluster.enroll("enforce")
    watched = cluster.enroll("warn")
    outside = cluster.plane.new_namespace("outside")
    # These labels do not matter: the namespaces are never reviewed.
    ours = ("kube-system", WHERE)
    labels = {MESH_LABEL: "linkerd", MODE_LABEL: "enforce"}
    with installed(cluster):
        for name in ours:
            api.patch("Namespace", name, None, {"metadata": {"labels": labels}})
        try:
            api.create(workload("Deployment", enforced, replicas=2))
            ready_pods(api, enforced, count=2)
            cluster.kubelet.pause()
            # Every server's pod is lost at once, as with the nodes that they ran on.
            lost = {one["metadata"]["name"] for one in api.list("Pod", WHERE)}
            for name in lost:
                api.delete("Pod", name, WHERE, grace=0)
            wait_for(
                lambda: (
                    len({one["metadata"]["name"] for one in api.list("Pod", WHERE)} - lost)
                    == len(lost)
                ),
                why="the Deployments to create new pods of ours, which must not be denied",
            )
            with pytest.raises(StatusError, match=r"no endpoints available|connection refused"):
                api.create(pod(enforced, "early"))
            for name in (*ours, outside, watched):
                api.create(pod(name, "anything"))
                api.delete("Pod", "anything", name, grace=0)
            # Running pods can be changed, and lost pods wait.
            (one, other) = pods_of(api, enforced)
            for finalizers in (["example.com/hold"], []):
                patch = {"metadata": {"finalizers": finalizers}}
                api.patch("Pod", one["metadata"]["name"], enforced, patch)
            api.delete("Pod", other["metadata"]["name"], enforced, grace=0)
            wait_for(
                lambda: api.list("Event", enforced, fields="reason=FailedCreate"),
                why="the ReplicaSet's pod to be denied",
            )
            # When the servers come back, everything recovers by itself.
            cluster.kubelet.resume()
            found = ready_pods(api, enforced, count=2, seconds=90)
            assert all(map(is_meshed, found))
            with pytest.raises(StatusError, match="host-network"):
                api.create(pod(enforced, "late", hostNetwork=True))
        finally:
            for name in ours:
                none = {"metadata": {"labels": dict.fromkeys(labels)}}
                api.patch("Namespace", name, None, none)


def test_a_gitops_tool_installs_without_helm_and_applying_again_changes_nothing(
    cluster: MeshCluster,
) -> None:
    """As Argo CD does with ServerSideApply=true: no hooks of Helm, and the same over and over."""
    api, plane = cluster.api, cluster.plane
    release = Release(plane)
    release.renew_certificate()
    values = {
        "tls": {"source": "secret", "caBundle": release.authority.pem.decode()},
        "podAnnotations": {KUBELET_ANNOTATION: "server"},
        "preStopSleepSeconds": 1,
    }
    objects = [found for found in helm.render(values).objects if found["kind"] != "Pod"]
    text = yaml.safe_dump_all(objects)
    options = ("--server-side", "--field-manager=argocd-controller", "--filename=-")

    def versions() -> list[str]:
        found = (
            api.get(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
            for one in objects
        )
        return [_written(one) for one in found]

    plane.kubectl("apply", *options, "--validate=strict", input=text)
    try:
        cluster.kubelet.wait_ready(2)
        cluster.await_judge(cluster.enroll("enforce"), "linkerd.enforce")
        first = versions()
        plane.kubectl("apply", *options, "--validate=strict", input=text)
        assert versions() == first
        # Raises an exception with the difference, if there is one.
        plane.kubectl("diff", *options, input=text)
    finally:
        plane.kubectl("delete", "--filename=-", input=text)
        wait_for(lambda: not api.list("Pod", WHERE), seconds=60, why="the pods to be gone")


def _written(obj: Json) -> str:
    """Return a value that changes with every write. For objects with a status, only of the spec.

    A Deployment's generation counts these writes.
    """
    metadata = obj["metadata"]
    version = metadata.get("generation") if "status" in obj else metadata["resourceVersion"]
    return f"{metadata['uid']} {version}"
