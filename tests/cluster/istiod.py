"""The real istiod as Istio's injector, with its chart's own template and its own certificates.

Only the parts of the chart that the injection needs are installed: the ConfigMaps and the webhook
configuration.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import yaml

from tests.cluster import build, netns
from tests.cluster.api import Json, StatusError, core, wait_for
from tests.cluster.part import Part
from tests.cluster.plane import ControlPlane
from tests.cluster.process import Process
from tests.cluster.workloads import pod

NAMESPACE = "istio-system"
HUB, TAG = "docker.io/istio", f"{build.ISTIO}.0"
_KEPT = ("ConfigMap", "MutatingWebhookConfiguration")


class Istiod(Part):
    """One istiod of one revision on a test cluster, during a `with` block.

    With `address`, real proxies reach it there, by the Service `istiod`.

    `values` are the chart's, for example `{"pilot": {"cni": {"enabled": True}}}`. `tags` are
    revision tags. `environment` is istiod's own, for example `{"PLATFORM": "openshift"}`. A
    revision other than "default" injects only pods or namespaces that name it or one of its tags.
    """

    def __init__(
        self,
        plane: ControlPlane,
        *,
        revision: str = "default",
        tags: Sequence[str] = (),
        native: bool | None = None,
        values: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        address: str = "",
    ) -> None:
        self.revision = revision
        self.tags = tuple(tags)
        self._plane = plane
        self._native = native
        self._values = dict(values or {})
        self._environment = dict(environment or {})
        self._address = address
        self._process: Process | None = None
        (self._port, self._http, self._control, self._xds, self._secure) = netns.free_ports(5)
        self._installed: list[Json] = []

    def _begin(self) -> None:
        self.install()
        self.start()

    def _end(self) -> None:
        self.stop()
        for obj in self._installed:
            # Other tests would find Istio by these objects.
            if obj["kind"] in ("MutatingWebhookConfiguration", "ConfigMap"):
                meta = obj["metadata"]
                self._plane.api.delete(obj["kind"], meta["name"], meta.get("namespace"))

    @property
    def url(self) -> str:
        """Return the URL to which the API server sends pods for injection."""
        return f"https://127.0.0.1:{self._port}/inject"

    @property
    def xds(self) -> str:
        """Return the address from which proxies get their configuration, without TLS."""
        return f"127.0.0.1:{self._xds}"

    def debug(self, page: str) -> Json:
        """Return one of istiod's debug pages, like `ambientz`."""
        answer = httpx.get(f"http://127.0.0.1:{self._http}/debug/{page}")
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    @property
    def pid(self) -> int:
        """Return the process id while it runs."""
        assert self._process
        return self._process.pid

    def install(self) -> None:
        """Create the injector's template and webhook configurations, which istiod needs."""
        self._plane.api.ensure(core("Namespace", NAMESPACE))
        self._plane.await_namespace(NAMESPACE)
        for obj in [*self._rendered(), *self._service()]:
            name, where = obj["metadata"]["name"], obj["metadata"].get("namespace")
            self._plane.api.patch(obj["kind"], name, where, obj, how="apply")
            self._installed.append(obj)

    def start(self) -> None:
        """Start the process, and wait until a pod that opts in is injected."""
        home = self._plane.workdir / f"istiod-{self.revision}-{secrets.token_hex(4)}"
        home.mkdir()
        kubeconfig = self._plane.write_kubeconfig(
            home / "kubeconfig", f"istiod-{self.revision}", ["system:masters"]
        )
        environment = {
            "POD_NAME": "istiod-0",
            "POD_NAMESPACE": NAMESPACE,
            "REVISION": self.revision,
            "CLUSTER_ID": "Kubernetes",
            "ISTIOD_CUSTOM_HOST": "127.0.0.1,localhost",
            "HOME": str(home),
            **self._environment,
        }
        if self._native is not None:
            environment["ENABLE_NATIVE_SIDECARS"] = str(self._native).lower()
        self._process = Process(
            f"istiod {self.revision}",
            [
                self._plane.binaries[build.ISTIOD],
                "discovery",
                f"--kubeconfig={kubeconfig}",
                f"--httpAddr=127.0.0.1:{self._http}",
                f"--httpsAddr=127.0.0.1:{self._port}",
                f"--grpcAddr=127.0.0.1:{self._xds}",
                f"--secureGRPCAddr={self._address}:{self._secure}"
                if self._address
                else "--secureGRPCAddr=",
                "--monitoringAddr=",
                "--ctrlz_address=127.0.0.1",
                f"--ctrlz_port={self._control}",
                "--shutdownDuration=1s",
            ],
            log=home / "istiod.log",
            env=environment,
            cwd=home,
        )
        probe = self._plane.new_namespace("istio-probe")
        wait_for(lambda: self._injects(probe), seconds=60, why=f"istiod {self.revision} to inject")

    def stop(self) -> None:
        """End the process. Its webhook configuration stays and fails closed, as Istio's does."""
        if self._process:
            self._process.stop()
            self._process = None

    def _injects(self, namespace: str) -> bool:
        assert self._process
        self._process.check()
        labels = {"sidecar.istio.io/inject": "true"}
        if self.revision != "default":
            labels["istio.io/rev"] = self.revision
        try:
            stored = self._plane.api.create(pod(namespace, labels=labels), dry_run=True)
        except StatusError:
            return False
        containers = stored["spec"].get("initContainers", []) + stored["spec"]["containers"]
        return any(container["name"] == "istio-proxy" for container in containers)

    def _service(self) -> list[Json]:
        """Return the Service that leads proxies to this process; nothing without an address."""
        if not self._address:
            return []
        name = "istiod" if self.revision == "default" else f"istiod-{self.revision}"
        metadata = {"name": name, "namespace": NAMESPACE}
        port = {"name": "https-dns", "protocol": "TCP"}
        of_service = {"labels": {"kubernetes.io/service-name": name}}
        return [
            core("Service", name, NAMESPACE, spec={"ports": [{**port, "port": 15012}]}),
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, **of_service},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [self._address]}],
                "ports": [{**port, "port": self._secure}],
            },
        ]

    def _rendered(self) -> list[Json]:
        """Return the objects of istiod's chart that the injection needs."""
        values = {
            "revision": "" if self.revision == "default" else self.revision,
            "revisionTags": list(self.tags),
            "istiodRemote": {"injectionURL": self.url},
            **self._values,
            "global": {"hub": HUB, "tag": TAG, **self._values.get("global", {})},
        }
        chart = str(build.istio_chart())
        arguments = ("template", "istiod", chart, f"--namespace={NAMESPACE}", "--values", "-")
        text = self._plane.helm(*arguments, input=yaml.safe_dump(values)).stdout
        objects = [obj for obj in yaml.safe_load_all(text) if obj]
        return [obj for obj in objects if obj["kind"] in _KEPT]
