"""The plan of a restart: which workloads, how, in which order, and why others are skipped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cluster.apiserver import status
from tests.unit.cluster.rolling import RollingWorld
from tests.unit.cluster.world import BEFORE, Json, fixture, meshed, owned, unmeshed
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import target
from webhook.cluster.restart.plan import Planner, RestartStep
from webhook.policy.settings import Settings

MENDIX = "privatecloud.mendix.com/v1alpha1"


@pytest.fixture
def world() -> RollingWorld:
    made = RollingWorld()
    made.install()
    made.namespace("mendix", "linkerd")
    return made


def plan(
    world: RollingWorld, folder: Path, *names: str, notes: Sequence[str] = (), **options: Any
) -> list[RestartStep]:
    with world.serving(folder) as server:
        inventory, enrollment = Inventory(server.cluster), Enrollment.read(server.cluster)
        planner = Planner(server.cluster, inventory, Judge(Settings()))
        targets = [
            target(inventory.namespace(name), enrollment, "unknown") for name in names or ["mendix"]
        ]
        steps = planner.plan(targets, **options)
        assert len(planner.notes) == len(notes)
        for note, begin in zip(planner.notes, notes, strict=True):
            assert note.startswith(begin)
        return steps


def hows(steps: list[RestartStep]) -> dict[str, str]:
    return {step.workload.name: step.how for step in steps}


def test_what_is_meshed_is_left_out(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "Deployment", "shop", pod=meshed())
    assert plan(world, tmp_path) == []


def test_the_operator_comes_first_then_its_agent_and_ingress_last(
    world: RollingWorld, tmp_path: Path
) -> None:
    for name in ("a-shop", "mendix-agent", "mendix-operator", "z-shop"):
        world.workload("mendix", "Deployment", name)
    world.namespace("edge", "linkerd")
    world.workload("edge", "DaemonSet", "ingress")
    configuration = next(obj for obj in world.objects.values() if "webhooks" in obj)
    configuration["webhooks"].insert(
        0,
        {
            "clientConfig": {"service": {"path": "/validate/linkerd/enforce/ingress"}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}},
        },
    )
    steps = plan(world, tmp_path, "edge", "mendix")
    assert [step.workload.name for step in steps] == [
        "mendix-operator", "mendix-agent", "a-shop", "z-shop", "ingress",
    ]  # fmt: skip


def test_a_workload_that_is_meshed_in_part_is_restarted(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.workload("mendix", "Deployment", "shop", pod=meshed())
    world.member("mendix", "Deployment", "shop", "shop-old", unmeshed(), created=BEFORE)
    (step,) = plan(world, tmp_path)
    assert (step.how, step.pods) == ("restart", ("shop-old",))


@pytest.mark.parametrize(
    ("owner", "how"),
    [
        ({"apiVersion": MENDIX, "kind": "Runtime", "name": "shop"}, "evict"),
        ({"apiVersion": "example.com/v1", "kind": "App", "name": "x", "controller": True}, "evict"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "name": "only-for-cleaning-up"}, "restart"),
    ],
)
def test_the_template_of_what_an_operator_owns_is_not_touched(
    world: RollingWorld, tmp_path: Path, owner: Json, how: str
) -> None:
    meta: Json = {"ownerReferences": [owner]}
    world.workload("mendix", "Deployment", "shop-master", metadata=meta)
    assert hows(plan(world, tmp_path)) == {"shop-master": how}


def test_what_does_not_roll_by_its_template_is_evicted(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "ReplicaSet", "old")
    world.workload(
        "mendix", "StatefulSet", "by-hand", spec={"updateStrategy": {"type": "OnDelete"}}
    )
    rollout = owned(unmeshed(), "Rollout", "canary", "argoproj.io/v1alpha1")
    world.pod("mendix", "canary-1", rollout)
    assert hows(plan(world, tmp_path)) == {"old": "evict", "by-hand": "evict", "canary": "evict"}


def test_a_rollout_that_would_break_a_budget_is_no_rollout(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.workload("mendix", "Deployment", "shop", spec={"strategy": {"type": "Recreate"}})
    world.workload("mendix", "Deployment", "crm")
    for name in ("shop", "crm"):
        where = f"/apis/policy/v1/namespaces/mendix/poddisruptionbudgets/{name}"
        selector = {"matchLabels": {"app": name}}
        counts = {"expectedPods": 1, "desiredHealthy": 1}
        world.add(where, {"spec": {"selector": selector}, "status": counts})
    assert hows(plan(world, tmp_path)) == {"crm": "restart", "shop": "block"}


def budget(world: RollingWorld, name: str, app: str, *, least: int, **more: Json) -> None:
    where = f"/apis/policy/v1/namespaces/mendix/poddisruptionbudgets/{name}"
    counts = {"expectedPods": 1, "desiredHealthy": least}
    selector = {"matchLabels": {"app": app}}
    world.add(where, {"spec": {"selector": selector, **more}, "status": counts})


def test_pods_that_no_budget_would_ever_let_go_are_blocked(
    world: RollingWorld, tmp_path: Path
) -> None:
    always: Json = {"unhealthyPodEvictionPolicy": "AlwaysAllow"}
    for name in ("needed", "spare", "twice", "starting", "broken"):
        world.workload("mendix", "ReplicaSet", name)
    budget(world, "needed", "needed", least=1)
    budget(world, "spare", "spare", least=0)
    for name in ("a", "b"):
        budget(world, name, "twice", least=0)
    for name, phase in (("starting", "Pending"), ("broken", "Running")):
        world.objects[f"/api/v1/namespaces/mendix/pods/{name}-0"]["status"] = {"phase": phase}
        budget(world, name, name, least=1, **always)
    steps = plan(world, tmp_path)
    assert hows(steps) == {
        "needed": "block", "spare": "evict", "twice": "block", "starting": "evict",
        "broken": "evict",
    }  # fmt: skip
    why = {step.workload.name: " ".join(step.why) for step in steps}
    assert "kubectl -n mendix delete pod needed-0" in why["needed"]
    assert "PodDisruptionBudgets mendix/a and mendix/b both select its pods" in why["twice"]


POLICY = "config.linkerd.io/default-inbound-policy"


def with_policy(policy: str = "") -> Json:
    pod = meshed()
    pod["metadata"]["annotations"].pop(POLICY, None)
    pod["metadata"]["annotations"] |= {POLICY: policy} if policy else {}
    return pod


def test_an_outdated_inbound_policy_is_a_reason_to_restart(
    world: RollingWorld, tmp_path: Path
) -> None:
    """The namespace was closed to plaintext, and the pods are older."""
    world.namespace("mendix", "linkerd", annotations={POLICY: "all-authenticated"})
    world.workload("mendix", "Deployment", "old", pod=with_policy())
    world.workload("mendix", "Deployment", "young", pod=with_policy("all-authenticated"))
    world.created_as = lambda: with_policy("all-authenticated")
    (step,) = plan(world, tmp_path)
    assert (step.workload.name, step.how, step.reason) == (
        "old", "restart", "inbound policy outdated",
    )  # fmt: skip
    # A template that sets another policy is not changed by a restart.
    world.created_as = lambda: with_policy("all-unauthenticated")
    (step,) = plan(world, tmp_path)
    assert step.how == "skip"
    assert f"its template sets {POLICY}; remove it there" in step.why[0]


def test_outdated_proxies_are_restarted_only_with_the_option(
    world: RollingWorld, tmp_path: Path
) -> None:
    old = meshed()
    old["metadata"]["annotations"]["linkerd.io/proxy-version"] = "edge-25.1.1"
    world.workload("mendix", "Deployment", "old", pod=old)
    values = "linkerdVersion: edge-26.8.3"
    world.config_map("linkerd", "linkerd-config", values=values)
    assert plan(world, tmp_path) == []
    (step,) = plan(world, tmp_path, outdated=True)
    assert (step.workload.name, step.reason) == ("old", "proxy outdated")


def test_without_a_look_at_budgets_all_are_evicted(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "Deployment", "shop")
    world.forbidden = ["/apis/policy"]
    assert hows(plan(world, tmp_path)) == {"shop": "evict"}


# Workloads that are only reported.


def bare(world: RollingWorld) -> None:
    world.pod("mendix", "mendix-backup-restore", unmeshed())
    world.pod("mendix", "kube-proxy-node-1", owned(unmeshed(), "Node", "node-1", "v1"))
    job = owned(unmeshed(), "Job", "import", "batch/v1")
    world.pod("mendix", "import-1", job)
    for name, phase in (("shop-build", "Failed"), ("crm-build", "Running")):
        pod = owned(unmeshed(), "Build", name, MENDIX)
        pod["status"] = {"phase": phase}
        world.pod("mendix", name, pod)
    gone = owned(unmeshed(), "Deployment", "evicted")
    gone["status"] = {"phase": "Failed"}
    world.pod("mendix", "evicted-1", gone)


def test_bare_pods_and_failed_tasks_are_listed(world: RollingWorld, tmp_path: Path) -> None:
    bare(world)
    steps = plan(world, tmp_path)
    assert hows(steps) == dict.fromkeys(
        ["crm-build", "shop-build", "import", "mendix-backup-restore", "kube-proxy-node-1"], "leave"
    )
    assert all(step.why for step in steps)


def test_bare_pods_and_failed_tasks_are_deleted_only_with_the_option(
    world: RollingWorld, tmp_path: Path
) -> None:
    bare(world)
    assert hows(plan(world, tmp_path, include_bare=True)) == {
        "mendix-backup-restore": "delete", "shop-build": "delete", "crm-build": "leave",
        "import": "leave", "kube-proxy-node-1": "leave",
    }  # fmt: skip


def test_a_pod_that_cannot_be_read_is_reported(world: RollingWorld, tmp_path: Path) -> None:
    world.pod("mendix", "odd", {"metadata": {}, "spec": {"containers": []}})["spec"] = {
        "containers": 7
    }
    (step,) = plan(world, tmp_path)
    assert step.how == "skip"
    assert "containers" in step.why[0]


# Workloads that a restart would not fix.


def test_a_new_pod_that_would_be_denied_is_a_reason_to_skip(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.workload("mendix", "Deployment", "shop")
    text = "failed calling webhook: the server is gone"
    world.denial = status(500, "InternalError", text)
    (step,) = plan(world, tmp_path)
    assert (step.how, step.why) == ("skip", (text,))


def test_a_new_pod_that_would_be_outside_too_is_reported_with_the_fix(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.workload("mendix", "Deployment", "shop")
    world.created_as = lambda: fixture("proxy-missing", "linkerd-injector-down")
    (step,) = plan(world, tmp_path)
    assert step.how == "skip"
    (why,) = step.why
    assert why.startswith("proxy-missing: ")
    assert "check that the injector runs" in why


@pytest.mark.parametrize(
    "denial",
    [
        status(422, "Invalid", "spec.containers: required"),
        status(403, "Forbidden", 'pods "x" is forbidden: exceeded quota: compute'),
    ],
)
def test_a_dry_run_that_fails_for_another_reason_is_no_reason_to_skip(
    world: RollingWorld, tmp_path: Path, denial: Any
) -> None:
    world.workload("mendix", "Deployment", "shop")
    world.denial = denial
    assert hows(plan(world, tmp_path)) == {"shop": "restart"}


def test_without_the_right_to_try_the_old_pods_tell(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "Deployment", "shop")
    world.workload("mendix", "Deployment", "opted-out", pod=opted_out())
    world.denial = status(403, "Forbidden", 'User "x" cannot create resource "pods"')
    steps = plan(world, tmp_path, notes=["whether a restart helps is judged only by the"])
    assert hows(steps) == {"opted-out": "skip", "shop": "restart"}
    assert steps[0].why[0].startswith("opted-out: ")
    # It is reported only once.
    assert len(world.tried) == 1


def opted_out() -> Json:
    pod = unmeshed()
    pod["metadata"].setdefault("annotations", {})["linkerd.io/inject"] = "disabled"
    return pod


def test_the_pod_that_is_tried_is_the_templates(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "Deployment", "shop")
    plan(world, tmp_path)
    (tried,) = world.tried
    assert tried["metadata"]["labels"] == {"app": "shop"}
    assert tried["metadata"]["generateName"] == "shop-"
    assert [one["kind"] for one in tried["metadata"]["ownerReferences"]] == ["ReplicaSet"]
