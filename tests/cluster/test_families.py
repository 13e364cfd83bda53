"""Control planes with IPv6 alone, and with both families: the API server reaches the server."""

import base64
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.cluster import netns
from tests.cluster.api import Json, core, wait_for
from tests.cluster.certificates import Authority
from tests.cluster.helm import Release
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.plane import ControlPlane, Family
from tests.cluster.process import Process
from tests.cluster.workloads import pod
from tests.node.installed import ENROLLED, is_reviewed

pytestmark = pytest.mark.timeout(300)

#: An address of this machine, by the family of the Service that leads to it.
HOSTS = {"IPv6": netns.HOST_IP_6, "IPv4": netns.HOST_IP}
FAMILIES: dict[Family, tuple[str, ...]] = {"IPv6": ("IPv6",), "dual": ("IPv6", "IPv4")}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture(scope="module")
def other(
    plane: ControlPlane,  # so that the programs are built, and the network is the tests' own
    binaries: Mapping[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    family: Family,
) -> Iterator[ControlPlane]:
    """A second control plane, of another family than the first."""
    with ControlPlane(tmp_path_factory.mktemp(family), binaries, family=family) as running:
        yield running
        running.check()


def test_the_chart_works_on_it(other: ControlPlane) -> None:
    release = Release(other)
    with ServerKubelet(other, release.namespace, release.labels) as kubelet:
        release.install(wait=False)
        kubelet.wait_ready()
        where = other.new_namespace("mendix", labels=ENROLLED)
        wait_for(lambda: is_reviewed(other.api, where), why="the API server to call the webhook")
        assert "uses the node's network" in other.api.denial(pod(where, hostNetwork=True))
        service = other.api.get("Service", "mendix-mesh", release.namespace)["spec"]
        assert service["ipFamilies"] == ["IPv6"]
        (slices,) = other.api.list(
            "EndpointSlice", release.namespace, labels="kubernetes.io/service-name=mendix-mesh"
        )
        assert slices["addressType"] == "IPv6"
        assert len(slices["endpoints"]) == 2
        assert kubelet.crashes == []
        release.uninstall(at_once=True)


@pytest.fixture
def server(tmp_path: Path, other: ControlPlane) -> Iterator[tuple[int, bytes]]:
    """A server that listens everywhere, as in the chart's pods: its port, and its CA."""
    (port,) = netns.free_ports(1)
    authority = Authority("families")
    hosts = [f"{name.lower()}.default.svc" for name in HOSTS] + [*HOSTS.values()]
    cert, key = authority.issue("server", hosts=hosts).write(tmp_path, "tls")
    files = [f"--tls-cert-file={cert}", f"--tls-private-key-file={key}"]
    process = Process(
        "server",
        [sys.executable, "-m", "webhook", "serve", f"--listen=:{port}", *files],
        log=tmp_path / "server.log",
    )
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.pem)

    def answers() -> bool:
        process.check()
        try:
            return httpx.get(
                f"https://[::1]:{port}/livez", verify=False, trust_env=False
            ).is_success
        except httpx.TransportError:
            return False

    try:
        wait_for(answers, why="the server")
        yield port, authority.pem
    finally:
        process.stop()


def test_one_server_answers_at_services_of_each_family(
    other: ControlPlane, family: Family, server: tuple[int, bytes]
) -> None:
    port, authority = server
    for ip in FAMILIES[family]:
        where = other.new_namespace("family", labels={"family": ip.lower()})
        for made in leading_to(ip, port, authority):
            other.api.create(made)
        bad = pod(where, hostNetwork=True)
        wait_for(lambda bad=bad: "host-network" in other.api.denial(bad), why="the webhook's calls")  # type: ignore[misc]
        assert "host-network" in other.api.denial(bad)


def leading_to(ip: str, port: int, authority: bytes) -> list[Json]:
    """Return a Service of one family that leads to a port here, and a webhook that uses it."""
    name = ip.lower()
    meta = {"name": name, "namespace": "default"}
    ports = [{"name": "https", "port": 443, "targetPort": port}]
    service = {"ipFamilies": [ip], "ipFamilyPolicy": "SingleStack", "ports": ports}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
        "addressType": ip,
        "endpoints": [{"addresses": [HOSTS[ip]], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    path = "/validate/ambient/enforce"
    reference = {"namespace": "default", "name": name, "port": 443, "path": path}
    webhook = {
        "name": f"{name}.tests.mendix-mesh.io",
        "clientConfig": {
            "service": reference,
            "caBundle": base64.b64encode(authority).decode(),
        },
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                   "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"family": name}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }  # fmt: skip
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"family-{name}"},
        "webhooks": [webhook],
    }
    return [core("Service", name, "default", spec=service), endpoints, configuration]
