"""Who is cut off when a namespace refuses plaintext: callers that are known, and not in the mesh.

Only what the API server knows: who really calls, only the traffic tells. The kubelet's probes pass:
Linkerd authorizes them, Istio's injector sends them by its agent, and ztunnel lets them through;
but for a pod that asks Istio not to rewrite them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.judge import Judge, is_outside
from webhook.cluster.kinds import entrances
from webhook.cluster.kinds.inventory import RUNNING, BadPod, Inventory, LivePod
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.policy.meshes.ambient import REDIRECTION

#: Names by which Prometheus and its like are known, in the usual label.
SCRAPERS = (
    "prometheus", "prometheus-agent", "vmagent", "grafana-agent", "alloy",
    "opentelemetry-collector",
)  # fmt: skip
#: What leads clients to a namespace's apps: their groups and names in the API.
_ROUTES = (("networking.k8s.io/v1", "ingresses"), ("gateway.networking.k8s.io/v1", "httproutes"))
_SCRAPE, _SCRAPE_PORT = "prometheus.io/scrape", "prometheus.io/port"
#: Istio's agent serves merged metrics there, past the proxy (files/injection-template.yaml).
_MERGED = "15020"
_REWRITE = "sidecar.istio.io/rewriteAppHTTPProbers"
_MONITORS = ("podmonitors", "servicemonitors")


class Caller(msgspec.Struct, kw_only=True):
    """Someone who would be cut off."""

    who: str
    #: How it is known that it calls, and why it would fail.
    why: str
    fix: str


class CutOff(msgspec.Struct, kw_only=True):
    """Who would be cut off from a namespace."""

    callers: list[Caller] = []
    #: What could not be looked for, and why.
    unknown: list[str] = []

    @property
    def is_nobody(self) -> bool:
        """Whether it is known that nobody would be."""
        return not self.callers and not self.unknown


class _Item(msgspec.Struct):
    class Meta(msgspec.Struct):
        """Its name."""

        name: str = ""
        namespace: str = ""

    metadata: Meta


class _Service(msgspec.Struct, rename="camel"):
    class Spec(msgspec.Struct, rename="camel"):
        """What makes it reachable from outside the cluster."""

        type: str = "ClusterIP"
        selector: dict[str, str] | None = None
        external_ips: list[str] | None = msgspec.field(name="externalIPs", default=None)

    metadata: _Item.Meta
    spec: Spec


def cut_off(cluster: Cluster, judge: Judge, namespace: str, mesh: str) -> CutOff:
    """Look for callers of a namespace. Raises `ClusterError` where the cluster fails."""
    return _Search(cluster, judge, namespace, mesh).found()


class _Search:
    """One look for the callers of a namespace."""

    def __init__(self, cluster: Cluster, judge: Judge, namespace: str, mesh: str) -> None:
        self._cluster = cluster
        self._judge = judge
        self._inventory = Inventory(cluster)
        self._namespace = namespace
        self._mesh = mesh
        self._pods: list[LivePod] = []

    def found(self) -> CutOff:
        """Everyone who is found."""
        result = CutOff(callers=[], unknown=[])
        looks: tuple[tuple[str, Callable[[], Iterator[Caller]]], ...] = (
            ("pods of the namespace", self._neighbours),
            ("probes that the mesh does not rewrite", self._probes),
            ("Services that are reached from outside the cluster", self._services),
            ("ingress controllers", self._ingresses),
            ("Prometheus", self._scrapers),
            ("the Mendix operator in another namespace", self._operator),
        )
        for what, look in looks:
            try:
                result.callers += look()
            except RefusedError as error:
                if not error.is_forbidden:
                    raise
                result.unknown.append(f"{what}: {error}")
        return result

    def _neighbours(self) -> Iterator[Caller]:
        self._pods = list(self._running(self._namespace))
        names: dict[str, None] = {}
        for pod in self._pods:
            if self._is_outside(pod):
                names.setdefault(_title(self._inventory, pod))
        for name in names:
            yield Caller(
                who=name,
                why="is in the namespace and not in the mesh: what it sends to the others is "
                "refused",
                fix=f"mendix-mesh restart -n {self._namespace}",
            )

    def _probes(self) -> Iterator[Caller]:
        if self._mesh != "istio":
            return
        for pod in self._pods:
            if (pod.metadata.annotations or {}).get(_REWRITE, "").lower() == "false":
                yield Caller(
                    who=f"the kubelet, for {_title(self._inventory, pod)}",
                    why=f"annotation {_REWRITE} sends its probes to the app itself",
                    fix="remove the annotation",
                )

    def _services(self) -> Iterator[Caller]:
        for raw in self._cluster.items(path("v1", "services", self._namespace)):
            service = msgspec.json.decode(raw, type=_Service)
            spec = service.spec
            if not spec.selector or self._leads_to_gateways(spec.selector):
                continue
            if spec.type in ("LoadBalancer", "NodePort") or spec.external_ips:
                kind = spec.type if spec.type != "ClusterIP" else "with externalIPs"
                yield Caller(
                    who=f"clients outside the cluster, by Service {service.metadata.name}",
                    why=f"it is {kind}, and leads straight to pods",
                    fix="let them come by an ingress controller that is in the mesh",
                )

    def _ingresses(self) -> Iterator[Caller]:
        # All are asked for, so that a right that lacks is told whatever the others say.
        routes = [self._any(*kind) for kind in _ROUTES]
        if not any(routes):
            return
        found = list(_that_run(entrances.pods(self._inventory, fields=RUNNING)))
        for pod in self._elsewhere(found):
            if self._is_outside(pod):
                hosted = bool(pod.spec and pod.spec.host_network)
                yield Caller(
                    who=f"ingress controller {_title(self._inventory, pod)}",
                    why="leads clients to the namespace's apps and is "
                    + ("on the node's network" if hosted else "not in the mesh"),
                    fix="run it without hostNetwork, and in the mesh: see docs/install.md"
                    if hosted
                    else "bring it into the mesh: see docs/install.md",
                )
        if not found:
            yield Caller(
                who="whoever serves the namespace's Ingresses or HTTPRoutes",
                why="no pod with the labels of a known ingress controller or gateway was found",
                fix="see that the controller is in the mesh",
            )

    def _scrapers(self) -> Iterator[Caller]:
        asks = any(self._asks_for_scrapes(pod) for pod in self._pods)
        if not asks and not any(self._any("monitoring.coreos.com/v1", kind) for kind in _MONITORS):
            return
        labels = f"{entrances.NAME} in ({','.join(SCRAPERS)})"
        for pod in self._elsewhere(self._inventory.pods(labels=labels, fields=RUNNING)):
            if self._is_outside(pod):
                yield Caller(
                    who=f"{_title(self._inventory, pod)}",
                    why="scrapes pods of the namespace and is not in the mesh",
                    fix="bring it into the mesh, or leave it a port: see docs/strict.md",
                )

    def _asks_for_scrapes(self, pod: LivePod) -> bool:
        """Whether a pod asks to be scraped at a port where plaintext would be refused."""
        marks = pod.metadata.annotations or {}
        merged = _MERGED if self._mesh == "istio" else ""
        if marks.get(_SCRAPE) != "true" or marks.get(_SCRAPE_PORT, "") == merged:
            return False
        return not self._is_gateway(pod)

    def _operator(self) -> Iterator[Caller]:
        if any(_is_operator(pod) for pod in self._pods):
            return
        where = path("apps/v1", "deployments")
        homes = {
            msgspec.json.decode(raw, type=_Item).metadata.namespace
            for raw in self._cluster.items(where, fields="metadata.name=mendix-operator")
        }
        for home in sorted(homes - {self._namespace}):
            for pod in self._running(home):
                if _is_operator(pod) and self._is_outside(pod):
                    yield Caller(
                        who=_title(self._inventory, pod),
                        why="manages the namespace from another one and is not in the mesh",
                        fix=f"enroll {home}, then mendix-mesh restart -n {home}",
                    )

    def _running(self, namespace: str) -> Iterator[LivePod]:
        yield from _that_run(self._inventory.pods(namespace, fields=RUNNING))

    def _elsewhere(self, pods: Iterable[LivePod | BadPod]) -> Iterator[LivePod]:
        """One pod a workload of those that run in other namespaces."""
        seen = set()
        for pod in _that_run(pods):
            title = _title(self._inventory, pod)
            if pod.namespace != self._namespace and title not in seen:
                seen.add(title)
                yield pod

    def _any(self, version: str, plural: str) -> bool:
        """Whether the namespace has an object of a kind."""
        try:
            found = self._cluster.items(path(version, plural, self._namespace), size=1)
            return next(found, None) is not None
        except RefusedError as error:
            if error.code == 404:
                return False
            raise

    def _is_outside(self, pod: LivePod) -> bool:
        """Whether a pod is in no mesh that the namespace's speaks mutual TLS with."""
        if self._mesh == "linkerd":
            return self._is_out_of(pod, "linkerd")
        if (pod.metadata.annotations or {}).get(REDIRECTION) == "enabled":
            return False
        return self._is_out_of(pod, "istio") and self._is_out_of(pod, "ambient")

    def _leads_to_gateways(self, selector: Mapping[str, str]) -> bool:
        """Whether a Service selects Istio's gateways alone: their clients may be anyone's.

        PeerAuthentications rule what a sidecar or ztunnel lets in, and not what a gateway does
        (pilot/pkg/networking/core/listener_inbound.go).
        """
        chosen = [
            pod for pod in self._pods if selector.items() <= (pod.metadata.labels or {}).items()
        ]
        return bool(chosen) and all(map(self._is_gateway, chosen))

    def _is_gateway(self, pod: LivePod) -> bool:
        """Whether a pod of the namespace is its mesh's own gateway or waypoint."""
        judged = self._judge.judge(pod, Enrolled(self._mesh, "enforce", ingress=True, since=None))
        mesh = self._judge.mesh(self._mesh)
        return judged.pod is not None and mesh.is_infrastructure(judged.pod)

    def _is_out_of(self, pod: LivePod, mesh: str) -> bool:
        judged = self._judge.judge(pod, Enrolled(mesh, "enforce", ingress=True, since=None))
        return is_outside(judged, self._judge.mesh(mesh))


def _title(inventory: Inventory, pod: LivePod) -> str:
    owner = inventory.workload(pod)
    return f"{owner.kind} {owner.namespace}/{owner.name}"


def _that_run(pods: Iterable[LivePod | BadPod]) -> Iterator[LivePod]:
    for pod in pods:
        if not isinstance(pod, BadPod) and pod.runs:
            yield pod


def _is_operator(pod: LivePod) -> bool:
    owner = pod.metadata.controller
    return (owner.name if owner else pod.name).startswith("mendix-operator")
