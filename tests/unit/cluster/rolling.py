"""A `World` with controllers: evicted or restarted pods are recreated immediately."""

import copy
import json
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.unit.cluster.apiserver import HttpRequest, Reply, status
from tests.unit.cluster.world import BEFORE, Json, World, meshed, owned, unmeshed

_PLURALS = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "ReplicaSet": "replicasets",
}
BUDGET = {"causes": [{"reason": "DisruptionBudget", "message": "needs 1 healthy pods"}]}


class RollingWorld(World):
    """Recreated pods are made by `created_as`. The requests are recorded in `done`."""

    def __init__(self) -> None:
        super().__init__()
        self.created_as: Callable[[], Json] = meshed
        self.done: list[str] = []
        #: How often a budget rejects an eviction before it succeeds.
        self.held = 0
        #: The answer to the dry run of a pod; None: by `created_as`.
        self.denial: Reply | None = None
        self.tried: list[Json] = []
        self._made = 0

    def workload(
        self,
        namespace: str,
        kind: str,
        name: str,
        *,
        pods: int = 1,
        pod: Json | None = None,
        **more: Json,
    ) -> Json:
        """Add a controller and its pods. By default they are older than the enrollment."""
        spec = {
            "replicas": pods,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": []}},
            **more.get("spec", {}),
        }
        meta = {"generation": 1, **more.get("metadata", {})}
        counts = {"observedGeneration": 9, "updatedReplicas": pods,
                  "desiredNumberScheduled": pods, "updatedNumberScheduled": pods}  # fmt: skip
        where = f"/apis/apps/v1/namespaces/{namespace}/{_PLURALS[kind]}/{name}"
        obj = {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec,
               "status": {**counts, **more.get("status", {})}}  # fmt: skip
        for number in range(pods):
            self.member(
                namespace, kind, name, f"{name}-{number}", pod or unmeshed(), created=BEFORE
            )
        return self.add(where, obj)

    def member(
        self, namespace: str, kind: str, name: str, pod_name: str, pod: Json, **more: str
    ) -> None:
        """Add a ready pod of a controller."""
        made = owned(pod, kind, name)
        made["metadata"].setdefault("labels", {})["app"] = name
        made["metadata"]["uid"] = f"uid {pod_name} {len(self.done)}"
        made.setdefault("status", {"conditions": [{"type": "Ready", "status": "True"}]})
        self.pod(namespace, pod_name, made, **more)

    def answer(self, request: HttpRequest) -> Reply:
        """Return the API server's answer."""
        url = urlsplit(request.target)
        forbidden = any(url.path.startswith(one) for one in self.forbidden)
        if request.method == "POST" and not forbidden:
            if url.path.endswith("/eviction"):
                return self._evicted(url.path.removesuffix("/eviction"))
            self.tried.append(json.loads(request.body))
            return self.denial or Reply(body=self._created(self.tried[-1]))
        reply = super().answer(request)
        if request.method == "PATCH" and reply.status == 200:
            self._rolled(url.path)
        return reply

    def _created(self, pod: Json) -> Json:
        made = copy.deepcopy(self.created_as())
        made["metadata"] |= {"name": "tried", "namespace": pod["metadata"]["namespace"]}
        return made

    def _evicted(self, where: str) -> Reply:
        if self.held:
            self.held -= 1
            return status(429, "TooManyRequests", "Cannot evict pod", details=BUDGET)
        *_, namespace, _, name = where.split("/")
        self.done.append(f"evict {name}")
        gone = self.objects.pop(where, None)
        if gone is None:
            return status(404, "NotFound", "gone")
        owners = gone["metadata"].get("ownerReferences")
        if owners:
            kind, of = owners[0]["kind"], gone["metadata"]["labels"].get("app", "")
            if kind == "ReplicaSet" and owners[0]["name"].endswith("-7fd5"):
                kind = "Deployment"
            self._recreate(namespace, kind, of)
        return Reply(201, {})

    def _rolled(self, where: str) -> None:
        *_, namespace, plural, name = where.split("/")
        self.done.append(f"restart {name}")
        kind = next(kind for kind, one in _PLURALS.items() if one == plural)
        for place, obj in list(self.objects.items()):
            in_it = f"/namespaces/{namespace}/pods/" in place
            if in_it and obj["metadata"].get("labels", {}).get("app") == name:
                del self.objects[place]
                self._recreate(namespace, kind, name)

    def _recreate(self, namespace: str, kind: str, name: str) -> None:
        self._made += 1
        self.member(namespace, kind, name, f"{name}-new-{self._made}", self.created_as())
