"""The controllers of apps/v1 that create pods, and their PodDisruptionBudgets.

How many pods a rollout may remove at once follows the API reference of each kind (maxUnavailable,
maxSurge and their defaults). A rollout ignores PodDisruptionBudgets. Only evictions respect them.
"""

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, Json, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.kinds.inventory import LivePod, Workload
from webhook.policy import mendix
from webhook.policy.pod import objects
from webhook.policy.pod.workload import is_owned
from webhook.policy.settings import Selector

_VERSION = "apps/v1"
_PLURALS = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "ReplicaSet": "replicasets",
}
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class _Fields(msgspec.Struct, frozen=True, rename="camel"):
    """Base class: camelCase names, and other fields are ignored."""


class _Rolling(_Fields, frozen=True, rename="camel"):
    max_unavailable: int | str | None = None
    max_surge: int | str | None = None
    partition: int = 0


class _Strategy(_Fields, frozen=True, rename="camel"):
    type: str = "RollingUpdate"
    rolling_update: _Rolling = _Rolling()


class _Spec(_Fields, frozen=True, rename="camel"):
    selector: Selector
    template: Json
    replicas: int = 1
    paused: bool = False
    strategy: _Strategy = _Strategy()
    update_strategy: _Strategy = _Strategy()
    volume_claim_templates: list[Json] = []


class _Condition(_Fields, frozen=True, rename="camel"):
    type: str
    status: str
    message: str = ""


class _Status(_Fields, frozen=True, rename="camel"):
    observed_generation: int = 0
    updated_replicas: int = 0
    desired_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    conditions: list[_Condition] = []


class _Meta(objects.Meta, frozen=True, gc=False, rename="camel"):
    generation: int = 0


