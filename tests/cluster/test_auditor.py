"""The auditor on the real API server, with only the rights that the chart gives it."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chart import helm
from tests.cluster import auditor, command, guides
from tests.cluster.api import Json, wait_for
from tests.cluster.auditor import PATIENCE, Auditor
from tests.cluster.certificates import Authority
from tests.cluster.mesh import MESH_LABEL, MeshCluster
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod, ready_pods, workload
from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import StatusError
from webhook.cluster.api.watch import Watch, WatchEvent

ACCOUNT = "mendix-mesh-watcher"


@pytest.fixture(scope="module")
def kubeconfig(mesh_cluster: MeshCluster) -> Path:
    """The chart's ServiceAccount, with only the chart's ClusterRole."""
    return command.as_account(mesh_cluster.plane, name=ACCOUNT).kubeconfig


@pytest.fixture(scope="module")
def watching(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    """The auditor. After its first scan, it scans only changed namespaces."""
    log = tmp_path_factory.mktemp("auditor") / "log"
    with auditor.running(kubeconfig, log, "--interval", "3600", "--events") as running:
        running.until("/readyz")
        yield running


def states(watching: Auditor, namespace: str) -> dict[str, float]:
    """The pods of a namespace by state, those that there are."""
    found = watching.samples("mendix_mesh_pods", namespace=namespace, mesh="linkerd")
    return {key: value for (key,), value in found.items() if value}


def events(cluster: MeshCluster, namespace: str) -> list[Json]:
    found = cluster.api.list("Event", namespace)
    return [one for one in found if one.get("reportingComponent") == "mendix-mesh"]


def test_metrics_and_events_follow_a_workload_out_of_the_mesh_and_into_it(
    mesh_cluster: MeshCluster, watching: Auditor
) -> None:
    namespace = mesh_cluster.plane.new_namespace("mendix")
    mesh_cluster.api.create(workload("Deployment", namespace))
    (old,) = ready_pods(mesh_cluster.api, namespace)
    assert states(watching, namespace) == {}
    mesh_cluster.relabel(namespace, "linkerd.enforce")
    wait_for(lambda: states(watching, namespace) == {"unmeshed": 1}, seconds=PATIENCE, why="it")
    ratio = watching.samples("mendix_mesh_coverage_ratio", namespace=namespace)
    assert ratio == {("linkerd",): 0}

    def made() -> dict[str, Json]:
        return {one["reason"]: one for one in events(mesh_cluster, namespace)}

    wait_for(made, why="an Event")
    (event,) = events(mesh_cluster, namespace)
    deployment = mesh_cluster.api.get("Deployment", "shop", namespace)
    assert event["involvedObject"]["uid"] == deployment["metadata"]["uid"]
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "NotMeshed", 1)
    assert event["message"].startswith("proxy-missing: ")
    described = mesh_cluster.plane.kubectl("describe", "deployment", "shop", "-n", namespace)
    assert "NotMeshed" in described.stdout

    mesh_cluster.api.delete("Pod", old["metadata"]["name"], namespace, grace=0)
    wait_for(lambda: states(watching, namespace) == {"meshed": 1}, seconds=PATIENCE, why="it")
    wait_for(lambda: "Meshed" in made(), why="the Event after the fix")
    assert made()["NotMeshed"]["count"] == 1
    assert made()["Meshed"]["type"] == "Normal"


def test_the_charts_rights_are_all_that_it_needs(watching: Auditor) -> None:
    """This test runs last, when a forbidden request would already be in the log."""
    reported = {line["event"] for line in watching.logged if line["level"] != "info"}
    # Linkerd's ConfigMaps do not exist. Everything else is readable.
    assert not reported & {
        "can't watch",
        "the audit failed",
        "event not created",
        "could not be read",
    }
    assert watching.samples("mendix_mesh_scans_total") == {("ok",): 1, ("failed",): 0}


@pytest.mark.timeout(300)
def test_it_outlives_the_api_server_and_what_that_forgets(
    plane: ControlPlane, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Use a cluster without the webhook: only labels show the enrollment."""
    with ControlPlane(tmp_path_factory.mktemp("restarted"), plane.binaries) as own:
        namespace = own.new_namespace("mendix", labels={MESH_LABEL: "linkerd"})
        own.api.create(pod(namespace))
        wait_for(
            lambda: own.api.get("Pod", "shop", namespace)["status"].get("phase") == "Running",
            why="the pod to run",
        )
        log = tmp_path / "log"
        with auditor.running(own.kubeconfig, log, "--interval", "3600") as running:
            running.until("/readyz")
            assert states(running, namespace) == {"unmeshed": 1}
            own.restart("kube-apiserver")
            second = pod(namespace)
            second["metadata"]["name"] = "second"
            own.api.create(second)
            wait_for(lambda: states(running, namespace) == {"unmeshed": 2}, seconds=150, why="it")
            running.until("/readyz")
            assert running.process.returncode is None
            assert running.events("can't watch")
            assert running.events("watches again")
        # It does not know events from before its start.
        watch = Watch(Cluster.connect(str(own.kubeconfig)), "/api/v1/pods")
        watch._version = "1"
        with pytest.raises(StatusError) as denied:
            next(watch.changes())
        assert denied.value.code == 410
        changes = watch.changes()
        assert next(changes) is None
        labels = {"metadata": {"labels": {"changed": "yes"}}}
        own.api.patch("Pod", "shop", namespace, labels)
        wait_for(lambda: next(changes) == WatchEvent(namespace, "shop"), why="the change")


