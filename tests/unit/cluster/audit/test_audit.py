"""The audit: workloads, states of many pods together, coverage, outdated proxies, rights."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from tests.fixtures.changes import annotation, changed
from tests.unit.cluster.world import AFTER, BEFORE, Json, World, meshed, owned, unmeshed
from webhook.cluster.api.errors import ClusterError
from webhook.cluster.audit import Auditor, Report, Row, coverage, together
from webhook.cluster.judge import Judge, State
from webhook.cluster.judge.outdated import CurrentProxies
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import Target, target
from webhook.policy.settings import Settings

ROOTS = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
SETTINGS = Settings()


@pytest.fixture
def world() -> World:
    """Two enrolled namespaces and one that is not; `mendix` has an app that is meshed in part."""
    made = World()
    made.install()
    made.namespace("mendix", "linkerd")
    made.namespace("crm", "linkerd", "warn")
    made.namespace("other")
    made.pod("mendix", "shop-a", owned(meshed(), "Deployment", "shop"))
    made.pod("mendix", "shop-b", owned(unmeshed(), "Deployment", "shop"), created=BEFORE)
    made.pod("mendix", "mendix-backup-restore", unmeshed())
    made.pod("crm", "crm-a", owned(unmeshed(), "StatefulSet", "crm"))
    made.pod("other", "x", unmeshed())
    return made


def audit(
    world: World, folder: Path, *names: str, labels: str = "", total: int = 0
) -> tuple[Report, list[str]]:
    """Audit enrolled namespaces, or the given ones. Return the report and the requests."""
    done: list[str] = []
    with world.serving(folder) as server:
        inventory = Inventory(server.cluster)
        enrollment = Enrollment.read(server.cluster)
        targets: list[Target] = []
        for namespace in inventory.namespaces():
            one = target(namespace, enrollment, "linkerd")
            if namespace.name in names or (not names and one.enrolled):
                targets.append(one)
        auditor = Auditor(inventory, Judge(SETTINGS), CurrentProxies(server.cluster, SETTINGS))
        report = auditor.audit(targets, labels=labels, total=total, progress=done.append)
        assert done == [one.name for one in targets] or total
        return report, server.targets


def rows(report: Report) -> dict[str, Row]:
    return {
        f"{one.name}/{row.kind}/{row.name}": row
        for one in report.namespaces
        for row in one.workloads
    }


def test_pods_from_before_the_enrollment_get_the_command_that_restarts_them(tmp_path: Path) -> None:
    """The namespace has the command that fixes it, if a restart helps."""
    world = World()
    world.install()
    for name in ("mendix", "bare"):
        world.namespace(name, "linkerd")
        world.pod(name, "mendix-backup-restore", unmeshed(), created=BEFORE)
        world.pod(name, "shop-build", unmeshed(), created=BEFORE)
    world.pod("mendix", "shop-0", owned(unmeshed(), "StatefulSet", "shop"), created=BEFORE)
    report, _ = audit(world, tmp_path)
    fixes = {name: one.fix for name, row in rows(report).items() for one in row.findings
             if one.level == "deny"}  # fmt: skip
    assert fixes == {
        "bare/Pod/mendix-backup-restore": "recreate the pod; no controller will",
        "bare/Pod/shop-build": "wait: the task ends by itself, and the next one joins the mesh",
        "mendix/Pod/mendix-backup-restore": "recreate the pod; no controller will",
        "mendix/Pod/shop-build": "wait: the task ends by itself, and the next one joins the mesh",
        "mendix/StatefulSet/shop": "restart the workload: mendix-mesh restart -n mendix "
        "statefulset/shop",
    }
    fixes = {one.name: one.fix for one in report.namespaces}
    assert fixes == {"mendix": "mendix-mesh restart -n mendix", "bare": ""}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ({}, None),
        ({"exempt": 2}, None),
        ({"meshed": 999, "unmeshed": 1}, 99),
        ({"meshed": 3, "exempt": 1}, 100),
        ({"unknown": 1, "meshed": 1}, 50),
    ],
)
def test_coverage_is_a_hundred_only_when_it_is_all(
    pods: dict[State, int], expected: int | None
) -> None:
    assert coverage(Counter(pods)) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["meshed", "meshed"], "meshed"),
        (["meshed", "exempt"], "meshed"),
        (["exempt"], "exempt"),
        (["meshed", "unmeshed"], "partly"),
        (["unmeshed", "partly"], "partly"),
        (["unmeshed", "unknown"], "unmeshed"),
        (["meshed", "unknown"], "unknown"),
    ],
)
def test_a_workload_is_as_its_pods_are(states: list[State], expected: State) -> None:
    assert together(states) == expected


def test_a_label_selector_chooses_pods(world: World, tmp_path: Path) -> None:
    report, _ = audit(world, tmp_path, labels="pod-template-hash=7fd5")
    assert list(rows(report)) == ["mendix/Deployment/shop"]


def many(count: int) -> World:
    world = World()
    world.install()
    for number in range(count):
        world.namespace(f"m{number}", "linkerd")
        for name in ("a", "b"):
            world.pod(f"m{number}", name, meshed())
    world.namespace("other")
    world.pod("other", "x", unmeshed())
    return world


def listed(targets: list[str]) -> list[str]:
    return [one.split("?")[0] for one in targets if "pods" in one]


def test_most_of_a_cluster_is_read_in_one_list(tmp_path: Path) -> None:
    report, targets = audit(many(21), tmp_path, total=22)
    assert len(report.namespaces) == 21
    assert {one.coverage for one in report.namespaces} == {100}
    assert report.pods["meshed"] == 42
    assert listed(targets) == ["/api/v1/pods"]


@pytest.mark.parametrize(("count", "total"), [(21, 43), (20, 20)])
def test_a_small_part_of_a_cluster_is_read_by_namespace(
    tmp_path: Path, count: int, total: int
) -> None:
    report, targets = audit(many(count), tmp_path, total=total)
    assert report.pods["meshed"] == 2 * count
    assert listed(targets) == [f"/api/v1/namespaces/{one.name}/pods" for one in report.namespaces]


def test_a_user_who_cannot_list_the_cluster_reads_it_by_namespace(tmp_path: Path) -> None:
    world = many(21)
    world.forbidden = ["/api/v1/pods", "/api/v1/namespaces/m7/pods"]
    report, _ = audit(world, tmp_path, total=22)
    assert report.pods["meshed"] == 40
    assert [one.name for one in report.namespaces if one.error] == ["m7"]


def test_a_cluster_that_fails_ends_the_audit(
    world: World, tmp_path: Path, waits: list[float]
) -> None:
    world.failing = ["/api/v1/namespaces/mendix/pods"]
    with pytest.raises(ClusterError, match="etcd is gone"):
        audit(world, tmp_path)


# Outdated proxies.


def versions(report: Report) -> dict[str, list[str]]:
    return {
        name: [one.reason.rpartition("(")[2].rstrip(")") for one in row.findings
               if one.check == "proxy-outdated"]
        for name, row in rows(report).items()
    }  # fmt: skip


def old(pod: Json, version: str = "edge-25.1.1") -> Json:
    return changed(pod, annotation("linkerd.io/proxy-version", version))


@pytest.fixture
def aged() -> World:
    made = World()
    made.install()
    made.namespace("mendix", "linkerd")
    made.pod("mendix", "new", meshed(), created=AFTER)
    made.pod("mendix", "old", old(meshed()), created=BEFORE)
    return made


def test_a_proxy_older_than_the_youngest_pods_is_reported(aged: World, tmp_path: Path) -> None:
    report, _ = audit(aged, tmp_path)
    assert versions(report) == {
        "mendix/Pod/new": [], "mendix/Pod/old": ["edge-25.1.1, current: edge-26.8.3"],
    }  # fmt: skip
    assert report.is_good


@pytest.mark.parametrize(
    "values", ["linkerdVersion: edge-26.9.1\n", "proxy: {image: {version: edge-26.9.1}}\n"]
)
def test_what_the_control_plane_injects_counts_more(
    aged: World, tmp_path: Path, values: str
) -> None:
    aged.config_map("linkerd", "linkerd-config", values=values)
    report, _ = audit(aged, tmp_path)
    assert versions(report) == {
        "mendix/Pod/new": ["edge-26.8.3, current: edge-26.9.1"],
        "mendix/Pod/old": ["edge-25.1.1, current: edge-26.9.1"],
    }


def test_a_control_plane_that_must_not_be_seen_is_noted(aged: World, tmp_path: Path) -> None:
    aged.forbidden = ["/api/v1/namespaces/linkerd"]
    report, _ = audit(aged, tmp_path)
    assert versions(report)["mendix/Pod/old"] == ["edge-25.1.1, current: edge-26.8.3"]
    assert len(report.notes) == 2
    assert "linkerd-config" in report.notes[1]


@pytest.mark.parametrize("trimmed", [ROOTS, ROOTS.strip()])
def test_a_pod_that_trusts_other_roots_is_reported(tmp_path: Path, trimmed: str) -> None:
    digest = hashlib.sha256(trimmed.encode()).hexdigest()
    world = World()
    world.install()
    world.namespace("mendix", "linkerd")
    world.config_map("linkerd", "linkerd-identity-trust-roots", **{"ca-bundle_crt": ROOTS})
    same = changed(meshed(), annotation("linkerd.io/trust-root-sha256", digest))
    world.pod("mendix", "same", same)
    world.pod("mendix", "other", meshed())
    report, _ = audit(world, tmp_path)
    found = {name: [f.check for f in row.findings if f.level == "warning"]
             for name, row in rows(report).items()}  # fmt: skip
    assert "trust-anchor-changed" in found["mendix/Pod/other"]
    assert "trust-anchor-changed" not in found["mendix/Pod/same"]


@pytest.mark.parametrize(
    ("values", "now"),
    [
        ('{"global": {"tag": "1.99.0", "proxy": {"image": "proxyv2"}}}', "1.99.0"),
        ('{"global": {"tag": "1.1", "proxy": {"image": "example.com/proxyv2:1.99.1"}}}', "1.99.1"),
    ],
)
def test_istios_proxy_is_compared_with_its_revisions_injector(
    tmp_path: Path, values: str, now: str
) -> None:
    world = World()
    world.install()
    world.namespace("mendix", "istio")
    pod = changed(meshed("istio"), annotation("istio.io/rev", "canary"))
    world.pod("mendix", "a", pod)
    world.config_map("istio-system", "istio-sidecar-injector-canary", values=values)
    report, _ = audit(world, tmp_path)
    ((found,),) = versions(report).values()
    assert found.endswith(f"current: {now}")
