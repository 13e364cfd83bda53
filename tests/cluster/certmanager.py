"""The real cert-manager: its CRDs, the controllers that issue certificates, and its CA injector.

Its webhook is not included. It checks what users write, and never changes an issued certificate.
"""

import secrets

import httpx

from tests.cluster import build, netns
from tests.cluster.api import core, wait_for
from tests.cluster.part import Part
from tests.cluster.plane import ControlPlane
from tests.cluster.process import Process

NAMESPACE = "cert-manager"
"""The namespace of the Secrets of ClusterIssuers."""


class CertManager(Part):
    """cert-manager on a test cluster, during a `with` block. Its objects stay."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._process: Process | None = None
        self._port = netns.free_ports(1)[0]

    def _begin(self) -> None:
        self.install()
        self.start()

    def _end(self) -> None:
        self.stop()

    def install(self) -> None:
        """Create the CRDs and the namespace, so that charts can be installed."""
        self._plane.api.ensure(core("Namespace", NAMESPACE))
        self._plane.define(build.cert_manager_crds())

    def start(self) -> None:
        """Start the process, and wait until it has read all objects."""
        home = self._plane.workdir / f"cert-manager-{secrets.token_hex(4)}"
        home.mkdir()
        kubeconfig = self._plane.write_kubeconfig(
            home / "kubeconfig", "cert-manager", ["system:masters"]
        )
        self._process = Process(
            "cert-manager",
            [
                self._plane.binaries[build.CERT_MANAGER],
                f"-kubeconfig={kubeconfig}",
                f"-listen=127.0.0.1:{self._port}",
            ],
            log=home / "cert-manager.log",
            env={"HOME": str(home)},
            cwd=home,
        )
        wait_for(self._ready, seconds=60, why=f"cert-manager to be ready (its log is in {home})")

    def stop(self) -> None:
        """End the process. Nothing is issued, renewed or injected until `start`."""
        if self._process:
            self._process.stop()
            self._process = None

    def renew(self, name: str, namespace: str) -> None:
        """Renew a Certificate like `cmctl renew`, and wait until it is issued."""
        certificate = self._plane.api.get("Certificate", name, namespace)
        before = certificate["status"]["revision"]
        others = [c for c in certificate["status"]["conditions"] if c["type"] != "Issuing"]
        issuing = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered"}
        patch = {"status": {"conditions": [*others, issuing]}}
        self._plane.api.patch("Certificate", name, namespace, patch, subresource="status")
        self.await_issued(name, namespace, revision=before + 1)

    def await_issued(self, name: str, namespace: str, *, revision: int = 1) -> None:
        """Wait until a Certificate has been issued at least `revision` times and is ready."""

        def issued() -> bool:
            status = self._plane.api.get("Certificate", name, namespace).get("status", {})
            conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
            done = conditions.get("Ready") == "True" and conditions.get("Issuing") != "True"
            return done and bool(status.get("revision", 0) >= revision)

        wait_for(issued, why=f"Certificate {name} to be issued ({revision})")

    def _ready(self) -> bool:
        assert self._process
        self._process.check()
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/healthz", trust_env=False)
        except httpx.TransportError:
            return False
        return answer.is_success
