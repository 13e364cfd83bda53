"""The auditor's loop: what it scans and when. Errors do not end it."""

import json
import queue
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cluster.apiserver import HttpRequest, Reply, ScriptedServer, serving
from tests.unit.cluster.world import World, meshed, owned, unmeshed
from webhook.cluster.api.watch import WatchEvent
from webhook.cluster.audit import Report
from webhook.cluster.auditor import scan
from webhook.cluster.auditor.events import EventRecorder
from webhook.cluster.auditor.history import Scans, Snapshot
from webhook.cluster.auditor.metrics import AuditorMetrics
from webhook.cluster.auditor.scan import Changes, Scanner, ScanOptions
from webhook.cluster.traffic import Prometheus
from webhook.policy.settings import Settings

PODS, NAMESPACES = "/api/v1/pods", "/api/v1/namespaces"
Logged = list[MutableMapping[str, Any]]
#: The maximum seconds of each wait.
PATIENCE = 20.0


class Watched(World):
    """A world whose watches report the changes that a test adds."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[str, queue.Queue[bytes]] = defaultdict(queue.Queue)
        self.install()

    def tell(self, where: str, namespace: str, name: str = "", kind: str = "MODIFIED") -> None:
        """Have a watch hear of a change."""
        meta = {"namespace": namespace, "name": name or namespace, "resourceVersion": "2"}
        event = {"type": kind, "object": {"metadata": meta}}
        self.events[where].put(json.dumps(event).encode() + b"\n")

    def expire(self, where: str) -> None:
        """Have a watch hear that it is too old."""
        gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
        self.events[where].put(json.dumps(gone).encode() + b"\n")

    def answer(self, request: HttpRequest) -> Reply:
        where, _, query = request.target.partition("?")
        if "watch=1" not in query:
            return super().answer(request)
        try:
            return Reply(body=self.events[where].get(timeout=0.05))
        except queue.Empty:
            return Reply(body=b"")


class Running:
    """A running scanner, and its reports."""

    def __init__(self, world: Watched, server: ScriptedServer, **options: Any) -> None:
        self.world = world
        self.server = server
        self.scans = Scans()
        self.metrics = AuditorMetrics(self.scans)
        self.reports: list[tuple[Report | None, Report]] = []
        self.scanner = Scanner(
            server.cluster,
            Settings(),
            self.scans,
            self.metrics,
            ScanOptions(**{"interval": 3600.0, "debounce": 0.01, **options}),
            recorder=EventRecorder(server.cluster),
            on_report=lambda before, after: self.reports.append((before, after)),
        )

    def start(self) -> Snapshot:
        """Start, and wait for the first scan and the doctor."""
        self.scanner.start()
        return self.until(lambda last: last.diagnosis is not None)

    def until(self, what: Callable[[Snapshot], bool]) -> Snapshot:
        """Wait until the last scan is as it should be."""
        end = time.monotonic() + PATIENCE
        while not ((last := self.scans.last) and what(last)):
            assert time.monotonic() < end, (self.scans.last, self.scans.error)
            time.sleep(0.01)
        return last

    def until_error(self, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.scans.error:
            assert time.monotonic() < end, self.scans.error
            time.sleep(0.01)

    @property
    def coverage(self) -> dict[str, int | None]:
        last = self.scans.last
        return {one.name: one.coverage for one in last.report.namespaces} if last else {}

    def listed(self, namespace: str) -> int:
        """How often the pods of a namespace were listed to be judged: those that have not ended."""
        where = f"/api/v1/namespaces/{namespace}/pods?"
        request = [target for target in self.server.targets if target.startswith(where)]
        return sum("status.phase" in target for target in request)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the waits that are for clusters."""
    monkeypatch.setattr("webhook.cluster.api.connection._WAIT", 0.001)
    monkeypatch.setattr("webhook.cluster.api.watch._WAIT", 0.01)
    monkeypatch.setattr("webhook.cluster.api.watch._SHORT", 0.0)
    monkeypatch.setattr(scan, "_WAIT", 0.01)
    monkeypatch.setattr(scan, "_REST", 0)


@contextmanager
def running(world: Watched, folder: Path, **options: Any) -> Iterator[Running]:
    with world.serving(folder) as server:
        made = Running(world, server, **options)
        try:
            yield made
        finally:
            made.scanner.stop()
            for watcher in made.scanner._watchers:
                if watcher.ident:
                    watcher.join(PATIENCE)


def logged_texts(logged: Logged, key: str = "why") -> list[tuple[str, str]]:
    """Return the entries of a log, each with its reason."""
    return [(line["event"], line.get(key, "")) for line in logged]


@pytest.fixture
def world() -> Watched:
    """Two enrolled namespaces, one of them with a pod outside, and one that is not enrolled."""
    made = Watched()
    for name in ("crm", "shop"):
        made.namespace(name, "linkerd")
        made.pod(name, "in", meshed())
    made.pod("shop", "out", unmeshed())
    made.namespace("others")
    made.pod("others", "out", unmeshed())
    return made


