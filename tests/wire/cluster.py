"""Two real nodes with the real istiod, real Envoys and mendix-mesh, and a capture between them.

Clients run on the first node. What the capture on the cable of the second node shows is all that
they exchange with pods there.
"""

import contextlib
import copy
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import build, netns
from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.helm import Release
from tests.cluster.istiod import Istiod
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL
from tests.cluster.plane import ControlPlane, is_ready
from tests.image.buildah import Image, Store
from tests.node.installed import own_image, real_nodes
from tests.node.node import Node, pause
from tests.wire import dns, images
from tests.wire.capture import Capture, Segment, readable

PROGRAMS = (*build.CORE, *build.NODE, build.ISTIOD, *build.WIRE)
INGRESS = "ingress"
"""The namespace whose pods may accept clients outside the mesh."""
PLUGIN = "cni"
"""The revision of Istio whose pods rely on the CNI plugin."""
NEAR, FAR = ({"kubernetes.io/hostname": f"node-{number}"} for number in range(2))
"""Selectors of the node of the clients, and of the node behind the captured cable."""
_CALL = ("python3", "/app.py", "call")

# Upstream's Envoy has none of Istio's own filters.
_ENVIRONMENT = {"PILOT_ENABLE_ALPN_FILTER": "false", "PILOT_ENABLE_METADATA_EXCHANGE": "false"}
_ISTIO: Json = {
    "meshConfig": {
        # The same reason: without it, proxies get the filter that counts requests.
        "defaultProviders": {"metrics": []},
        "defaultConfig": {"proxyStatsMatcher": {"inclusionRegexps": [".*"]}},
    },
    "global": {
        "proxy": {
            # A young kubelet spreads first probes over one period, which is 15 s by default.
            "readinessPeriodSeconds": 1,
            # Else a few pods would fill a node.
            "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
        }
    },
}
_VALUES: Json = {
    "image": {"pullPolicy": "Never"},
    "ingress": {"namespaces": [INGRESS]},
    "settings": {"ingress": {"classes": {"nginx": "ingress-nginx"}, "upstreamVhost": True}},
}


@dataclass(frozen=True)
class Sent:
    """What a client got for its requests on one connection."""

    statuses: list[int]
    body: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Return whether each request was answered with 200."""
        return not self.error and set(self.statuses) == {200}

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that the server received, with lower-case names."""
        found = json.loads(self.body)["headers"]
        return {name.lower(): value for name, value in found.items()}

    @property
    def pod(self) -> str:
        """Return the name of the pod that answered."""
        return str(json.loads(self.body)["pod"])


@dataclass(frozen=True)
class Exchange:
    """Requests to some URLs, and what passed the cable meanwhile between the two pods."""

    answers: Sequence[Sent]
    marker: str
    segments: Sequence[Segment]

    @property
    def sent(self) -> Sent:
        """Return the answer from the only URL."""
        (sent,) = self.answers
        return sent

    @property
    def in_clear(self) -> int:
        """Return how many bytes of the requests were readable."""
        return readable(self.segments, self.marker)

    @property
    def is_tls(self) -> bool:
        """Return whether all that passed was TLS."""
        return bool(self.segments) and all(one.is_tls for one in self.segments)


@dataclass(frozen=True)
class WireCluster:
    """The parts, each to be used as it is."""

    plane: ControlPlane
    nodes: tuple[Node, ...]
    capture: Capture

    @property
    def api(self) -> Api:
        """Return the tests' own client, as cluster administrator."""
        return self.plane.api

    def namespace(self, mode: str = "", *, name: str = "", mtls: str = "") -> str:
        """Create a namespace, enrolled if it has a mode, with the account of the fixtures' pods.

        `mtls` is the mode of its PeerAuthentication.
        """
        name = name or f"{mode or 'outside'}-{secrets.token_hex(3)}"
        labels = {MESH_LABEL: "istio", MODE_LABEL: mode} if mode else {}
        self.api.create(core("Namespace", name, labels=labels))
        self.plane.await_namespace(name)
        self.account(name, "shop")
        if mtls:
            self.require(name, mtls)
        return name

    def account(self, namespace: str, name: str) -> None:
        """Create a ServiceAccount."""
        self.api.create(core("ServiceAccount", name, namespace))

    def require(self, namespace: str, mode: str) -> None:
        """Set the mode of a namespace's PeerAuthentication: STRICT or PERMISSIVE."""
        policy = {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": namespace},
            "spec": {"mtls": {"mode": mode}},
        }
        self.api.patch("PeerAuthentication", "default", namespace, policy, how="apply")

    def run(self, *pods: Json) -> list[Json]:
        """Create pods, wait until they are ready, and return them."""
        made = [self.api.create(one) for one in pods]
        return [self.await_ready(one) for one in made]

    def await_ready(self, pod: Json) -> Json:
        """Wait until a pod is ready, and return it."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]

        def ready() -> Json | None:
            found = self.api.get("Pod", name, namespace)
            return found if is_ready(found) else None

        return wait_for(ready, seconds=90, why=f"{namespace}/{name} to be ready")

    def call(self, client: Json, server: Json, *arguments: str) -> Exchange:
        """Run the app's `call` in a pod, and return it with the packets to or from `server`."""
        marker, mark = secrets.token_hex(16), self.capture.now
        said = self.run_in(client, "mendix", *_CALL, *arguments, f"--marker={marker}")
        pair = (server["status"]["podIP"], client["status"]["podIP"])
        answers = [Sent(**one) for one in json.loads(said)]
        return Exchange(answers, marker, self.capture.since(mark, *pair))

    def await_answer(self, client: Json, server: Json, *arguments: str) -> Exchange:
        """Call until the answer is 200: proxies hear of a new endpoint a moment later."""

        def answered() -> Exchange | None:
            found = self.call(client, server, *arguments)
            return found if all(one.ok for one in found.answers) else None

        return wait_for(answered, why=f"{arguments[0]} to answer")

    def run_in(self, pod: Json, container: str, *command: str) -> str:
        """Run a command in a container, and return its output."""
        meta = pod["metadata"]
        where = (
            "exec",
            f"--namespace={meta['namespace']}",
            meta["name"],
            f"--container={container}",
        )
        return self.plane.kubectl(*where, "--", *command).stdout

    def stats(self, pod: Json) -> dict[str, int]:
        """Return Envoy's counters and gauges of a pod that are not zero."""
        request = ("pilot-agent", "request", "GET", "stats?usedonly")
        lines = (
            line.rpartition(": ") for line in self.run_in(pod, "istio-proxy", *request).splitlines()
        )
        return {name: int(value) for name, _, value in lines if value.isdigit()}


