"""Mendix namespaces are enrolled as soon as they are Mendix's, and never against an admin."""

import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cluster import mendix
from tests.unit.cluster.apiserver import HttpRequest, Reply, ScriptedServer, status
from tests.unit.cluster.auditor.test_scan import NAMESPACES, PATIENCE, Watched
from tests.unit.cluster.hospital import INJECTORS, MUTATING
from tests.unit.cluster.world import (
    CONFIGURATION,
    LABELLED,
    MESH,
    MODE,
    Json,
    meshed,
    owned,
    unmeshed,
)
from webhook.cluster.auditor import enroller
from webhook.cluster.auditor.enroller import Enroller
from webhook.cluster.auditor.events import EventRecorder
from webhook.cluster.auditor.history import Scans
from webhook.cluster.auditor.metrics import AuditorMetrics, EnrollmentMetrics
from webhook.cluster.judge import Judge
from webhook.cluster.namespaces.enrollment import ENROLLED_AT
from webhook.policy.settings import Settings

APPS = "/apis/privatecloud.mendix.com/v1alpha1/mendixapps"
RESTARTED = "kubectl.kubernetes.io/restartedAt"
Logged = list[MutableMapping[str, Any]]


class Cluster(Watched):
    """A world with a mesh. `first` may answer a request instead."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Callable[[HttpRequest], Reply | None] = lambda _: None

    def answer(self, request: HttpRequest) -> Reply:
        return self.first(request) or super().answer(request)

    def mesh(self, name: str = "linkerd") -> None:
        client = {"service": {"namespace": name, "name": "injector"}}
        webhook = {"name": INJECTORS[name], "clientConfig": client}
        self.add(f"{MUTATING}/{name}-injector", {"metadata": {}, "webhooks": [webhook]})

    def mendix(self, name: str, **meta: Any) -> None:
        """Add a namespace with a custom resource."""
        fields: Json = {"f:metadata": {"f:labels": {f"f:{MESH}": {}}}}
        self.namespace(name, managedFields=[{"time": LABELLED, "fieldsV1": fields}], **meta)
        mendix.resource(self, "OperatorConfiguration", name, "mendix-operator-configuration")

    def marks(self, name: str) -> dict[str, str]:
        meta = self.objects[f"{NAMESPACES}/{name}"]["metadata"]
        return {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}

    def events_of(self, name: str) -> list[Json]:
        where = f"{NAMESPACES}/{name}/events/"
        return [obj for key, obj in self.objects.items() if key.startswith(where)]


class Running:
    """An enroller that runs."""

    def __init__(self, world: Cluster, server: ScriptedServer, **options: Any) -> None:
        self.world, self.server = world, server
        self.metrics = AuditorMetrics(Scans())
        self.enroller = Enroller(
            server.cluster,
            "warn",
            Judge(Settings()),
            EnrollmentMetrics(self.metrics.registry),
            recorder=EventRecorder(server.cluster),
            **options,
        )
        self.enroller.start()

    def until(self, what: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < end, self.world.objects.keys()
            time.sleep(0.01)

    def until_state(self, state: str, number: int = 1) -> None:
        line = f'mendix_mesh_auto_enroll_namespaces{{state="{state}"}} {float(number)}'
        self.until(lambda: line in self.metrics.expose().decode())


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the waits that are for clusters."""
    monkeypatch.setattr("webhook.cluster.api.connection._WAIT", 0.001)
    monkeypatch.setattr("webhook.cluster.api.watch._WAIT", 0.01)
    monkeypatch.setattr("webhook.cluster.api.watch._SHORT", 0.0)
    for name, value in (("_WAIT", 0.01), ("_CRDS", 0.02), ("_NOTICED", 0.0)):
        monkeypatch.setattr(enroller, name, value)


@pytest.fixture
def world() -> Cluster:
    made = Cluster()
    made.mesh()
    return made


