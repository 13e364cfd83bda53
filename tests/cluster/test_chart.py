"""The chart's objects before a real API server, and `helm test` before the real server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate_dashboard import DASHBOARD
from tests.chart import helm, matrix
from tests.chart.test_alerts import ALERTS
from tests.cluster.api import Json, StatusError, core, wait_for
from tests.cluster.certmanager import CertManager
from tests.cluster.mesh import MeshCluster
from tests.cluster.plane import CommandError
from tests.cluster.workloads import pod

WHERE = "mendix-mesh"
HOST = f"mendix-mesh.{WHERE}.svc"

# A certificate from Helm is not in the golden files, because it differs each time.
EVERYTHING: Json = {
    "tls": {"source": "helm"},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
}


def apply_strictly(cluster: MeshCluster, rendered: helm.Rendered, *options: str) -> str:
    """Return kubectl's output for objects that are applied with strict server-side validation."""
    strict = ("--server-side", "--force-conflicts", "--validate=strict", *options)
    objects = yaml.safe_dump_all(rendered.objects)
    return cluster.plane.kubectl("apply", *strict, "--filename=-", input=objects).stdout


@pytest.mark.parametrize("name", [*matrix.SETS, "everything"])
def test_every_object_is_accepted_with_strict_validation(
    mesh_cluster: MeshCluster,
    cert_manager: CertManager,
    monitoring: None,
    istio_crds: None,
    name: str,
) -> None:
    # In another namespace than the release, so that their objects are not mixed.
    where = mesh_cluster.plane.new_namespace("strict")
    rendered = (
        helm.render(EVERYTHING, namespace=where)
        if name == "everything"
        else matrix.rendered(name, namespace=where)
    )
    # Of the set `strict`: a namespace that is enrolled by its name, and gets an object.
    for other in {obj["metadata"].get("namespace", where) for obj in rendered.objects} - {where}:
        mesh_cluster.api.ensure(core("Namespace", other))
    said = apply_strictly(mesh_cluster, rendered, "--dry-run=server").splitlines()
    assert len(said) == len(rendered.objects)
    assert [line for line in said if not line.endswith("serverside-applied (server dry run)")] == []


def test_strict_validation_would_see_a_field_that_does_not_exist(
    mesh_cluster: MeshCluster, monitoring: None
) -> None:
    rendered = helm.render(EVERYTHING)
    for found in rendered.objects:
        spec = found.get("spec")
        if not isinstance(spec, dict) or found["kind"] == "Pod":
            continue
        wrong = helm.Rendered("", ({**found, "spec": {**spec, "colour": "red"}},), ())
        with pytest.raises(CommandError, match=r"spec\.colour"):
            apply_strictly(mesh_cluster, wrong, "--dry-run=server")


def test_pods_pass_pod_security_at_level_restricted(mesh_cluster: MeshCluster) -> None:
    levels = dict.fromkeys(("enforce", "warn"), "restricted")
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode, level in levels.items()}
    where = mesh_cluster.plane.new_namespace("restricted", labels=labels)
    api = mesh_cluster.plane.user("restricted", ["system:masters"])
    for name in matrix.SETS:
        if matrix.values(name).get("hostNetwork"):
            continue
        rendered = matrix.rendered(name)
        for found in (rendered.one("Deployment"), rendered.one("Pod")):
            metadata = {**found["metadata"], "namespace": where}
            api.create({**found, "metadata": metadata}, dry_run=True)
            assert api.warnings == [], name
    with pytest.raises(StatusError, match="PodSecurity"):
        api.create(pod(where), dry_run=True)


# Replaces Service and DNS: this name is at that address. The script is the next argument.
RESOLVE = """
import socket, sys
connect = socket.create_connection
where = {}
socket.create_connection = lambda address, *more, **options: connect(
    where[address], *more, **options
)
host, port = sys.argv[1].rsplit(":", 1)
where[sys.argv[2], 443] = host, int(port)
script = sys.argv[3]
del sys.argv[1:4]
exec(script)
"""