def test_a_scan_is_the_audit_and_the_doctor(world: Watched, tmp_path: Path) -> None:
    with running(world, tmp_path) as made:
        last = made.start()
    assert made.coverage == {"crm": 100, "shop": 50}
    assert last.diagnosis
    assert [one.name for one in last.diagnosis.namespaces] == ["crm", "shop"]
    assert [point.namespaces for point in made.scans.history] == [{"crm": 100, "shop": 50}]
    assert b'mendix_mesh_scans_total{result="ok"} 1.0' in made.metrics.expose()
    assert [(before, len(after.namespaces)) for before, after in made.reports] == [(None, 2)]


def test_a_changed_pod_has_its_namespace_looked_at_and_no_other(
    world: Watched, tmp_path: Path
) -> None:
    with running(world, tmp_path) as made:
        first = made.start()
        world.pod("crm", "new", unmeshed())
        world.tell(PODS, "crm", "new", "ADDED")
        last = made.until(lambda _: made.coverage["crm"] == 50)
    assert made.coverage == {"crm": 50, "shop": 50}
    assert (made.listed("crm"), made.listed("shop")) == (2, 1)
    assert last.diagnosis == first.diagnosis
    assert last.report.coverage == 50
    assert len(made.scans.history) == 1
    assert len(made.reports) == 2


def test_pods_of_other_namespaces_are_ignored(world: Watched, tmp_path: Path) -> None:
    with running(world, tmp_path) as made:
        made.start()
        world.tell(PODS, "others", "out")
        world.pod("crm", "new", unmeshed())
        world.tell(PODS, "crm", "new")
        made.until(lambda _: made.coverage["crm"] == 50)
    assert made.listed("others") == 0
    assert "/api/v1/namespaces/others" not in made.server.targets


def test_a_namespace_that_goes_takes_its_numbers_along(world: Watched, tmp_path: Path) -> None:
    with running(world, tmp_path) as made:
        made.start()
        assert b'namespace="shop"' in made.metrics.expose()
        for where in [key for key in world.objects if "/shop" in key]:
            del world.objects[where]
        world.tell(NAMESPACES, "", "shop", "DELETED")
        made.until(lambda _: made.coverage == {"crm": 100})
        assert b'namespace="shop"' not in made.metrics.expose()


def test_a_namespace_that_is_labelled_is_looked_at_from_then_on(
    world: Watched, tmp_path: Path
) -> None:
    with running(world, tmp_path) as made:
        made.start()
        world.namespace("others", "istio")
        world.tell(NAMESPACES, "", "others")
        made.until(lambda _: made.coverage.get("others") == 0)
        world.objects.pop("/api/v1/namespaces/others/pods/out")
        world.pod("others", "in", meshed("istio"))
        world.tell(PODS, "others", "in")
        made.until(lambda _: made.coverage["others"] == 100)
        world.namespace("others")
        world.tell(NAMESPACES, "", "others")
        made.until(lambda _: "others" not in made.coverage)


def test_missed_changes_have_everything_looked_at(world: Watched, tmp_path: Path) -> None:
    with running(world, tmp_path) as made:
        made.start()
        world.pod("crm", "new", unmeshed())
        world.expire(PODS)
        made.until(lambda _: made.coverage == {"crm": 50, "shop": 50})
        assert len(made.scans.history) == 2


def test_nothing_enrolled_is_nothing_wrong(tmp_path: Path) -> None:
    with running(Watched(), tmp_path) as made:
        last = made.start()
    assert (last.report.namespaces, made.scans.error) == ([], "")


def test_a_cluster_that_fails_is_reported_once_and_tried_again(
    world: Watched, tmp_path: Path, logged: Logged
) -> None:
    world.failing = ["/apis/admissionregistration.k8s.io"]
    with running(world, tmp_path) as made:
        made.scanner.start()
        made.until_error("etcd is gone")
        world.failing = []
        made.until(lambda last: last.diagnosis is not None)
        assert made.scans.error == ""
    assert [line["event"] for line in logged] == ["the audit failed", "the audit works again"]
    assert b'result="failed"} 0.0' not in made.metrics.expose()


def test_what_was_seen_stays_while_the_cluster_fails(world: Watched, tmp_path: Path) -> None:
    with running(world, tmp_path) as made:
        made.start()
        world.failing = ["/api/v1/namespaces"]
        world.pod("crm", "new", unmeshed())
        world.tell(PODS, "crm", "new")
        made.until_error("etcd is gone")
        assert made.coverage == {"crm": 100, "shop": 50}
        world.failing = []
        made.until(lambda _: made.coverage["crm"] == 50 and not made.scans.error)


def test_a_forbidden_namespace_is_reported_and_the_others_are_seen(
    world: Watched, tmp_path: Path, logged: Logged
) -> None:
    world.forbidden = ["/api/v1/namespaces/crm/pods"]
    with running(world, tmp_path) as made:
        last = made.start()
    crm, shop = last.report.namespaces
    assert "cannot get /api/v1/namespaces/crm/pods" in crm.error
    assert shop.coverage == 50
    assert made.scans.error == ""
    assert ("could not be read", f"crm: {crm.error}") in logged_texts(logged, "what")


