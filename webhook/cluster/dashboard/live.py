"""Reads from the API server what pages need at that moment, with limits.

Readers share recent results, so many readers cause the same load on the API server as one. Each
reader waits only a few seconds.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.dashboard import denials
from webhook.cluster.dashboard.denials import Denials
from webhook.cluster.judge import STATES, Judge, Judged, State
from webhook.cluster.kinds import controllers, entrances
from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod, Workload
from webhook.cluster.namespaces.discovery import mendix_namespaces
from webhook.cluster.namespaces.enrollment import Enrolled, Enrollment

#: Seconds for which a result stays valid. The list of Mendix namespaces seldom changes, so it stays
#: valid longer.
_FRESH, _FRESH_NAMESPACES = 5.0, 60.0
#: Seconds that a page waits for the API server. The call then continues in the background.
PATIENCE = 10.0
#: The maximum numbers of cached results, of pods per workload, of pods that are searched for them,
#: and of pods of ingress controllers.
_MOST_ANSWERS, MOST_PODS, MOST_LOOKED_AT, _MOST_CONTROLLERS = 64, 500, 5_000, 200

T = TypeVar("T")


class Pods(NamedTuple):
    """The judged pods of a workload."""

    #: How their namespace is enrolled, or how its pods are judged if it is not.
    enrolled: Enrolled
    is_enrolled: bool
    pods: list[tuple[LivePod | BadPod, Judged | None]]
    #: Why the list may be incomplete; empty if it is complete.
    cut: str


class Entrance(NamedTuple):
    """A pod of an ingress controller, judged by the mesh of a namespace that it serves."""

    namespace: str
    name: str
    state: State


class Live:
    """Reads with the rights of the dashboard's process. All methods may raise `ClusterError`."""

    def __init__(self, cluster: Cluster, judge: Judge, *, patience: float = PATIENCE) -> None:
        self._cluster = cluster
        self._judge = judge
        self._patience = patience
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[float, Future[Any]]] = OrderedDict()

    def mendix(self) -> frozenset[str]:
        """Return the names of Mendix's namespaces."""
        return self._shared(
            "mendix", lambda: frozenset(mendix_namespaces(self._cluster)), _FRESH_NAMESPACES
        )

    def denials(self) -> Denials:
        """Return the recent denials of the webhook, from the Events of controllers."""
        return self._shared("denials", lambda: denials.read(self._cluster))

    def ingresses(self, namespace: str) -> list[str]:
        """Return the names of a namespace's Ingresses."""

        def read() -> list[str]:
            where = path("networking.k8s.io/v1", "ingresses", namespace)
            stored = self._cluster.items(where, partial=True)
            names = (msgspec.json.decode(raw)["metadata"]["name"] for raw in stored)
            return list(islice(names, MOST_PODS))

        return self._shared(("ingresses", namespace), read)

    def entrances(self, mesh: str) -> list[Entrance]:
        """Return the pods of known ingress controllers and gateways, judged by a mesh."""

        def read() -> list[Entrance]:
            # Sidecars, gateways and ztunnel use mutual TLS with each other.
            meshes = ("istio", "ambient") if mesh in ("istio", "ambient") else (mesh,)
            ways = [Enrolled(one, "enforce", ingress=True, since=None) for one in meshes]
            pods = entrances.pods(Inventory(self._cluster))
            return [
                Entrance(
                    pod.namespace,
                    pod.name,
                    min((self._judge.judge(pod, way).state for way in ways), key=STATES.index),
                )
                for pod in islice(pods, _MOST_CONTROLLERS)
                if isinstance(pod, LivePod) and not pod.has_ended
            ]

        return self._shared(("entrances", mesh), read)

    def pods(self, workload: Workload, mesh: str) -> Pods:
        """Return the pods of a workload. If not enrolled, it is judged by `mesh` and enforce."""
        return self._shared(("pods", workload, mesh), lambda: self._pods(workload, mesh))

    def _pods(self, workload: Workload, mesh: str) -> Pods:
        inventory = Inventory(self._cluster)
        found = Enrollment.read(self._cluster).of(inventory.namespace(workload.namespace))
        enrolled = found or Enrolled(mesh, "enforce", ingress=False, since=None)
        judged: list[tuple[LivePod | BadPod, Judged | None]] = []
        cut = ""
        for looked_at, pod in enumerate(self._candidates(inventory, workload)):
            if looked_at == MOST_LOOKED_AT or len(judged) == MOST_PODS:
                cut = f"only {len(judged)} pods, because the namespace has too many"
                break
            if isinstance(pod, BadPod):
                if (workload.kind, workload.name) == ("Pod", pod.name):
                    judged.append((pod, None))
            elif not pod.has_ended and inventory.workload(pod) == workload:
                judged.append((pod, self._judge.judge(pod, enrolled)))
        return Pods(enrolled, found is not None, judged, cut)

    def _candidates(self, inventory: Inventory, workload: Workload) -> Iterator[LivePod | BadPod]:
        """Yield pods that may belong to a workload, as few as the user's rights allow."""
        if workload.kind == "Pod":
            return inventory.pods(workload.namespace, fields=f"metadata.name={workload.name}")
        try:
            controller = controllers.find(self._cluster, workload)
        except StatusError as error:
            if not error.is_forbidden:
                raise
            controller = None
        labels = controller.labels if controller else ""
        return inventory.pods(workload.namespace, labels=labels)

    def _shared(self, key: Hashable, read: Callable[[], T], fresh: float | None = None) -> T:
        """Return a recent result, or the one that is being read, or read it now."""
        now, fresh = time.monotonic(), _FRESH if fresh is None else fresh
        with self._lock:
            known = self._known.get(key)
            if known is None or (known[1].done() and now - known[0] > fresh):
                known = self._known[key] = (now, _begun(read))
                self._known.move_to_end(key)
                if len(self._known) > _MOST_ANSWERS:
                    self._known.popitem(last=False)
        try:
            return cast("T", known[1].result(self._patience))
        except TimeoutError:
            raise ClusterError(
                f"{self._cluster.server} did not answer within {self._patience:.0f} s"
            ) from None


def _begun(read: Callable[[], T]) -> "Future[T]":
    """Read in a separate thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(read())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="dashboard-read").start()
    return future