def run_helm_test(
    cluster: MeshCluster, folder: Path, values: dict[str, Any], address: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command of the pod of `helm test`, with its files, against one of the servers."""
    ours = {"tls": {"source": "secret", "caBundle": cluster.release.authority.pem.decode()}}
    (container,) = helm.render({**ours, **values}).one("Pod")["spec"]["containers"]
    assert container["command"] == ["python3", "-I", "-c"]
    script, *arguments = container["args"]
    ca = cluster.api.get("ConfigMap", "mendix-mesh-ca", WHERE)["data"]["ca.crt"]
    (folder / "ca.crt").write_text(ca)
    arguments = [arg.replace("/etc/mendix-mesh/ca", str(folder)) for arg in arguments]
    where = address or cluster.kubelet.addresses()[0]
    return subprocess.run(
        [sys.executable, "-I", "-c", RESOLVE, where, HOST, script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_helm_test_sees_a_pod_opted_in_and_another_denied(
    mesh_cluster: MeshCluster, tmp_path: Path
) -> None:
    done = run_helm_test(mesh_cluster, tmp_path, {})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "ok   a pod is opted in",
        "ok   a pod outside the mesh is denied",
    ]


def test_helm_test_fails_if_no_server_answers(mesh_cluster: MeshCluster, tmp_path: Path) -> None:
    address = mesh_cluster.kubelet.addresses()[0]
    mesh_cluster.kubelet.pause()
    try:
        done = run_helm_test(mesh_cluster, tmp_path, {}, address)
    finally:
        mesh_cluster.kubelet.resume()
    assert done.returncode == 1
    assert f"https://{HOST} does not answer: " in done.stderr


def test_helm_test_fails_if_the_server_is_not_ours(
    mesh_cluster: MeshCluster, tmp_path: Path
) -> None:
    # Linkerd's injector: another server, with another CA's certificate.
    address = mesh_cluster.injector.url.removeprefix("https://").rstrip("/")
    done = run_helm_test(mesh_cluster, tmp_path, {}, address)
    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


CLOSED = 10260


@pytest.fixture
def closed(mesh_cluster: MeshCluster) -> Iterator[dict[str, Any]]:
    """The release with client certificates required, which this API server does not have.

    It uses another port, so that no old server is mistaken for a new one.
    """
    data = {"ca.crt": mesh_cluster.plane.ca.decode()}
    config_map = core("ConfigMap", "api-server-ca", WHERE, data=data)
    mesh_cluster.api.patch("ConfigMap", "api-server-ca", WHERE, config_map, how="apply")
    values = {
        "port": CLOSED,
        "clientCertificates": {"caConfigMapName": "api-server-ca", "names": ["api"]},
    }
    mesh_cluster.release.upgrade(values)
    mesh_cluster.kubelet.wait_ready(2)
    try:
        yield values
    finally:
        mesh_cluster.release.upgrade()
        mesh_cluster.kubelet.wait_ready(2)
        mesh_cluster.await_judge(mesh_cluster.enroll("enforce"), "linkerd.enforce")


def test_with_client_certificates_only_an_api_server_that_shows_one_is_answered(
    mesh_cluster: MeshCluster, closed: dict[str, Any], tmp_path: Path
) -> None:
    where = mesh_cluster.enroll("enforce")

    wait_for(
        lambda: "403 Forbidden" in mesh_cluster.api.denial(pod(where)),
        why="the API server to be rejected",
    )
    (address, *_) = (a for a in mesh_cluster.kubelet.addresses() if a.endswith(f":{CLOSED}"))
    done = run_helm_test(mesh_cluster, tmp_path, closed, address)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok   a caller without a client certificate is rejected\n"


def test_the_api_servers_metrics_that_alerts_and_dashboard_ask_for_exist(
    mesh_cluster: MeshCluster,
) -> None:
    enforced, watched = mesh_cluster.enroll("enforce"), mesh_cluster.enroll("warn")
    mesh_cluster.kubelet.pause()
    try:
        with pytest.raises(StatusError):
            mesh_cluster.api.create(pod(enforced))
        mesh_cluster.api.create(pod(watched))
    finally:
        mesh_cluster.kubelet.resume()
    shown = mesh_cluster.api.text("/metrics").splitlines()
    there = {line.partition("{")[0] for line in shown}
    queries = [*(rule["expr"] for rule in ALERTS.values()), DASHBOARD.read_text()]
    assert set(re.findall(r"\bapiserver_\w+", "".join(queries))) <= there
    rejections = [line for line in shown if line.startswith("apiserver_admission_webhook_rejec")]
    assert [
        line
        for line in rejections
        if 'name="linkerd.mutate-pods.enforce.mendix-mesh.io"' in line
        and 'error_type="calling_webhook_error"' in line
    ]
    for metric, name in (
        ("apiserver_admission_webhook_fail_open_count", "linkerd.warn.mendix-mesh.io"),
        (
            "apiserver_admission_webhook_fail_open_count",
            "linkerd.mutate-pods.warn-audit.mendix-mesh.io",
        ),
        (
            "apiserver_admission_webhook_admission_duration_seconds_bucket",
            "linkerd.enforce.mendix-mesh.io",
        ),
    ):
        assert any(metric in rule["expr"] for rule in ALERTS.values())
        assert [line for line in shown if line.startswith(metric) and f'name="{name}"' in line]