class Controller(_Fields, frozen=True, rename="camel"):
    """A stored Deployment, StatefulSet, DaemonSet or ReplicaSet."""

    kind: str
    metadata: _Meta
    spec: _Spec
    status: _Status = _Status()

    @property
    def wanted(self) -> int:
        """Return the desired number of pods."""
        if self.kind == "DaemonSet":
            return self.status.desired_number_scheduled
        return self.spec.replicas

    @property
    def is_owned(self) -> bool:
        """Return whether an owner or operator would revert a change of its template."""
        seen = objects.Object(api_version=_VERSION, kind=self.kind, metadata=self.metadata)
        return is_owned(seen) or mendix.is_operator_owned(seen)

    @property
    def rolls(self) -> bool:
        """Return whether it replaces all its pods when its template changes."""
        if self.kind == "Deployment":
            return not self.spec.paused
        strategy = self.spec.update_strategy
        whole = strategy.type == "RollingUpdate" and not strategy.rolling_update.partition
        return whole and self.kind != "ReplicaSet"

    @property
    def lets_go(self) -> int:
        """Return how many pods a rollout may remove at once."""
        if self.kind != "Deployment":
            given = self.spec.update_strategy.rolling_update.max_unavailable
            return _share(1 if given is None else given, self.wanted, up=True)
        if self.spec.strategy.type == "Recreate":
            return self.wanted
        rolling = self.spec.strategy.rolling_update
        share, surge = rolling.max_unavailable, rolling.max_surge
        least = _share("25%" if share is None else share, self.wanted, up=False)
        most = _share("25%" if surge is None else surge, self.wanted, up=True)
        return least if least or most else 1

    @property
    def is_rolled_out(self) -> bool:
        """Return whether its controller has seen the newest template, and all its pods have it."""
        status = self.status
        updated = (
            status.updated_number_scheduled if self.kind == "DaemonSet" else status.updated_replicas
        )
        return status.observed_generation >= self.metadata.generation and updated >= self.wanted

    @property
    def trouble(self) -> str:
        """Return why it can't create pods, in its controller's words; empty without an error."""
        for one in self.status.conditions:
            if one.type == "ReplicaFailure" and one.status == "True":
                return " ".join(one.message.split())
        return ""

    @property
    def labels(self) -> str:
        """Return the label selector for its pods, in the API server's syntax."""
        chosen = self.spec.selector
        parts = [f"{key}={value}" for key, value in chosen.match_labels.items()]
        for one in chosen.match_expressions:
            if one.operator in ("In", "NotIn"):
                parts.append(f"{one.key} {one.operator.lower()} ({','.join(one.values)})")
            else:
                parts.append(one.key if one.operator == "Exists" else f"!{one.key}")
        return ",".join(parts)

    def pod(self, namespace: str, like: Json) -> Json:
        """Return the pod that it would create now. `like` is one of its pods, with the same owner.

        In a StatefulSet, the names of the claims follow that pod.
        """
        template = self.spec.template
        meta = template.get("metadata") or {}
        owners = [
            {key: value for key, value in owner.items() if key != "blockOwnerDeletion"}
            for owner in like["metadata"].get("ownerReferences", ())
        ]
        metadata = {
            **{key: meta[key] for key in ("labels", "annotations") if meta.get(key)},
            "namespace": namespace,
            "generateName": f"{self.metadata.name}-",
            "ownerReferences": owners,
        }
        spec = dict(template["spec"])
        claims = [claim["metadata"]["name"] for claim in self.spec.volume_claim_templates]
        if claims:
            own = [one for one in spec.get("volumes") or () if one["name"] not in claims]
            name = like["metadata"]["name"]
            spec["volumes"] = own + [
                {"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}"}}
                for claim in claims
            ]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _share(given: int | str, of: int, *, up: bool) -> int:
    """Return a number, or a percentage of a number of pods, rounded up or down."""
    if isinstance(given, int):
        return given
    percent = int(given.removesuffix("%")) * of
    return -(-percent // 100) if up else percent // 100


def place(workload: Workload) -> str:
    """Return the path of a workload of these kinds; empty for other kinds."""
    plural = _PLURALS.get(workload.kind, "") if workload.api_version == _VERSION else ""
    return plural and path(_VERSION, plural, workload.namespace, workload.name)


def find(cluster: Cluster, workload: Workload) -> Controller | None:
    """Return a stored workload; None if it is gone or has another kind."""
    where = place(workload)
    stored = cluster.find(where) if where else None
    return None if stored is None else msgspec.convert(stored, Controller)


def roll_out(cluster: Cluster, workload: Workload) -> None:
    """Make a controller roll out all its pods, like kubectl rollout restart."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    template = {"metadata": {"annotations": {RESTARTED_AT: now.replace("+00:00", "Z")}}}
    cluster.patch(place(workload), {"spec": {"template": template}})


class _BudgetStatus(_Fields, frozen=True, rename="camel"):
    expected_pods: int = 0
    desired_healthy: int = 0


class _BudgetSpec(_Fields, frozen=True, rename="camel"):
    selector: Selector | None = None
    unhealthy_pod_eviction_policy: str = "IfHealthyBudget"


class _Budget(_Fields, frozen=True, rename="camel"):
    metadata: objects.Meta = objects.Meta()
    spec: _BudgetSpec = _BudgetSpec()
    status: _BudgetStatus = _BudgetStatus()

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Return whether it is about pods with these labels."""
        return self.spec.selector is not None and self.spec.selector.matches(labels)

    def forbids(self, pod: LivePod) -> bool:
        """Return whether it allows no eviction of a pod, also if all its pods are healthy."""
        if not pod.is_ready and self.spec.unhealthy_pod_eviction_policy == "AlwaysAllow":
            return False
        # Without expected pods, the controller has not seen the budget yet.
        return 0 < self.status.expected_pods <= self.status.desired_healthy


class Budgets(NamedTuple):
    """The PodDisruptionBudgets of a namespace. `known` is False if reading them is forbidden."""

    all: list[_Budget]
    known: bool = True

    @classmethod
    def read(cls, cluster: Cluster, namespace: str) -> "Budgets":
        """Read the budgets. Raise `ClusterError`, except if reading them is forbidden."""
        try:
            stored = cluster.items(path("policy/v1", "poddisruptionbudgets", namespace))
            found = [msgspec.json.decode(raw, type=_Budget) for raw in stored]
        except StatusError as error:
            if not error.is_forbidden:
                raise
            return cls([], known=False)
        return cls(found)

    def allow_rollout(self, controller: Controller) -> bool:
        """Return whether a rollout stays within every budget of these pods."""
        meta: Mapping[str, Any] = controller.spec.template.get("metadata") or {}
        labels: Mapping[str, str] = meta.get("labels") or {}
        return self.known and all(
            controller.lets_go <= one.status.expected_pods - one.status.desired_healthy
            for one in self.all
            if one.takes(labels)
        )

    def why_not(self, pod: LivePod) -> str:
        """Return why a pod can't be evicted as long as its budgets are as they are; else empty.

        The API server evicts pods that are pending or have ended whatever their budget says, and no
        pod that several budgets select (pkg/registry/core/pod/storage/eviction.go).
        """
        if pod.status.phase == "Pending" or not pod.runs:
            return ""
        found = [one for one in self.all if one.takes(pod.metadata.labels or {})]
        names = " and ".join(f"{pod.namespace}/{one.metadata.name}" for one in found)
        if len(found) > 1:
            return f"the PodDisruptionBudgets {names} both select its pods, so none can be evicted"
        for one in found:
            if one.forbids(pod):
                counts = one.status
                return (
                    f"PodDisruptionBudget {names} allows no eviction: {counts.desired_healthy} of "
                    f"{counts.expected_pods} pods must stay healthy"
                )
        return ""
