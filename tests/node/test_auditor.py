"""The auditor's pod on a real node, with the chart's ServiceAccount: its output and its clients."""

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.api import Json, wait_for
from tests.cluster.auditor import samples
from tests.cluster.plane import is_ready
from tests.cluster.process import Process
from tests.cluster.workloads import pod
from tests.node import settings
from tests.node.installed import (
    AUDITOR,
    ENROLLED,
    NAMESPACE,
    NodeCluster,
    is_reviewed,
    served_certificate,
)

pytestmark = pytest.mark.timeout(300)

FORWARDED = "http://localhost:8081"
FINALIZER = "tests.mendix-mesh.io/held"
BLIND = "could not be checked"

Runs = Callable[[str, str], Json]


@pytest.fixture
def runs(nodes: NodeCluster) -> Iterator[Runs]:
    """Run a bare pod in a namespace until the test ends. Nodes with such pods are not drained."""
    api = nodes.api
    made: list[tuple[str, str]] = []

    def run(namespace: str, name: str) -> Json:
        container = {"name": "app", "image": settings.PAUSE, "imagePullPolicy": "Never"}
        api.create(pod(namespace, name, containers=[container]))
        made.append((namespace, name))

        def ready() -> Json | None:
            found = api.get("Pod", name, namespace)
            return found if is_ready(found) else None

        return wait_for(ready, seconds=60, why=f"{name} to run")

    yield run
    for namespace, name in made:
        api.delete("Pod", name, namespace, grace=0)


def at_its_service(nodes: NodeCluster, port: int, path: str, **headers: str) -> httpx.Response:
    """Send a request to the cluster IP of its Service."""
    address = nodes.api.get("Service", AUDITOR, NAMESPACE)["spec"]["clusterIP"]
    # kube-proxy hears of a new pod last.
    patient = httpx.HTTPTransport(retries=5)
    with httpx.Client(transport=patient, trust_env=False, timeout=30) as client:
        return client.get(f"http://{address}:{port}{path}", headers=headers)


