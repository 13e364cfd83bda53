"""`restart` on the real API server, with the ServiceAccount of docs/rbac.yaml.

Controllers, evictions and budgets are real. Nodes are simulated; the operator and Linkerd's
injector are stand-ins. All pods are older than the enrollment of their namespace.
"""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.cluster import command
from tests.cluster.api import Api, Json, wait_for
from tests.cluster.command import Command, Done
from tests.cluster.mesh import MeshCluster
from tests.cluster.plane import is_ready
from tests.cluster.workloads import (
    annotations_of,
    is_meshed,
    pod,
    pods_of,
    ready_pods,
    template_of,
    workload,
)
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from webhook.cluster.kinds.controllers import RESTARTED_AT

pytestmark = pytest.mark.timeout(400)

STUCK = "m-stuck"
NOWHERE = {"kubernetes.io/hostname": "nowhere"}
APPS = {"shop": 3, "crm": 2}
#: Workloads without an operator: kind, name and replicas.
OTHERS = [
    *[("Deployment", f"app-{number}", 1 + number % 2) for number in range(4)],
    ("Deployment", "at-once", 3),
    ("Deployment", "paused", 1),
    ("Deployment", STUCK, 1),
    ("Deployment", "z-last", 2),
    *[("StatefulSet", f"store-{number}", 2) for number in range(2)],
    ("StatefulSet", "by-hand", 1),
    *[("DaemonSet", f"agent-{number}", 1) for number in range(2)],
    ("ReplicaSet", "old-style", 2),
]  # fmt: skip
#: The least ready pods of each app that has a budget.
BUDGETS = {"shop": 2, "crm": 1, "at-once": 2, "store-0": 1, "old-style": 1, "app-1": 1}
END = "watch-end"


class Watch:
    """Counts the ready pods of each app at every change, from a watch of the API server's."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.least: dict[str, int] = {}
        """The fewest ready pods that an app has had since the watch began."""
        self._api, self._namespace = api, namespace
        self._ready: dict[str, str] = {}

    @contextmanager
    def running(self) -> Iterator["Watch"]:
        """Watch until the block ends; then every change before has been counted."""
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        found = self._api._json("GET", path)
        for one in found["items"]:
            self._count(one, gone=False)
        self.least = dict(Counter(self._ready.values()))
        with ThreadPoolExecutor(1) as pool:
            watch = pool.submit(self._watch, path, found["metadata"]["resourceVersion"])
            try:
                yield self
            finally:
                self._api.create(pod(self._namespace, END))
        watch.result()

    def _watch(self, path: str, since: str) -> None:
        query = {"watch": "true", "resourceVersion": since}
        with self._api._http.stream("GET", path, params=query, timeout=300) as answer:
            for line in answer.iter_lines():
                event = json.loads(line)
                one = event["object"]
                if one["metadata"]["name"] == END:
                    return
                self._count(one, gone=event["type"] == "DELETED")

    def _count(self, one: Json, *, gone: bool) -> None:
        """As the budget's controller counts: ready, and not being deleted."""
        meta, app = one["metadata"], one["metadata"].get("labels", {}).get("app", "")
        if is_ready(one) and not gone and "deletionTimestamp" not in meta:
            self._ready[meta["uid"]] = app
        else:
            self._ready.pop(meta["uid"], None)
        if app in self.least:
            ready = sum(name == app for name in self._ready.values())
            self.least[app] = min(self.least[app], ready)


def budget(namespace: str, app: str, least: int) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": namespace},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": app}}},
    }


def build_world(api: Api, namespace: str) -> None:
    """Workloads of each kind, of the operator and of others, and pods without a controller."""
    mendix.install(api, namespace)
    for env, replicas in APPS.items():
        api.create(manifests.mendix_app(env, namespace, replicas=replicas))
    for kind, name, replicas in OTHERS:
        spec: Json = {"nodeSelector": NOWHERE} if name == STUCK else {}
        obj = workload(kind, namespace, name, replicas=replicas, **spec)
        if name == "at-once":
            obj["spec"]["strategy"] = {"type": "Recreate"}
        if name == "by-hand":
            obj["spec"]["updateStrategy"] = {"type": "OnDelete"}
        api.create(obj)
    for app, least in BUDGETS.items():
        api.create(budget(namespace, app, least))
    api.create(pod(namespace, "mendix-backup-restore", labels={"app": "bare"}))


def states(report: Json) -> dict[str, str]:
    return {f"{one['kind']}/{one['name']}": one["state"] for one in report["workloads"]}


@dataclass(frozen=True)
class Story:
    """The results: a dry run, a run that got stuck, and one that continued."""

    api: Api
    namespace: str
    operator: mendix.MendixOperator
    watch: Watch
    planned: Json
    stuck: Done
    done: Done
    #: By name: the Deployments' generations before, and the pods that were not to be touched.
    generations: dict[str, int]
    untouched: str
    writes: int


