"""How often the API server calls the webhook for a Deployment, by the API server's own count."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.api import Api, wait_for
from tests.cluster.mesh import MESH_LABEL, MeshCluster
from tests.cluster.test_joins import run_now
from tests.cluster.workloads import ready_pods, rolled_out, workload

REPLICAS = 3
_CALLS = re.compile(
    r'^apiserver_admission_webhook_request_total\{.*name="(?P<name>ambient\.[^"]+)"'
    r'.*operation="(?P<operation>\w+)".*\} (?P<count>\d+)$',
    re.MULTILINE,
)
#: The calls for each new pod, and for a template that is new or changed.
PODS = {"mutate-pods CREATE": REPLICAS, "validate CREATE": REPLICAS}
NEW = {"mutate CREATE": 1, "validate CREATE": 1 + REPLICAS, "mutate-pods CREATE": REPLICAS}
CHANGED = {"mutate UPDATE": 1, "validate UPDATE": 1, **PODS}


class Calls:
    """Counts calls for pods, and for what creates them, in namespaces of the ambient mesh."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._before = self._now()

    def _now(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for call in _CALLS.finditer(self._api.text("/metrics")):
            kind = re.search(r"\.(mutate-pods|mutate)\.", call["name"])
            found[f"{kind[1] if kind else 'validate'} {call['operation']}"] += int(call["count"])
        return found

    def since(self) -> dict[str, int]:
        """Return the calls since the last time, by webhook and operation."""
        now = self._now()
        new, self._before = now - self._before, now
        return dict(new)


@pytest.fixture
def where(mesh_cluster: MeshCluster) -> Iterator[str]:
    """The only namespace in ambient mode, which needs no injector.

    Controllers in the namespaces of other tests may still try to create pods.
    """
    api = mesh_cluster.api

    def label(names: list[str], mesh: str | None) -> None:
        for name in names:
            api.patch("Namespace", name, None, {"metadata": {"labels": {MESH_LABEL: mesh}}})

    others = [
        one["metadata"]["name"] for one in api.list("Namespace")
        if one["metadata"].get("labels", {}).get(MESH_LABEL) == "ambient"
    ]  # fmt: skip
    label(others, None)
    yield mesh_cluster.enroll("enforce", mesh="ambient")
    label(others, "ambient")


def test_a_rollout_calls_for_the_deployment_and_for_each_pod_alone(
    mesh_cluster: MeshCluster, where: str
) -> None:
    api, calls = mesh_cluster.api, Calls(mesh_cluster.api)
    api.create(workload("Deployment", where, replicas=REPLICAS))
    ready_pods(api, where, count=REPLICAS)
    wait_for(lambda: rolled_out(api, where), why="the rollout to end")
    assert calls.since() == NEW

    def patch(spec: Any) -> None:
        api.patch("Deployment", "shop", where, {"spec": spec}, how="strategic")
        wait_for(lambda: rolled_out(api, where), why="the rollout to end")

    image = {"containers": [{"name": "app", "image": "registry.example.com/shop:2"}]}
    patch({"template": {"spec": image}})
    assert calls.since() == CHANGED

    patch({"replicas": REPLICAS + 2, "minReadySeconds": 1})
    assert calls.since() == {"mutate-pods CREATE": 2, "validate CREATE": 2}

    api.patch("Deployment", "shop", where, {"metadata": {"labels": {"team": "shop"}}})
    patch({"replicas": 0})
    assert calls.since() == {}


def test_a_cron_job_calls_for_itself_and_for_each_pod_alone(
    mesh_cluster: MeshCluster, where: str
) -> None:
    api, calls = mesh_cluster.api, Calls(mesh_cluster.api)
    made = workload("CronJob", where)
    stored = api.create(made)
    assert calls.since() == {"mutate CREATE": 1, "validate CREATE": 1}
    run_now(api, stored)
    wait_for(
        lambda: [one for one in api.list("Job", where) if one["status"].get("succeeded")],
        why="a Job to end",
    )
    assert calls.since() == {"mutate-pods CREATE": 1, "validate CREATE": 1}