def test_metrics_with_a_token_are_for_whom_the_chart_s_role_is_bound_to(
    mesh_cluster: MeshCluster, kubeconfig: Path, tmp_path: Path
) -> None:
    plane = mesh_cluster.plane
    rendered = helm.render({"auditor": {"metrics": {"authenticate": True}}})
    (reader,) = (one for one in rendered.of_kind("ClusterRole")
                 if one["metadata"]["name"] == "mendix-mesh-metrics-reader")  # fmt: skip
    (delegator,) = (one for one in rendered.of_kind("ClusterRoleBinding")
                    if one["roleRef"]["name"] == "system:auth-delegator")  # fmt: skip
    where = plane.new_namespace("monitoring")
    for obj in (reader, delegator):
        mesh_cluster.api.create(obj)
    for name in ("prometheus-k8s", "stranger"):
        plane.kubectl("-n", where, "create", "serviceaccount", name)
    binding = "mendix-mesh-metrics-reader"
    (line,) = [block for block in guides.commands("day-2.md", "The auditor") if binding in block]
    plane.kubectl(*line.replace("monitoring:", f"{where}:").split()[1:])
    authority = Authority("monitoring")
    cert, key = authority.issue("auditor", hosts=["127.0.0.1"]).write(tmp_path, "tls")
    options = ["--tls-listen", "127.0.0.1:0", "--authenticate-metrics"]
    files: list[str | Path] = ["--tls-cert-file", cert, "--tls-private-key-file", key]
    context = ssl.create_default_context(cadata=authority.pem.decode())
    try:
        with (
            auditor.running(kubeconfig, tmp_path / "log", *options, *files) as running,
            httpx.Client(verify=context) as client,
        ):
            running.until("/readyz")
            url = f"{running.https}/metrics"
            for name, code in (("prometheus-k8s", 200), ("stranger", 403)):
                token = plane.kubectl("-n", where, "create", "token", name).stdout.strip()
                answer = client.get(url, headers={"Authorization": f"Bearer {token}"})
                assert (name, answer.status_code) == (name, code)
            assert client.get(url).status_code == 401
    finally:
        for kind, name in (
            ("ClusterRole", binding),
            ("ClusterRoleBinding", binding),
            ("ClusterRoleBinding", delegator["metadata"]["name"]),
        ):
            mesh_cluster.api.delete(kind, name)