@pytest.fixture(scope="module")
def restart(mesh_cluster: MeshCluster) -> Command:
    """The command with the least rights that it needs."""
    return command.as_account(mesh_cluster.plane, "mendix-mesh-restarter")


@pytest.fixture(scope="module")
def story(mesh_cluster: MeshCluster, restart: Command) -> Iterator[Story]:
    plane, api = mesh_cluster.plane, mesh_cluster.api
    namespace = plane.new_namespace("mendix")
    build_world(api, namespace)
    user = plane.user("mendix-operator", ["system:masters"])
    with mendix.MendixOperator(user, namespace).run() as operator:
        for name, count in {**APPS, **{n: c for _, n, c in OTHERS if n != STUCK}}.items():
            ready_pods(api, namespace, name, count=count)
        api.patch("Deployment", "paused", namespace, {"spec": {"paused": True}})
        for env in APPS:
            mendix.await_tasks(api, namespace, env)
        mesh_cluster.relabel(namespace, "linkerd.enforce", mode="enforce")
        api.create(workload("Deployment", namespace, "young"))
        (young,) = ready_pods(api, namespace, "young")
        found = {one["metadata"]["name"]: one for one in api.list("Deployment", namespace)}
        generations = {name: one["metadata"]["generation"] for name, one in found.items()}
        writes = operator.writes.total()

        run = ("restart", "-n", namespace, "-o", "json")
        planned = restart(*run, "--dry-run").data
        with Watch(plane.user("watcher", ["system:masters"]), namespace).running() as watch:
            # Long enough for the pods of the workloads before it, also on a busy machine.
            stuck = restart(*run, "--yes", "--timeout", "15", codes=[1])
            unstick = {"spec": {"template": {"spec": {"nodeSelector": None}}}}
            api.patch("Deployment", STUCK, namespace, unstick)
            ready_pods(api, namespace, STUCK)
            done = restart(*run, "--yes", "--timeout", "30")
        yield Story(
            api, namespace, operator, watch, planned, stuck, done, generations,
            young["metadata"]["uid"], writes,
        )  # fmt: skip


def test_a_dry_run_changes_nothing_and_has_operator_and_agent_first(story: Story) -> None:
    assert story.planned["dryRun"] is True
    planned = [one for one in story.planned["workloads"] if one["state"] == "planned"]
    assert [one["name"] for one in planned[:2]] == ["mendix-operator", "mendix-agent"]
    assert story.planned["summary"] == {"planned": len(APPS) + len(OTHERS) + 2, "left": 1}
    # The first run did what the dry run listed.
    first = json.loads(story.stuck.out)
    assert [one["name"] for one in first["workloads"]] == [
        one["name"] for one in story.planned["workloads"]
    ]


def test_each_is_restarted_in_the_way_that_suits_it(story: Story) -> None:
    how = {one["name"]: one["how"] for one in story.planned["workloads"]}
    evicted = {"shop-master", "crm-master", "at-once", "paused", "by-hand", "old-style"}
    assert {name for name, one in how.items() if one == "evict"} == evicted
    assert how["mendix-backup-restore"] == "leave"
    assert how["store-0"] == how["agent-0"] == how["app-0"] == "restart"


def test_the_first_that_fails_stops_the_run_and_is_reported(story: Story) -> None:
    report = json.loads(story.stuck.out)
    order = [one["state"] for one in report["workloads"] if one["state"] != "left"]
    at = order.index("failed")
    assert set(order[:at]) == {"done"}
    assert set(order[at + 1 :]) == {"not-done"}
    (failed,) = [one for one in report["workloads"] if one["state"] == "failed"]
    assert failed["name"] == STUCK
    assert "no further pod became ready and joined the mesh within 15 s" in failed["why"][0]
    assert "describe pod m-stuck-" in failed["why"][0]


def test_the_next_run_does_what_was_left_and_no_more(story: Story) -> None:
    first, second = json.loads(story.stuck.out), json.loads(story.done.out)
    not_done = [one["name"] for one in first["workloads"] if one["state"] == "not-done"]
    assert [one["name"] for one in second["workloads"] if one["state"] == "done"] == not_done
    assert second["summary"] == {"done": len(not_done), "left": 1}


def test_at_the_end_all_are_meshed_but_the_bare_pod(story: Story) -> None:
    for name, count in {**APPS, **{n: c for _, n, c in OTHERS}}.items():
        pods = pods_of(story.api, story.namespace, name)
        assert len(pods) >= count
        assert all(is_ready(one) and is_meshed(one) for one in pods), name
    (bare,) = pods_of(story.api, story.namespace, "bare")
    assert not is_meshed(bare)


