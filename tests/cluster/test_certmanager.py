"""The chart with certificates from cert-manager, whose controllers and CA injector are real.

The module removes the shared release and installs it again at its end.
"""

import base64
import contextlib
import datetime as dt
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.cluster import guides
from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.certmanager import CertManager
from tests.cluster.helm import CHART, IMAGE, Release
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import is_meshed, pod

ROOT = Path(__file__).parents[2]
WHERE = "mendix-mesh"
HOST = f"mendix-mesh.{WHERE}.svc"
TLS, CA, AUDITORS = "mendix-mesh-tls", "mendix-mesh-ca", "mendix-mesh-auditor-tls"
CONFIGURATIONS = {
    "MutatingWebhookConfiguration": "00-mendix-mesh",
    "ValidatingWebhookConfiguration": "mendix-mesh",
}


class Installed:
    """The release whose certificates cert-manager creates, with helpers for the tests."""

    def __init__(self, cluster: MeshCluster, cert_manager: CertManager) -> None:
        self.cluster = cluster
        self.cert_manager = cert_manager
        self.api = cluster.api
        self.kubelet = cluster.kubelet
        self.release = Release(cluster.plane, source="certManager")
        self.namespace = cluster.enroll("enforce")

    def install(self) -> None:
        """Install the chart, and wait until the webhook works with cert-manager's certificates."""
        self.release.install()
        self.await_in_force()

    def await_in_force(self) -> None:
        self.kubelet.wait_ready(2)
        self.await_trust(self.secret(TLS)["ca.crt"])
        self.cluster.await_judge(self.namespace, "linkerd.enforce")

    def uninstall(self, release: Release | None = None) -> None:
        """Remove a release and the Secrets that its uninstallation leaves."""
        (release or self.release).uninstall(at_once=True)
        for name in (TLS, CA, AUDITORS):
            with contextlib.suppress(StatusError):
                self.api.delete("Secret", name, WHERE)

    def secret(self, name: str) -> dict[str, bytes]:
        data = self.api.get("Secret", name, WHERE)["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.secret(TLS)["tls.crt"])

    def trusted(self) -> list[bytes]:
        """Return the CAs that the API server trusts, for each entry of both configurations."""
        return _bundles(self.api)

    def await_trust(self, *authorities: bytes) -> None:
        """Wait until the API server trusts these CAs, and possibly others, for every entry."""
        wait_for(
            lambda: all(pem in bundle for bundle in self.trusted() for pem in authorities),
            why="the CA to be in every caBundle",
        )

    def served(self) -> list[x509.Certificate]:
        """The certificate that each server shows on a new connection, if it listens already."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        found = []
        for address in self.kubelet.addresses():
            with contextlib.suppress(ConnectionRefusedError):
                found.append(_peer(address, context))
        return found

    def await_served(self, certificate: x509.Certificate) -> None:
        """Wait until both servers show a certificate, neither having been restarted."""
        wait_for(lambda: self.served() == [certificate] * 2, why="the certificate to be served")

    @contextlib.contextmanager
    def under_load(self) -> Iterator[None]:
        """Send reviews all the time during the block and some time after it; none must be lost.

        Two clients create pods through the API server. A lost review shows as a denied pod, or as a
        pod without its proxy. Two other clients open a new connection for each review, as an API
        server without connections does. They trust the CAs that it trusts at that moment.
        """
        answers: Counter[str] = Counter()
        done = threading.Event()

        def repeat(ask: Callable[[Api], str]) -> None:
            # One client for each thread, with its own connection, like as many users.
            api = self.cluster.plane.user("load", ["system:masters"])
            while not done.wait(0.02):
                answers[ask(api)] += 1

        asks = (self._review, self._review, self._connect, self._connect)
        with ThreadPoolExecutor(len(asks)) as pool:
            tasks = [pool.submit(repeat, ask) for ask in asks]
            try:
                yield
                before = Counter(answers)
                wait_for(
                    lambda: (
                        any(task.done() for task in tasks)
                        or set(answers) > {"reviewed", "connected"}
                        or (answers - before)["reviewed"] > 100 < (answers - before)["connected"]
                    ),
                    why="a hundred more reviews and connections",
                )
            finally:
                done.set()
        for task in tasks:
            task.result()
        assert set(answers) == {"reviewed", "connected"}, answers

    def _review(self, api: Api) -> str:
        try:
            meshed = is_meshed(api.create(pod(self.namespace, "load"), dry_run=True))
        except StatusError as denied:
            return denied.message
        return "reviewed" if meshed else "not meshed"

    def _connect(self, api: Api) -> str:
        context = ssl.create_default_context(cadata=_bundles(api)[-1].decode())
        try:
            for address in self.kubelet.addresses():
                _peer(address, context)
        except OSError as error:
            return str(error)
        return "connected"


def _bundles(api: Api) -> list[bytes]:
    return [
        base64.b64decode(entry["clientConfig"].get("caBundle", ""))
        for kind, name in CONFIGURATIONS.items()
        for entry in api.get(kind, name)["webhooks"]
    ]


def _peer(address: str, context: ssl.SSLContext) -> x509.Certificate:
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=HOST) as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")


@pytest.fixture(scope="module")
def installed(mesh_cluster: MeshCluster, cert_manager: CertManager) -> Iterator[Installed]:
    made = Installed(mesh_cluster, cert_manager)
    made.uninstall(mesh_cluster.release)
    try:
        made.install()
        yield made
    finally:
        made.uninstall()
        mesh_cluster.release.install()
        mesh_cluster.kubelet.wait_ready(2)
        mesh_cluster.await_judge(made.namespace, "linkerd.enforce")


def test_the_first_pods_are_meshed_and_the_first_offender_is_denied(installed: Installed) -> None:
    assert is_meshed(installed.api.create(pod(installed.namespace), dry_run=True))
    with pytest.raises(StatusError, match="host-network"):
        installed.api.create(pod(installed.namespace, hostNetwork=True))


def test_the_certificate_is_for_the_service_and_signed_by_a_ca_of_its_own(
    installed: Installed,
) -> None:
    leaf, ca = installed.leaf(), x509.load_pem_x509_certificate(installed.secret(CA)["tls.crt"])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(HOST)]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    for certificate in (leaf, ca):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == dt.timedelta(days=90)
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == dt.timedelta(days=3650)
    leaf.verify_directly_issued_by(ca)
    installed.await_served(leaf)


def test_every_entry_of_both_configurations_trusts_that_ca_alone(installed: Installed) -> None:
    trusted = installed.trusted()
    assert set(trusted) == {installed.secret(CA)["tls.crt"]}
    # Mutating: enforced pods, other pods, and controllers, for three meshes. Validating: three
    # modes of each mesh, and of misspelled ones. Namespaces: the enforced ones, all others, and
    # those that are never reviewed.
    assert len(trusted) == 3 * 3 + 3 * (3 + 1) + 3


def test_gitops_finds_nothing_to_change(installed: Installed) -> None:
    plane = installed.cluster.plane
    ours = {"image": {"repository": IMAGE}, "preStopSleepSeconds": 1}
    values = yaml.safe_dump({**ours, "tls": {"source": "certManager"}})
    rendered = plane.helm(
        "template", "mendix-mesh", str(CHART), f"--namespace={WHERE}", "--values=-", input=values
    )
    objects = [
        obj
        for obj in yaml.safe_load_all(rendered.stdout)
        # The Deployment's pods have the tests' annotation. The bare pod belongs to `helm test`;
        # GitOps tools leave it out.
        if obj["kind"] not in ("Deployment", "Pod")
    ]
    assert {"Certificate", "Issuer", *CONFIGURATIONS} <= {obj["kind"] for obj in objects}
    text = yaml.safe_dump_all(objects)
    for how in (("--server-side", "--field-manager=argocd-controller", "--force-conflicts"), ()):
        # Raises an exception with the difference, if there is one.
        plane.kubectl("diff", *how, "--filename=-", input=text)


def test_the_manifests_for_those_without_helm_change_nothing_either(installed: Installed) -> None:
    folder = str(ROOT / "certs")
    done = installed.cluster.plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "--kustomize", folder
    )
    assert len(done.stdout.splitlines()) == 5
    installed.cluster.plane.kubectl("diff", "--kustomize", folder)


def test_an_upgrade_leaves_the_ca_where_the_injector_put_it(installed: Installed) -> None:
    before = installed.trusted()
    installed.cert_manager.stop()
    try:
        installed.release.upgrade({"timeoutSeconds": 4})
        assert installed.trusted() == before
    finally:
        installed.cert_manager.start()
        installed.release.upgrade()


def test_a_certificate_whose_secret_was_deleted_comes_back_and_no_review_is_lost(
    installed: Installed,
) -> None:
    old = installed.leaf()
    with installed.under_load():
        installed.api.delete("Secret", TLS, WHERE)
        wait_for(lambda: installed.leaf() != old, why="the Secret to be made again")
        installed.await_served(installed.leaf())


def test_a_renewed_ca_has_the_old_ones_key_and_no_review_is_lost(installed: Installed) -> None:
    old = installed.secret(CA)
    with installed.under_load():
        installed.cert_manager.renew(CA, WHERE)
        new = installed.secret(CA)
        assert new["tls.crt"] != old["tls.crt"]
        assert new["tls.key"] == old["tls.key"]
        # The API server gets it together with the server's next certificate.
        assert all(new["tls.crt"] not in bundle for bundle in installed.trusted())
        installed.cert_manager.renew("mendix-mesh", WHERE)
        installed.await_trust(new["tls.crt"])
        installed.await_served(installed.leaf())


def test_a_ca_is_replaced_in_the_documented_way_and_no_review_is_lost(
    installed: Installed, tmp_path: Path
) -> None:
    section = (ROOT / "docs" / "install.md").read_text().split("### Replace the CA")[1]
    change, finish = re.findall(r"```sh\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    reader = guides.Reader(installed.cluster.plane, tmp_path, "", folder=tmp_path)
    old = installed.secret(CA)["tls.crt"]
    with installed.under_load():
        reader.run(change)
        new = installed.secret(CA)["tls.crt"]
        assert _key(new) != _key(old)
        installed.await_trust(old, new)
        wait_for(lambda: installed.secret(TLS)["ca.crt"] == new, why="a certificate by the new CA")
        installed.await_served(installed.leaf())
        reader.run(finish)
    assert set(installed.trusted()) == {new}


def _key(pem: bytes) -> bytes:
    return (
        x509.load_pem_x509_certificate(pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def test_without_cert_manager_pods_wait_and_when_it_comes_all_is_well(
    installed: Installed,
) -> None:
    installed.uninstall()
    installed.cert_manager.stop()
    try:
        installed.release.install(wait=False)
        deployment = wait_for(
            lambda: _with_pods(installed.api.get("Deployment", "mendix-mesh", WHERE)),
            why="the pods to be made",
        )
        assert not deployment["status"].get("readyReplicas")
        with pytest.raises(StatusError):
            installed.secret(TLS)
        # Meanwhile, pods in enforced namespaces are denied with the reason.
        early, why = pod(installed.namespace, "early"), "no endpoints available for service"
        wait_for(lambda: why in installed.api.denial(early), why="the denial")
    finally:
        installed.cert_manager.start()
    installed.await_in_force()
    assert is_meshed(installed.api.create(pod(installed.namespace, "early")))


def _with_pods(deployment: Json) -> Json | None:
    return deployment if deployment.get("status", {}).get("replicas") == 2 else None


def test_an_issuer_of_the_cluster_can_sign(installed: Installed) -> None:
    metadata = {"name": "company"}
    spec = {"ca": {"secretName": "company-ca"}}
    issuer = {"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": metadata}
    company = installed.release.authority
    pair = {"tls.crt": company.pem.decode(), "tls.key": company.key.decode()}
    secret = core("Secret", "company-ca", "cert-manager", stringData=pair)
    installed.api.create({**secret, "type": "kubernetes.io/tls"})
    installed.api.create({**issuer, "spec": spec})
    own = {"issuerRef": {"name": "company", "kind": "ClusterIssuer"}}
    try:
        installed.release.upgrade({"tls": {"certManager": own}}, wait=False)
        installed.await_trust(company.pem)
        leaf = installed.leaf()
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(company.pem))
        installed.await_served(leaf)
        assert is_meshed(installed.api.create(pod(installed.namespace), dry_run=True))
        # The objects that only the chart's own CA needs are gone.
        names = [one["metadata"]["name"] for one in installed.api.list("Certificate", WHERE)]
        assert names == ["mendix-mesh", "mendix-mesh-auditor"]
        assert installed.api.list("Issuer", WHERE) == []
    finally:
        installed.release.upgrade(wait=False)
        installed.cert_manager.await_issued("mendix-mesh", WHERE)
        wait_for(
            lambda: installed.secret(TLS)["ca.crt"] == installed.secret(CA)["tls.crt"],
            why="the chart's own CA to sign again",
        )
        installed.await_trust(installed.secret(CA)["tls.crt"])
        installed.await_served(installed.leaf())