def app(namespace: str, name: str, node: Mapping[str, str], **more: Any) -> Json:
    """Return a pod of the app, by itself without any mesh settings.

    `more` are labels, annotations, fields of its container, and fields of its spec.
    """
    container = {
        "name": "mendix",
        "image": images.APP,
        "imagePullPolicy": "Never",
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    metadata: Json = {"name": name, "namespace": namespace, "labels": {"app": name}}
    spec: Json = {
        "serviceAccountName": "shop",
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": dict(node),
        "containers": [container],
    }
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    metadata["annotations"] = more.pop("annotations", {})
    metadata["labels"] |= more.pop("labels", {})
    container |= more.pop("container", {})
    spec |= more
    return copy.deepcopy(made)


def service(namespace: str, name: str) -> Json:
    """Return the Service in front of the pods of this name: HTTP at 8080, TCP at 5432."""
    ports = [{"name": "http", "port": 8080}, {"name": "tcp", "port": 5432}]
    return core("Service", name, namespace, spec={"selector": {"app": name}, "ports": ports})


def url(service: Json, port: int = 8080) -> str:
    """Return the full name of a Service, with a port."""
    meta = service["metadata"]
    return f"{meta['name']}.{meta['namespace']}.svc.cluster.local:{port}"


def identity(pod: Json) -> str:
    """Return the identity that istiod gives to a pod."""
    account, namespace = pod["spec"]["serviceAccountName"], pod["metadata"]["namespace"]
    return f"spiffe://cluster.local/ns/{namespace}/sa/{account}"


def istiod(plane: ControlPlane, *, revision: str = "default", **values: Any) -> Istiod:
    """Return an istiod of a revision for real proxies, with more values of its chart."""
    return Istiod(
        plane,
        revision=revision,
        values={**_ISTIO, **values},
        environment=_ENVIRONMENT,
        address=netns.HOST_IP,
    )


@contextlib.contextmanager
def running(
    workdir: Path, programs: Mapping[str, Path], store: Store, image: Image
) -> Iterator[WireCluster]:
    """Start everything, and yield when pods of an enrolled namespace get Istio's proxy."""
    archives = [
        pause(workdir, store),
        own_image(workdir, store, image),
        *images.archives(workdir, store, programs),
    ]
    address = netns.HOST_IP
    with contextlib.ExitStack() as stack:
        plane, nodes = stack.enter_context(real_nodes(workdir, programs, archives, dns=address))
        resolver = plane.user("dns", ["system:masters"])
        stack.enter_context(dns.serving(resolver, address))
        release = Release(plane)
        release.install(_VALUES, wait=False)
        file = str(build.istio_crds() / "crd-all.gen.yaml")
        plane.kubectl("apply", "--server-side", "--filename", file)
        stack.enter_context(istiod(plane))
        capture = stack.enter_context(Capture(nodes[1].machine.device))
        cluster = WireCluster(plane, nodes, capture)
        probe = cluster.namespace("enforce")
        wait_for(lambda: _joins(cluster, probe), why="mendix-mesh and Istio to be called")
        yield cluster


def _joins(cluster: WireCluster, namespace: str) -> bool:
    try:
        stored = cluster.api.create(app(namespace, "probe", NEAR), dry_run=True)
    except StatusError:
        return False
    return any(one["name"] == "istio-proxy" for one in stored["spec"].get("initContainers", ()))
