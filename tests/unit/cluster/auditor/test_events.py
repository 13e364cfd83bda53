"""Events are made when a workload's state changes, and only then."""

import datetime
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cluster.world import Json, World, meshed, owned, unmeshed
from webhook.cluster.api.connection import Cluster
from webhook.cluster.audit import Auditor, Report
from webhook.cluster.auditor import events
from webhook.cluster.auditor.events import EventRecorder
from webhook.cluster.judge import Judge
from webhook.cluster.judge.outdated import CurrentProxies
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import Scope
from webhook.policy.settings import Settings

EVENTS = "/api/v1/namespaces/mendix/events/"
SHOP = "/apis/apps/v1/namespaces/mendix/deployments/shop"


class Case:
    """A namespace with the Deployment `shop`, and a recorder of its Events."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self.world = world
        self.cluster = cluster
        self.recorder = EventRecorder(cluster, instance="auditor-0")
        world.install()
        world.namespace("mendix", "linkerd")
        world.add(SHOP, {"kind": "Deployment"})
        self.set("shop")

    def set(self, name: str, *, joined: bool = False) -> None:
        pod = owned(meshed() if joined else unmeshed(), "Deployment", name)
        self.world.pod("mendix", f"{name}-7fd5-a", pod)

    def report(self) -> Report:
        inventory = Inventory(self.cluster)
        targets = Scope(self.cluster, inventory, Enrollment.read(self.cluster)).targets()
        current = CurrentProxies(self.cluster, Settings())
        return Auditor(inventory, Judge(Settings()), current).audit(targets)

    def tell(self) -> int:
        return self.recorder.tell(self.report())

    @property
    def events(self) -> list[Json]:
        return [obj for where, obj in self.world.objects.items() if where.startswith(EVENTS)]

    @property
    def counts(self) -> list[tuple[str, str, int]]:
        return [(one["involvedObject"]["name"], one["reason"], one["count"]) for one in self.events]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    world = World()
    with world.serving(tmp_path) as server:
        yield Case(world, server.cluster)


def test_a_workload_outside_is_reported_with_check_reason_and_fix(case: Case) -> None:
    assert case.tell() == 1
    (event,) = case.events
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "NotMeshed", 1)
    assert event["message"].startswith("proxy-missing: spec.initContainers: has no linkerd-proxy")
    assert "[shop-7fd5-a]" in event["message"]
    assert event["involvedObject"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": "mendix",
        "name": "shop",
        "uid": f"uid of {SHOP}",
    }
    assert event["reportingInstance"] == "auditor-0"
    datetime.datetime.fromisoformat(event["lastTimestamp"])


def test_an_unchanged_workload_is_reported_once(case: Case) -> None:
    assert [case.tell(), case.tell()] == [1, 0]
    assert case.counts == [("shop", "NotMeshed", 1)]


def test_a_fixed_workload_is_reported_and_reported_again_if_it_comes_back(case: Case) -> None:
    case.tell()
    case.set("shop", joined=True)
    case.tell()
    case.tell()
    assert case.counts == [("shop", "NotMeshed", 1), ("shop", "Meshed", 1)]
    assert [one["type"] for one in case.events] == ["Warning", "Normal"]
    case.set("shop")
    case.tell()
    assert case.counts == [("shop", "NotMeshed", 2), ("shop", "Meshed", 1)]


def test_another_auditor_reports_nothing_again(case: Case) -> None:
    case.tell()
    case.recorder = EventRecorder(case.cluster)
    case.tell()
    assert case.counts == [("shop", "NotMeshed", 1)]
    case.set("shop", joined=True)
    case.tell()
    assert case.counts == [("shop", "NotMeshed", 1), ("shop", "Meshed", 1)]


def test_what_was_always_in_the_mesh_is_not_reported(case: Case) -> None:
    case.set("shop", joined=True)
    assert case.tell() == 0
    assert case.counts == []


def test_a_proxy_that_is_not_ready_is_neither(case: Case) -> None:
    case.tell()
    starting = meshed()
    starting["status"] = {"initContainerStatuses": [{"name": "linkerd-proxy", "ready": False}]}
    case.world.pod("mendix", "shop-7fd5-a", owned(starting, "Deployment", "shop"))
    case.tell()
    assert case.counts == [("shop", "NotMeshed", 1)]


def test_a_namespace_that_is_not_enrolled_has_no_events(case: Case) -> None:
    case.world.namespace("mendix")
    targets = Scope(case.cluster, Inventory(case.cluster), Enrollment.read(case.cluster)).targets(
        everything=True
    )
    auditor = Auditor(
        Inventory(case.cluster), Judge(Settings()), CurrentProxies(case.cluster, Settings())
    )
    assert case.recorder.tell(auditor.audit(targets)) == 0
    assert case.counts == []


def test_one_scan_creates_a_limited_number_and_the_next_the_others(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST", 2)
    for name in ("a", "b", "c", "d"):
        case.set(name)
    assert [case.tell(), case.tell(), case.tell(), case.tell()] == [2, 2, 1, 0]
    assert sorted(name for name, _, _ in case.counts) == ["a", "b", "c", "d", "shop"]


def test_what_could_not_be_read_is_not_forgotten(case: Case) -> None:
    case.tell()
    case.world.forbidden = ["/api/v1/namespaces/mendix/pods"]
    case.tell()
    case.world.forbidden = []
    case.tell()
    assert case.counts == [("shop", "NotMeshed", 1)]


def test_a_workload_whose_uid_must_not_be_seen_is_reported_without_it(case: Case) -> None:
    case.world.forbidden = [SHOP]
    case.tell()
    (event,) = case.events
    assert "uid" not in event["involvedObject"]


def test_events_that_are_forbidden_are_reported_once_and_tried_again(
    case: Case, logged: list[MutableMapping[str, Any]]
) -> None:
    case.world.forbidden = ["/api/v1/namespaces/mendix/events"]
    assert [case.tell(), case.tell()] == [0, 0]
    assert [line["event"] for line in logged] == ["event not created"]
    case.world.forbidden = []
    assert case.tell() == 1