def test_watches_that_are_forbidden_leave_the_interval(world: Watched, tmp_path: Path) -> None:
    world.forbidden = [PODS]
    with running(world, tmp_path, interval=0.05) as made:
        made.start()
        world.pod("crm", "new", unmeshed())
        made.until(lambda _: made.coverage["crm"] == 50)


def test_a_surprise_ends_nothing(
    world: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprising(*_: object) -> None:
        raise ZeroDivisionError("unexpected")

    with running(world, tmp_path) as made:
        with monkeypatch.context() as patched:
            patched.setattr(scan, "CurrentProxies", surprising)
            made.scanner.start()
            made.until_error("ZeroDivisionError: unexpected")
        made.until(lambda last: last.diagnosis is not None)


def test_a_doctor_who_cannot_look_leaves_the_audit(
    world: Watched, tmp_path: Path, logged: Logged
) -> None:
    world.failing = ["/apis/discovery.k8s.io", "/apis/admissionregistration.k8s.io/v1/mutating"
                     "webhookconfigurations"]  # fmt: skip
    with running(world, tmp_path) as made:
        made.scanner.start()
        made.until(lambda _: ("the doctor failed", "etcd is gone") in logged_texts(logged))
    assert made.coverage == {"crm": 100, "shop": 50}
    assert made.scans.error == ""


def test_reports_are_written_with_the_option(world: Watched, tmp_path: Path) -> None:
    world.objects["/apis/openreports.io/v1alpha1"] = {
        "metadata": {"name": "v1alpha1"}, "resources": [{"name": "reports"}]
    }  # fmt: skip
    where = "/apis/openreports.io/v1alpha1/namespaces/{}/reports/mendix-mesh"
    with running(world, tmp_path, reports=True) as made:
        made.start()
        end = time.monotonic() + PATIENCE
        while where.format("shop") not in world.objects:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert world.objects[where.format("shop")]["summary"]["fail"] == 1


def test_named_namespaces_are_looked_at_whether_enrolled_or_not(
    world: Watched, tmp_path: Path
) -> None:
    with running(world, tmp_path, named=("others", "missing")) as made:
        made.start()
        assert made.coverage == {"others": 0}
        world.pod("others", "in", meshed())
        world.tell("/api/v1/namespaces/others/pods", "others", "in")
        world.tell(NAMESPACES, "", "crm")
        made.until(lambda _: made.coverage == {"others": 50})


def test_the_traffic_of_a_scan_stays_until_the_next_full_scan(
    world: Watched, tmp_path: Path
) -> None:
    world.pod("crm", "web-1", owned(meshed(), "Deployment", "web"))
    labels = {"namespace": "crm", "deployment": "web", "tls": "no_identity"}

    def script(request: HttpRequest) -> Reply:
        plaintext = b"request_total" in request.body and b"inbound" in request.body
        result = [{"metric": labels, "value": [1, "12"]}] if plaintext else []
        if b"mendix_mesh_violations_total" in request.body:
            result = [{"metric": {"check": "host-network"}, "value": [1, "7"]}]
        return Reply(200, {"status": "success", "data": {"resultType": "vector", "result": result}})

    (tmp_path / "prometheus").mkdir()
    with serving(script, tmp_path / "prometheus") as prometheus:
        client = Prometheus(prometheus.url)
        with running(world, tmp_path, prometheus=client, window=60) as made:
            first = made.start()
            request = len(prometheus.requests)
            world.pod("crm", "new", unmeshed())
            world.tell(PODS, "crm", "new", "ADDED")
            last = made.until(lambda _: made.coverage["crm"] == 66)
        assert len(prometheus.requests) == request
    for snapshot in (first, last):
        assert snapshot.report.traffic
        assert snapshot.report.traffic.namespaces["crm"].verdict == "plaintext"
        assert snapshot.report.checks["plaintext-traffic"] == 1
        assert snapshot.counts
        assert [(one.check, one.times) for one in snapshot.counts.violations] == [
            ("host-network", 7)
        ]
    exposed = made.metrics.expose().decode()
    assert 'mendix_mesh_findings{check="plaintext-traffic",level="warning"} 1.0' in exposed


def test_a_prometheus_that_is_not_there_leaves_the_audit(world: Watched, tmp_path: Path) -> None:
    client = Prometheus("http://127.0.0.1:1")
    with running(world, tmp_path, prometheus=client) as made:
        last = made.start()
    assert made.coverage == {"crm": 100, "shop": 50}
    assert last.report.traffic
    assert "does not answer" in last.report.traffic.error
    assert last.counts
    assert "does not answer" in last.counts.error


def test_changes_are_taken_once() -> None:
    changes = Changes()
    changes.pod(WatchEvent("shop", "a"))
    changes.pod(WatchEvent("other", "a"))
    changes.watch(["shop", "crm"])
    changes.pod(WatchEvent("other", "b"))
    changes.namespace(WatchEvent("", "new"))
    assert changes.take() == (["new", "shop"], False)
    assert not changes.are_there
    changes.pod(None)
    assert changes.take() == ([], True)
    changes.again(["shop"])
    assert changes.take() == (["shop"], False)
