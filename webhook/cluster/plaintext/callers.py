"""Finds the callers outside the mesh that are cut off when a namespace is closed to plaintext.

The API server knows only possible callers; only the traffic shows the real ones. The kubelet's
probes still work: Linkerd authorizes them, Istio's injector redirects them to its agent, and
ztunnel admits them. The exception is a pod that tells Istio not to rewrite them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.judge import Judge, restarting
from webhook.cluster.kinds import entrances
from webhook.cluster.kinds.inventory import RUNNING, BadPod, Inventory, LivePod
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.policy import mendix

#: Values of the label app.kubernetes.io/name of Prometheus and similar scrapers.
SCRAPERS = (
    "prometheus", "prometheus-agent", "vmagent", "grafana-agent", "alloy",
    "opentelemetry-collector",
)  # fmt: skip
#: Resources that route clients to a namespace's apps: API version and plural.
_ROUTES = (("networking.k8s.io/v1", "ingresses"), ("gateway.networking.k8s.io/v1", "httproutes"))
_SCRAPE, _SCRAPE_PORT = "prometheus.io/scrape", "prometheus.io/port"
#: Istio's agent serves merged metrics on this port, not through the proxy
#: (files/injection-template.yaml).
_MERGED = "15020"
_REWRITE = "sidecar.istio.io/rewriteAppHTTPProbers"
_MONITORS = ("podmonitors", "servicemonitors")


class Caller(msgspec.Struct, kw_only=True):
    """A caller that would be cut off."""

    who: str
    #: How it is known that it calls, and why it would fail.
    why: str
    #: How to keep it working.
    fix: str


class CutOff(msgspec.Struct, kw_only=True):
    """The callers that would be cut off from a namespace."""

    callers: list[Caller] = []
    #: What could not be checked, and why.
    unknown: list[str] = []

    @property
    def is_nobody(self) -> bool:
        """Return whether it is certain that no caller would be cut off."""
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
    """Search for callers of a namespace. Raises `ClusterError` if the cluster fails."""
    return _Search(cluster, judge, namespace, mesh).found()


class _Search:
    """A search for the callers of a namespace."""

    def __init__(self, cluster: Cluster, judge: Judge, namespace: str, mesh: str) -> None:
        self._cluster = cluster
        self._judge = judge
        self._inventory = Inventory(cluster)
        self._namespace = namespace
        self._mesh = mesh
        self._pods: list[LivePod] = []

    def found(self) -> CutOff:
        """Return all callers that are found."""
        result = CutOff(callers=[], unknown=[])
        searches: tuple[tuple[str, Callable[[], Iterator[Caller]]], ...] = (
            ("pods of the namespace", self._neighbours),
            ("probes that the mesh does not rewrite", self._probes),
            ("Services that are reachable from outside the cluster", self._services),
            ("ingress controllers", self._ingresses),
            ("Prometheus", self._scrapers),
            ("the Mendix operator in another namespace", self._operator),
        )
        for what, search in searches:
            try:
                result.callers += search()
            except StatusError as error:
                if not error.is_forbidden:
                    raise
                result.unknown.append(f"{what}: {error}")
        return result

    def _neighbours(self) -> Iterator[Caller]:
        self._pods = list(self._running(self._namespace))
        names: dict[str, str] = {}
        for pod in self._pods:
            if self._is_outside(pod):
                names.setdefault(_title(self._inventory, pod), self._joining(pod))
        for name, fix in names.items():
            yield Caller(
                who=name,
                why="is in the namespace but outside the mesh, so the other pods would reject its "
                "requests",
                fix=fix,
            )

    def _probes(self) -> Iterator[Caller]:
        if self._mesh != "istio":
            return
        for pod in self._pods:
            if (pod.metadata.annotations or {}).get(_REWRITE, "").lower() == "false":
                yield Caller(
                    who=f"the kubelet, for probes of {_title(self._inventory, pod)}",
                    why=f"the annotation {_REWRITE}=false sends probes directly to the app",
                    fix=f"remove the annotation {_REWRITE} from the pod template",
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
                    who=f"clients outside the cluster, through Service {service.metadata.name}",
                    why=f"the Service is {kind} and leads directly to pods",
                    fix="let these clients use an ingress controller that is in the mesh",
                )

    def _ingresses(self) -> Iterator[Caller]:
        # All are listed, so that a missing right is always reported.
        routes = [self._any(*kind) for kind in _ROUTES]
        if not any(routes):
            return
        found = list(_that_run(entrances.pods(self._inventory, fields=RUNNING)))
        for pod in self._in_other_namespaces(found):
            if self._is_outside(pod):
                hosted = bool(pod.spec and pod.spec.host_network)
                yield Caller(
                    who=f"ingress controller {_title(self._inventory, pod)}",
                    why="routes clients to the namespace's apps and "
                    + ("uses hostNetwork" if hosted else "is outside the mesh"),
                    fix=(
                        "run it without hostNetwork, and in the mesh"
                        if hosted
                        else "bring it into the mesh"
                    )
                    + "; mendix-mesh explain ingress shows how",
                )
        if not found:
            yield Caller(
                who="the controller of the namespace's Ingresses or HTTPRoutes",
                why="no pod has the labels of a known ingress controller or gateway, so it is "
                "unknown whether the controller is in the mesh",
                fix="make sure that the controller is in the mesh",
            )

    def _scrapers(self) -> Iterator[Caller]:
        asks = any(self._asks_for_scrapes(pod) for pod in self._pods)
        if not asks and not any(self._any("monitoring.coreos.com/v1", kind) for kind in _MONITORS):
            return
        labels = f"{entrances.NAME} in ({','.join(SCRAPERS)})"
        for pod in self._in_other_namespaces(self._inventory.pods(labels=labels, fields=RUNNING)):
            if self._is_outside(pod):
                yield Caller(
                    who=f"{_title(self._inventory, pod)}",
                    why="scrapes pods of the namespace and is outside the mesh",
                    fix="bring it into the mesh, or keep a port open for it; mendix-mesh explain "
                    "strict shows how",
                )

    def _asks_for_scrapes(self, pod: LivePod) -> bool:
        """Return whether a pod asks to be scraped on a port that would reject plaintext."""
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
                        why="manages the namespace from another one and is outside the mesh",
                        fix=f"mendix-mesh discover --enroll -n {home}, then "
                        f"{restarting.command(home)}",
                    )

    def _running(self, namespace: str) -> Iterator[LivePod]:
        yield from _that_run(self._inventory.pods(namespace, fields=RUNNING))

    def _in_other_namespaces(self, pods: Iterable[LivePod | BadPod]) -> Iterator[LivePod]:
        """Yield one pod of each workload that runs in another namespace."""
        seen = set()
        for pod in _that_run(pods):
            title = _title(self._inventory, pod)
            if pod.namespace != self._namespace and title not in seen:
                seen.add(title)
                yield pod

    def _any(self, version: str, plural: str) -> bool:
        """Return whether the namespace has an object of a kind."""
        try:
            found = self._cluster.items(path(version, plural, self._namespace), size=1)
            return next(found, None) is not None
        except StatusError as error:
            if error.code == 404:
                return False
            raise

    def _joining(self, pod: LivePod) -> str:
        """Return how a neighbour joins the mesh: by one command for all that have a controller."""
        workload = self._inventory.workload(pod)
        if workload.kind not in ("Pod", "Node"):
            return restarting.command(self._namespace)
        judged = self._judge.judge(pod, Enrolled(self._mesh, "enforce", ingress=True, since=None))
        is_task = judged.pod is not None and mendix.is_task(judged.pod)
        return restarting.advice(workload, judged.role, is_task=is_task)

    def _is_outside(self, pod: LivePod) -> bool:
        return self._judge.runs_outside(pod, self._mesh)

    def _leads_to_gateways(self, selector: Mapping[str, str]) -> bool:
        """Return whether a Service selects only Istio's gateways, which accept any client.

        PeerAuthentications apply to sidecars and ztunnel, not to gateways
        (pilot/pkg/networking/core/listener_inbound.go).
        """
        chosen = [
            pod for pod in self._pods if selector.items() <= (pod.metadata.labels or {}).items()
        ]
        return bool(chosen) and all(map(self._is_gateway, chosen))

    def _is_gateway(self, pod: LivePod) -> bool:
        """Return whether a pod of the namespace is a gateway or waypoint of its mesh."""
        judged = self._judge.judge(pod, Enrolled(self._mesh, "enforce", ingress=True, since=None))
        mesh = self._judge.mesh(self._mesh)
        return judged.pod is not None and mesh.is_infrastructure(judged.pod)


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