@pytest.fixture
def start(world: Cluster, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    with world.serving(tmp_path) as server:
        started: list[Running] = []

        def begin(**options: Any) -> Running:
            started.append(Running(world, server, **options))
            return started[-1]

        yield begin
        for one in started:
            one.enroller.stop()
            for watcher in one.enroller._watchers.values():
                if watcher.ident:
                    watcher.join(PATIENCE)


Start = Callable[..., Running]


def test_every_mendix_namespace_is_enrolled_and_no_other(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("crm")
    world.mendix("shop")
    world.namespace("others")
    made = start()
    made.until_state("enrolled", 2)
    for name in ("crm", "shop"):
        assert world.marks(name) == {MESH: "linkerd", MODE: "warn", ENROLLED_AT: LABELLED}
        (event,) = world.events_of(name)
        assert (event["type"], event["reason"]) == ("Normal", "Enrolled")
        assert event["involvedObject"] == {
            "apiVersion": "v1", "kind": "Namespace", "namespace": name, "name": name,
            "uid": f"uid of {NAMESPACES}/{name}",
        }  # fmt: skip
        assert event["message"].startswith("enrolled in linkerd with mode warn, because ")
    assert world.marks("others") == {}
    assert 'mendix_mesh_auto_enrolled_total{mesh="linkerd"} 2.0' in made.metrics.expose().decode()


def test_an_operator_that_is_installed_later_is_noticed(world: Cluster, start: Start) -> None:
    made = start()
    made.until(lambda: mendix.GROUP in made.server.targets)
    mendix.define(world)
    world.mendix("crm")
    made.until(lambda: MESH in world.marks("crm"))
    world.mendix("shop")
    world.tell(APPS, "shop", "app", "ADDED")
    made.until(lambda: MESH in world.marks("shop"))


def test_what_an_admin_removes_stays_removed(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("shop")
    made = start()
    made.until_state("enrolled")
    del world.objects[f"{NAMESPACES}/shop"]["metadata"]["labels"]
    world.tell(NAMESPACES, "", "shop")
    made.until_state("removed")
    world.tell(APPS, "shop", "app", "ADDED")
    world.expire(APPS)
    time.sleep(0.1)
    assert world.marks("shop") == {ENROLLED_AT: LABELLED}
    assert len(world.events_of("shop")) == 1


def test_an_enrollment_by_an_admin_is_remembered_too(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("shop", labels={MESH: "istio", MODE: "audit"})
    made = start()
    made.until(lambda: ENROLLED_AT in world.marks("shop"))
    assert world.marks("shop") == {MESH: "istio", MODE: "audit", ENROLLED_AT: LABELLED}
    assert world.events_of("shop") == []


def test_an_enrollment_by_name_is_remembered_too(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("shop")
    name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop"]}
    entries = world.objects[CONFIGURATION]["webhooks"]
    named = {**entries[0], "namespaceSelector": {"matchExpressions": [name]}}
    entries.append(named)
    made = start()
    made.until_state("enrolled")
    entries.remove(named)
    world.tell(NAMESPACES, "", "shop")
    made.until_state("removed")
    assert world.marks("shop") == {ENROLLED_AT: "2026-01-02T00:00:00Z"}


def test_a_namespace_that_cannot_be_enrolled_is_reported_once_until_it_can(
    world: Cluster, start: Start, logged: Logged
) -> None:
    mendix.define(world)
    world.mesh("istio")
    world.mendix("shop")
    made = start()
    made.until(lambda: world.events_of("shop"))
    (event,) = world.events_of("shop")
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "NotEnrolled", 1)
    assert "linkerd, istio are installed" in event["message"]
    made.until_state("several-meshes")
    world.tell(APPS, "shop", "app")
    world.objects[f"{NAMESPACES}/shop"]["metadata"]["labels"] = {"istio-injection": "enabled"}
    world.tell(NAMESPACES, "", "shop")
    made.until(lambda: world.marks("shop").get(MESH) == "istio")
    assert [line["event"] for line in logged].count("not enrolled") == 1


def test_a_mesh_that_is_installed_later_is_found_at_the_next_interval(
    world: Cluster, start: Start
) -> None:
    mendix.define(world)
    world.mendix("shop")
    del world.objects[f"{MUTATING}/linkerd-injector"]
    made = start(interval=0.1)
    made.until_state("no-mesh")
    world.mesh()
    made.until(lambda: MESH in world.marks("shop"))


def test_a_namespace_that_is_deleted_or_no_longer_mendixs_is_forgotten(
    world: Cluster, start: Start
) -> None:
    mendix.define(world)
    world.mendix("shop")
    world.mendix("crm", deletionTimestamp=LABELLED)
    made = start()
    made.until_state("enrolled")
    for where in [key for key in world.objects if "operatorconfigurations" in key]:
        del world.objects[where]
    world.tell(APPS, "shop", "app", "DELETED")
    made.until_state("enrolled", 0)
    assert world.marks("shop")[MESH] == "linkerd"
    assert MESH not in world.marks("crm")


def test_a_change_at_the_same_moment_wins(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("shop", resourceVersion="7")

    def labelled(request: HttpRequest) -> Reply | None:
        meta = world.objects[f"{NAMESPACES}/shop"]["metadata"]
        if request.method == "PATCH" and MESH not in meta["labels"]:
            assert b'"resourceVersion":"7"' in request.body
            meta["labels"] = {MESH: "istio"}
            return status(409, "Conflict", "the object has been modified")
        return None

    world.first = labelled
    made = start()
    made.until_state("enrolled")
    assert world.marks("shop")[MESH] == "istio"
    assert MODE not in world.marks("shop")


def test_a_denial_is_reported_and_the_others_are_enrolled(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("crm")
    world.mendix("shop")

    def denied(request: HttpRequest) -> Reply | None:
        if request.method == "PATCH" and request.target.startswith(f"{NAMESPACES}/crm?"):
            return status(422, "Invalid", "denied by another policy")
        return None

    world.first = denied
    made = start()
    made.until_state("enrolled")
    made.until_state("denied")
    (event,) = world.events_of("crm")
    assert "the API server denied the labels: denied by another policy" in event["message"]


def test_if_the_cluster_fails_for_one_namespace_the_others_are_enrolled(
    world: Cluster, start: Start
) -> None:
    mendix.define(world)
    world.mendix("crm")
    world.mendix("shop")
    world.first = lambda request: (
        status(503, "", "later") if request.target.startswith(f"{NAMESPACES}/crm?") else None
    )
    start().until_state("enrolled")


@pytest.mark.parametrize("failing", [MUTATING, CONFIGURATION])
def test_while_the_cluster_fails_nothing_is_enrolled(
    world: Cluster, start: Start, logged: Logged, failing: str
) -> None:
    mendix.define(world)
    world.mendix("shop")
    world.failing = [failing]
    made = start()
    made.until(lambda: "can't enroll namespaces" in [line["event"] for line in logged])
    assert world.marks("shop") == {}
    world.failing = []
    made.until_state("enrolled")


def test_without_mendix_mesh_nothing_is_enrolled(
    world: Cluster, start: Start, logged: Logged
) -> None:
    mendix.define(world)
    world.mendix("shop")
    del world.objects[CONFIGURATION]
    made = start()
    made.until(lambda: logged)
    assert "mendix-mesh has no webhook configuration" in logged[0]["why"]
    world.install()
    made.until_state("enrolled")


def _deployments(world: Cluster) -> None:
    for name, pod in (("mendix-operator", unmeshed()), ("mendix-agent", meshed()),
                      ("other", unmeshed())):  # fmt: skip
        world.add(f"/apis/apps/v1/namespaces/shop/deployments/{name}", {"spec": {"template": {}}})
        world.pod("shop", f"{name}-7fd5-a", owned(pod, "Deployment", name))


def _restarted(world: Cluster) -> set[str]:
    return {
        key.rpartition("/")[2] for key, obj in world.objects.items()
        if "/deployments/" in key and RESTARTED in str(obj)
    }  # fmt: skip


def test_an_operator_that_was_faster_is_restarted(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("shop")
    _deployments(world)
    made = start()
    made.until(lambda: _restarted(world))
    made.until_state("enrolled")
    assert _restarted(world) == {"mendix-operator"}


def test_an_operator_with_apps_is_not_restarted(world: Cluster, start: Start) -> None:
    mendix.define(world)
    world.mendix("shop")
    mendix.resource(world, "MendixApp", "shop", "app")
    _deployments(world)
    start().until_state("enrolled")
    assert _restarted(world) == set()


def test_a_restart_that_is_denied_is_logged(world: Cluster, start: Start, logged: Logged) -> None:
    mendix.define(world)
    world.mendix("shop")
    _deployments(world)
    world.forbidden = ["/apis/apps/v1/namespaces/shop/deployments"]
    start().until_state("enrolled")
    assert [line["event"] for line in logged if line["log_level"] == "warning"] == ["not restarted"]


@pytest.mark.parametrize(("target", "body", "code"), [
    (f"{NAMESPACES}/shop/pods", b"", 503), (f"{NAMESPACES}/shop?", b"annotations", 503),
    (f"{NAMESPACES}/web?", b"labels", 429),
    ("/apis/apps/v1/namespaces/shop/deployments/mendix-operator?", b"", 429),
])  # fmt: skip
def test_after_a_failed_call_the_rest_is_done_at_the_next_look(
    world: Cluster, start: Start, target: str, body: bytes, code: int
) -> None:
    mendix.define(world)
    world.mendix("shop")
    world.mendix("web")
    _deployments(world)
    fails = iter([status(code, "", "later")] * 6)
    world.first = lambda request: (
        next(fails, None) if request.target.startswith(target) and body in request.body else None
    )
    made = start()
    made.until_state("enrolled", 2)
    made.until(lambda: _restarted(world))
    assert (next(fails, None), _restarted(world)) == (None, {"mendix-operator"})
    assert [e["reason"] for ns in ("shop", "web") for e in world.events_of(ns)] == ["Enrolled"] * 2
    assert 'mendix_mesh_auto_enrolled_total{mesh="linkerd"} 2.0' in made.metrics.expose().decode()


def test_a_denied_annotation_is_logged_once(world: Cluster, start: Start, logged: Logged) -> None:
    mendix.define(world)
    world.mendix("shop", labels={MESH: "istio"})
    world.first = lambda request: status(403, "", "no") if request.method == "PATCH" else None
    made = start(interval=0.05)
    made.until(lambda: [one.method for one in made.server.requests].count("PATCH") > 2)
    made.until_state("enrolled")
    assert ([line["why"] for line in logged], world.events_of("shop")) == (["no"], [])
