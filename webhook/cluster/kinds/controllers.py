"""The controllers of apps/v1 that make pods, and what their budgets for disruption allow.

What a rollout may take away at once is from the API reference of each kind (maxUnavailable,
maxSurge and their defaults); a rollout heeds no PodDisruptionBudget, only evictions do.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, Json, path
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.kinds.inventory import Workload
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
    """Base of what is read: camelCase, all else skipped."""


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
    """A Deployment, StatefulSet, DaemonSet or ReplicaSet as it is stored."""

    kind: str
    metadata: _Meta
    spec: _Spec
    status: _Status = _Status()

    @property
    def wanted(self) -> int:
        """How many pods it is to have."""
        if self.kind == "DaemonSet":
            return self.status.desired_number_scheduled
        return self.spec.replicas

    @property
    def is_owned(self) -> bool:
        """Whether somebody manages it who would undo a change of its template."""
        seen = objects.Object(api_version=_VERSION, kind=self.kind, metadata=self.metadata)
        return is_owned(seen) or mendix.is_operator_owned(seen)

    @property
    def rolls(self) -> bool:
        """Whether it replaces all its pods when its template changes."""
        if self.kind == "Deployment":
            return not self.spec.paused
        strategy = self.spec.update_strategy
        whole = strategy.type == "RollingUpdate" and not strategy.rolling_update.partition
        return whole and self.kind != "ReplicaSet"

    @property
    def lets_go(self) -> int:
        """How many pods a rollout may take away at once."""
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
        """Whether its controller has seen the newest template, and all its pods are of it."""
        status = self.status
        updated = (
            status.updated_number_scheduled if self.kind == "DaemonSet" else status.updated_replicas
        )
        return status.observed_generation >= self.metadata.generation and updated >= self.wanted

    @property
    def trouble(self) -> str:
        """Why it can't make pods, in its controller's words; empty where it says nothing."""
        for one in self.status.conditions:
            if one.type == "ReplicaFailure" and one.status == "True":
                return " ".join(one.message.split())
        return ""

    @property
    def labels(self) -> str:
        """A label selector for its pods, as the API server takes it."""
        chosen = self.spec.selector
        parts = [f"{key}={value}" for key, value in chosen.match_labels.items()]
        for one in chosen.match_expressions:
            if one.operator in ("In", "NotIn"):
                parts.append(f"{one.key} {one.operator.lower()} ({','.join(one.values)})")
            else:
                parts.append(one.key if one.operator == "Exists" else f"!{one.key}")
        return ",".join(parts)

    def pod(self, namespace: str, like: Json) -> Json:
        """The pod that it would make now; `like` is one of its pods, of the same owner.

        A StatefulSet's claims are named after that pod.
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
    """What 2, or 25%, of so many pods is, rounded up or down."""
    if isinstance(given, int):
        return given
    percent = int(given.removesuffix("%")) * of
    return -(-percent // 100) if up else percent // 100


def place(workload: Workload) -> str:
    """The path of a workload that is one of these; empty for any other."""
    plural = _PLURALS.get(workload.kind, "") if workload.api_version == _VERSION else ""
    return plural and path(_VERSION, plural, workload.namespace, workload.name)


def find(cluster: Cluster, workload: Workload) -> Controller | None:
    """A workload as it is stored; None where it is gone, or none of these kinds."""
    where = place(workload)
    stored = cluster.find(where) if where else None
    return None if stored is None else msgspec.convert(stored, Controller)


class _BudgetStatus(_Fields, frozen=True, rename="camel"):
    expected_pods: int = 0
    desired_healthy: int = 0


class _BudgetSpec(_Fields, frozen=True, rename="camel"):
    selector: Selector | None = None


class _Budget(_Fields, frozen=True, rename="camel"):
    spec: _BudgetSpec
    status: _BudgetStatus = _BudgetStatus()


class Budgets(NamedTuple):
    """The PodDisruptionBudgets of a namespace; `known` is False where they must not be read."""

    all: list[_Budget]
    known: bool = True

    @classmethod
    def read(cls, cluster: Cluster, namespace: str) -> "Budgets":
        """Read them. Raises `ClusterError`, but not where that is forbidden."""
        try:
            stored = cluster.items(path("policy/v1", "poddisruptionbudgets", namespace))
            found = [msgspec.json.decode(raw, type=_Budget) for raw in stored]
        except RefusedError as error:
            if not error.is_forbidden:
                raise
            return cls([], known=False)
        return cls(found)

    def allow_rollout(self, controller: Controller) -> bool:
        """Whether a rollout takes no more pods away than every budget of these pods allows."""
        meta: Mapping[str, Any] = controller.spec.template.get("metadata") or {}
        labels: Mapping[str, str] = meta.get("labels") or {}
        return self.known and all(
            controller.lets_go <= one.status.expected_pods - one.status.desired_healthy
            for one in self.all
            if one.spec.selector and one.spec.selector.matches(labels)
        )