def metrics(nodes: NodeCluster, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Return its metrics: see `samples`."""
    return samples(at_its_service(nodes, 8080, "/metrics").text, name, **labels)


def troubles(logged: str) -> list[dict[str, Any]]:
    """Return a pod's log above level info. Fail if a line is not a JSON object."""
    lines = [json.loads(line) for line in logged.splitlines()]
    assert "listens" in {line["event"] for line in lines}
    return [line for line in lines if line["level"] != "info"]


def start_kubectl(nodes: NodeCluster, folder: Path, *arguments: str) -> Process:
    """Start kubectl in the release's namespace, in parallel to the test."""
    return Process(
        "kubectl",
        [nodes.plane.binaries["kubectl"], "-n", NAMESPACE, *arguments],
        log=folder / "kubectl.log",
        env={"HOME": str(folder), "KUBECONFIG": str(nodes.plane.kubeconfig)},
    )


@contextlib.contextmanager
def forwarded(nodes: NodeCluster, folder: Path) -> Iterator[None]:
    """Have the dashboard at FORWARDED, by the command of docs/dashboard.md."""
    process = start_kubectl(nodes, folder, "port-forward", "deployment/mendix-mesh-auditor", "8081")

    def listens() -> bool:
        process.check()
        return "Forwarding from 127.0.0.1:8081" in process.log.read_text()

    try:
        wait_for(listens, seconds=30, why="kubectl to forward the port")
        yield
        process.check()
    finally:
        process.stop()


def test_labelling_a_namespace_causes_a_warning_and_the_metrics_have_its_coverage(
    nodes: NodeCluster, runs: Runs
) -> None:
    auditor, api, kubectl = nodes.await_auditor(), nodes.api, nodes.plane.kubectl
    where = nodes.plane.new_namespace("mendix")
    old = runs(where, "old")
    label = ["label", "namespace", where, *(f"{key}={value}" for key, value in ENROLLED.items())]
    # Without a network policy or client certificates, anyone could ask: so no pod is named.
    warnings = [f"Warning: mendix-mesh audit -n {where} shows which pods are outside the mesh"]
    wait_for(
        lambda: kubectl(*label, "--dry-run=server").stderr.splitlines() == warnings,
        seconds=60,
        every=0.5,
        why="the auditor's warnings, by its Service",
    )
    assert kubectl(*label).stderr
    wait_for(lambda: is_reviewed(api, where), why="the API server to call the webhook")
    runs(where, "new")
    # The part of Istio's CNI agent.
    redirected = {"metadata": {"annotations": {"ambient.istio.io/redirection": "enabled"}}}
    api.patch("Pod", "new", where, redirected, subresource="status")
    wait_for(
        lambda: (
            metrics(nodes, "mendix_mesh_coverage_ratio", namespace=where) == {("ambient",): 0.5}
        ),
        seconds=60,
        why="half of the namespace to be in the mesh",
    )
    pods = metrics(nodes, "mendix_mesh_pods", namespace=where, mesh="ambient")
    assert (pods[("meshed",)], pods[("unmeshed",)], sum(pods.values())) == (1, 1, 2)
    (event,) = wait_for(
        lambda: api.list("Event", where, fields="reason=NotMeshed,involvedObject.name=old"),
        why="the Event",
    )
    assert event["involvedObject"]["uid"] == old["metadata"]["uid"]
    assert event["reportingInstance"] == auditor["metadata"]["name"]


def test_its_dashboard_is_reached_by_port_forward_and_by_nothing_else(
    nodes: NodeCluster, tmp_path: Path
) -> None:
    auditor = nodes.await_auditor()
    with forwarded(nodes, tmp_path), httpx.Client(base_url=FORWARDED, trust_env=False) as reader:
        for path in ("/", f"/namespaces/{nodes.enrolled}", "/denials", "/health", "/checks"):
            answer = reader.get(path)
            assert answer.status_code == httpx.codes.OK, path
        assert nodes.enrolled in reader.get("/").text
        # Here it has no right to create pods: see the test with all rights.
        assert BLIND in reader.get("/health").text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{auditor['status']['podIP']}:8081/", trust_env=False)


def test_a_renewed_certificate_is_served_without_a_restart(nodes: NodeCluster) -> None:
    auditor = nodes.await_auditor()
    (container,) = auditor["status"]["containerStatuses"]
    restarts = container["restartCount"]
    before = served_certificate(auditor)
    nodes.cert_manager.renew(AUDITOR, NAMESPACE)
    wait_for(lambda: served_certificate(auditor) != before, seconds=60, why="the new certificate")
    (container,) = nodes.await_auditor()["status"]["containerStatuses"]
    assert container["restartCount"] == restarts


def test_it_ends_in_order_and_another_takes_its_place(nodes: NodeCluster) -> None:
    auditor, api = nodes.await_auditor(), nodes.api
    name = auditor["metadata"]["name"]
    scans = "mendix_mesh_scans_total"
    # It is ready before its first scan.
    wait_for(lambda: metrics(nodes, scans).get(("ok",)), why="a first scan")
    assert metrics(nodes, scans)[("failed",)] == 0
    # Its pod and its log must be there to be read when it has ended.
    log = nodes.log_of(auditor)
    api.patch("Pod", name, NAMESPACE, {"metadata": {"finalizers": [FINALIZER]}})
    api.delete("Pod", name, NAMESPACE)

    def ended() -> Json | None:
        (container,) = api.get("Pod", name, NAMESPACE)["status"]["containerStatuses"]
        end: Json | None = container["state"].get("terminated")
        return end

    try:
        end = wait_for(ended, seconds=60, why="it to end")
        # It would be 137 if the kubelet had lost its patience.
        assert end["exitCode"] == 0
        assert troubles(log.read()) == []
    finally:
        log.close()
        api.patch("Pod", name, NAMESPACE, {"metadata": {"finalizers": None}})
    assert nodes.await_auditor()["metadata"]["uid"] != auditor["metadata"]["uid"]


@pytest.fixture(scope="module")
def exposed(nodes: NodeCluster) -> Iterator[Json]:
    """The pod of an auditor with all rights, frequent doctor runs, and an exposed dashboard.

    It comes last, because every other test uses the chart's own values.
    """
    values = {"fullDoctor": True, "interval": 5, "dashboard": {"expose": True}}
    nodes.upgrade({"auditor": values})
    yield nodes.await_auditor()
    nodes.upgrade({})


def token_of(nodes: NodeCluster, account: str) -> str:
    """Create a ServiceAccount, and return the header with its token."""
    where = f"--namespace={nodes.enrolled}"
    nodes.plane.kubectl("create", "serviceaccount", account, where)
    token = nodes.plane.kubectl("create", "token", account, where).stdout.strip()
    return f"Bearer {token}"


def reader_of(nodes: NodeCluster) -> str:
    """The same for a ServiceAccount that is allowed to read the dashboard."""
    name = f"reader-{secrets.token_hex(3)}"
    token = token_of(nodes, name)
    nodes.plane.kubectl(
        *("create", "clusterrolebinding", name, "--clusterrole=mendix-mesh-viewer"),
        f"--serviceaccount={nodes.enrolled}:{name}",
    )
    return token


def test_the_exposed_dashboard_admits_users_with_the_right(
    nodes: NodeCluster, exposed: Json
) -> None:
    def answer(**headers: str) -> int:
        return at_its_service(nodes, 80, "/", **headers).status_code

    host = f"{AUDITOR}.{NAMESPACE}.svc"
    reader, stranger = reader_of(nodes), token_of(nodes, "stranger")
    assert answer(Host=host) == httpx.codes.UNAUTHORIZED
    assert answer(Host=host, Authorization=stranger) == httpx.codes.FORBIDDEN
    assert answer(Host=host, Authorization=reader) == httpx.codes.OK
    assert answer(Host="elsewhere.example", Authorization=reader) == httpx.codes.FORBIDDEN


def test_the_doctor_with_all_rights_looks_for_everything(nodes: NodeCluster, exposed: Json) -> None:
    def found() -> set[tuple[str, ...]]:
        return set(metrics(nodes, "mendix_mesh_doctor_findings"))

    # No mesh is installed here. The objects of mendix-mesh are healthy.
    there = {("agents-missing", "error")}
    wait_for(lambda: found() == there, seconds=60, why="the doctor's findings")
    seen = {"Host": f"{AUDITOR}.{NAMESPACE}.svc", "Authorization": reader_of(nodes)}
    health = at_its_service(nodes, 80, "/health", **seen).text
    assert "new pods join the mesh" in health
    assert BLIND not in health
    log = nodes.log_of(exposed)
    assert troubles(log.read()) == []
    log.close()