def test_the_operator_had_nothing_to_undo(story: Story) -> None:
    for env in APPS:
        deployment = story.api.get("Deployment", f"{env}-master", story.namespace)
        assert deployment["metadata"]["generation"] == story.generations[f"{env}-master"]
        assert RESTARTED_AT not in annotations_of(template_of(deployment))
    assert story.operator.writes.total() == story.writes
    assert story.operator.denied == {}


def test_what_was_in_the_mesh_was_left_alone(story: Story) -> None:
    (young,) = pods_of(story.api, story.namespace, "young")
    assert young["metadata"]["uid"] == story.untouched
    deployment = story.api.get("Deployment", "young", story.namespace)
    assert deployment["metadata"]["generation"] == story.generations["young"]


def test_no_budget_was_broken_at_any_moment(story: Story) -> None:
    assert {app: story.watch.least[app] for app in BUDGETS if app != "app-1"} == {
        app: least for app, least in BUDGETS.items() if app != "app-1"
    }
    assert story.watch.least["app-1"] >= BUDGETS["app-1"]


def test_a_rollout_is_that_of_kubectl(story: Story) -> None:
    deployment = story.api.get("Deployment", "app-0", story.namespace)
    assert RESTARTED_AT in annotations_of(template_of(deployment))
    assert deployment["metadata"]["generation"] == story.generations["app-0"] + 1


def test_the_ready_ones_are_counted_right(story: Story) -> None:
    """Without a budget a rollout of one pod surges, and a StatefulSet's only pod is missing."""
    assert story.watch.least["by-hand"] == 0
    assert story.watch.least["app-0"] == 1


# Independent of the story.


def unmeshed_namespace(cluster: MeshCluster, *objects: Json, mode: str = "enforce") -> str:
    """A namespace enrolled after these objects' pods are ready. Each names what it waits for."""
    namespace = cluster.plane.new_namespace("mendix")
    for obj in objects:
        obj["metadata"]["namespace"] = namespace
        cluster.api.create(obj)
        spec = obj["spec"].get("template", obj)["spec"]
        if "nodeSelector" not in spec:
            name, count = obj["metadata"]["name"], obj["spec"].get("replicas", 1)
            ready_pods(cluster.api, namespace, name, count=count)
    cluster.relabel(namespace, f"linkerd.{mode}", mode=mode)
    return namespace


@pytest.fixture
def blocked(mesh_cluster: MeshCluster) -> str:
    """A namespace with a ReplicaSet whose only pod a budget needs, and another one."""
    api = mesh_cluster.api
    both = [workload("ReplicaSet", "", name) for name in ("shop", "z")]
    namespace = unmeshed_namespace(mesh_cluster, *both)
    api.create(budget(namespace, "shop", 1))
    wait_for(
        lambda: api.get("PodDisruptionBudget", "shop", namespace)["status"].get("expectedPods"),
        why="the budget to be seen",
    )
    return namespace


def test_the_last_pod_that_a_budget_needs_is_blocked_and_the_rest_goes_on(
    mesh_cluster: MeshCluster, restart: Command, blocked: str
) -> None:
    api = mesh_cluster.api
    (old,) = pods_of(api, blocked)
    run = ("restart", "-n", blocked, "--yes", "-o", "json")
    report = restart(*run, codes=[1]).data
    assert states(report) == {"ReplicaSet/shop": "blocked", "ReplicaSet/z": "done"}
    (kept,) = pods_of(api, blocked)
    assert kept["metadata"]["uid"] == old["metadata"]["uid"]
    # The first advice: more replicas.
    api.patch("ReplicaSet", "shop", blocked, {"spec": {"replicas": 2}})
    ready_pods(api, blocked, count=2)
    wait_for(
        lambda: api.get("PodDisruptionBudget", "shop", blocked)["status"]["disruptionsAllowed"],
        why="the budget to allow an eviction",
    )
    assert restart(*run, "--timeout", "30").data["summary"] == {"done": 1}
    assert all(map(is_meshed, ready_pods(api, blocked, count=2)))


def test_the_command_that_is_printed_for_a_blocked_pod_works(
    mesh_cluster: MeshCluster, restart: Command, blocked: str
) -> None:
    planned = restart("restart", "-n", blocked, "--dry-run", "-o", "json", codes=[1]).data
    (why,) = [one["why"][0] for one in planned["workloads"] if one["state"] == "blocked"]
    _, _, typed = why.rpartition("ignores the budget: kubectl ")
    mesh_cluster.plane.kubectl(*typed.split(), "--grace-period=0")
    (new,) = ready_pods(mesh_cluster.api, blocked)
    assert is_meshed(new)
