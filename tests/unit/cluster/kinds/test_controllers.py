"""Facts about controllers: how they roll out, and whether budgets allow that."""

from typing import Any

import msgspec
import pytest

from webhook.cluster.kinds.controllers import Budgets, Controller, _Budget, place
from webhook.cluster.kinds.inventory import Workload


def controller(kind: str, *, replicas: int = 4, **spec: Any) -> Controller:
    return msgspec.convert(
        {
            "kind": kind,
            "metadata": {"name": "shop", "generation": 2},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "shop"}},
                "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": []}},
                **spec,
            },
            "status": {"desiredNumberScheduled": 3},
        },
        Controller,
    )


def rolling(**more: Any) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": more}


@pytest.mark.parametrize(
    ("found", "lets_go"),
    [
        (controller("Deployment"), 1),
        (controller("Deployment", replicas=3), 0),
        (controller("Deployment", strategy={"type": "Recreate"}), 4),
        (controller("Deployment", strategy=rolling(maxUnavailable="50%")), 2),
        (controller("Deployment", strategy=rolling(maxUnavailable=3, maxSurge=0)), 3),
        (controller("Deployment", strategy=rolling(maxUnavailable=0, maxSurge=0)), 1),
        (controller("StatefulSet"), 1),
        (controller("StatefulSet", updateStrategy=rolling(maxUnavailable="30%")), 2),
        (controller("DaemonSet"), 1),
        (controller("DaemonSet", updateStrategy=rolling(maxUnavailable="100%")), 3),
        (controller("DaemonSet", updateStrategy=rolling(maxUnavailable=0, maxSurge=1)), 0),
    ],
)
def test_what_a_rollout_takes_away_at_once(found: Controller, lets_go: int) -> None:
    assert found.lets_go == lets_go


@pytest.mark.parametrize(
    ("found", "rolls"),
    [
        (controller("Deployment"), True),
        (controller("Deployment", paused=True), False),
        (controller("StatefulSet"), True),
        (controller("StatefulSet", updateStrategy={"type": "OnDelete"}), False),
        (controller("StatefulSet", updateStrategy=rolling(partition=1)), False),
        (controller("DaemonSet", updateStrategy={"type": "OnDelete"}), False),
        (controller("ReplicaSet"), False),
    ],
)
def test_a_change_of_the_template_does_not_roll_them_all(found: Controller, rolls: bool) -> None:
    assert found.rolls is rolls


@pytest.mark.parametrize(
    ("selector", "healthy", "allowed"),
    [
        ({"matchLabels": {"app": "shop"}}, 3, True),
        ({"matchLabels": {"app": "shop"}}, 4, False),
        ({"matchLabels": {"app": "crm"}}, 4, True),
        ({}, 4, False),
        (None, 4, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, 4, False),
    ],
)
def test_a_rollout_is_held_against_each_budget_of_its_pods(
    selector: dict[str, Any] | None, healthy: int, allowed: bool
) -> None:
    document = {
        "spec": {"selector": selector, "minAvailable": healthy},
        "status": {"expectedPods": 4, "desiredHealthy": healthy},
    }
    budgets = Budgets([msgspec.convert(document, _Budget)])
    assert budgets.allow_rollout(controller("Deployment")) is allowed


def test_a_budget_that_no_controller_has_looked_at_allows_nothing() -> None:
    budgets = Budgets([msgspec.convert({"spec": {"selector": {}}}, _Budget)])
    assert not budgets.allow_rollout(controller("Deployment"))


def test_budgets_that_must_not_be_read_allow_no_rollout() -> None:
    assert not Budgets([], known=False).allow_rollout(controller("Deployment"))


def test_a_selector_is_written_as_the_api_server_takes_it() -> None:
    selector = {
        "matchLabels": {"app": "shop"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"},
            {"key": "team", "operator": "Exists"},
        ],
    }
    found = controller("Deployment", selector=selector)
    assert found.labels == "app=shop,tier in (a,b),!old,team"


def test_a_statefulsets_pod_has_the_claims_of_its_likeness() -> None:
    found = controller(
        "StatefulSet", volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": {}}]
    )
    owner = {"kind": "StatefulSet", "name": "shop", "uid": "1", "blockOwnerDeletion": True}
    like = {"metadata": {"name": "shop-0", "ownerReferences": [owner]}}
    made = found.pod("mendix", like)
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data-shop-0"}}
    assert made["spec"]["volumes"] == [claim]
    # A user who must not delete the owner must not set this reference.
    assert "blockOwnerDeletion" not in made["metadata"]["ownerReferences"][0]


def test_kinds_of_others_have_no_place_here() -> None:
    assert not place(Workload("mendix", "argoproj.io/v1alpha1", "Rollout", "shop"))
    assert not place(Workload("mendix", "other.io/v1", "Deployment", "shop"))
    assert place(Workload("mendix", "apps/v1", "Deployment", "shop")) == (
        "/apis/apps/v1/namespaces/mendix/deployments/shop"
    )
