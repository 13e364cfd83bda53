"""The steps of a restart: evictions that wait, pods that stay outside, and timeouts."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.cluster.apiserver import ScriptedServer
from tests.unit.cluster.rolling import RollingWorld
from tests.unit.cluster.world import Json, meshed, unmeshed
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import target
from webhook.cluster.restart import Restarter, RestartError
from webhook.cluster.restart.plan import Planner
from webhook.policy.settings import Settings


@pytest.fixture
def world() -> RollingWorld:
    made = RollingWorld()
    made.install()
    made.namespace("mendix", "linkerd")
    return made


def slow(patch: pytest.MonkeyPatch, world: RollingWorld, kind: str, pod: Json, *names: str) -> None:
    """Make each sleep take a second, and the controller create a pod every seventh second."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) % 7 == 0:
            world.member("mendix", kind, "shop", names[len(slept) // 7 - 1], pod)

    clock = SimpleNamespace(monotonic=lambda: len(slept), sleep=sleep)
    patch.setattr("webhook.cluster.restart.time", clock)
    patch.setattr(world, "_recreate", lambda *_: None)


def restart(
    world: RollingWorld, folder: Path, *, include_bare: bool = False, timeout: float = 20
) -> list[int]:
    """Plan, and carry out the first step. Return the reported progress."""
    with world.serving(folder) as server:
        return _restarted(server, include_bare, timeout)


def _restarted(server: ScriptedServer, include_bare: bool, timeout: float) -> list[int]:
    inventory, judge = Inventory(server.cluster), Judge(Settings())
    namespace, enrollment = inventory.namespace("mendix"), Enrollment.read(server.cluster)
    (step, *_) = Planner(server.cluster, inventory, judge).plan(
        [target(namespace, enrollment, "unknown")], include_bare=include_bare
    )
    progress: list[int] = []
    restarter = Restarter(server.cluster, inventory, judge, timeout=timeout, every=0.001)
    restarter.restart(step, progress.append)
    return progress


def test_pods_are_evicted_one_after_the_other(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "ReplicaSet", "shop", pods=3)
    progress = restart(world, tmp_path)
    assert world.done == [f"evict shop-{number}" for number in range(3)]
    assert progress == [0, 1, 2, 3]


def test_pods_that_are_meshed_are_not_evicted(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "ReplicaSet", "shop", pod=meshed())
    world.member("mendix", "ReplicaSet", "shop", "old", unmeshed())
    restart(world, tmp_path)
    assert world.done == ["evict old"]


def test_the_one_that_is_not_ready_goes_first(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "ReplicaSet", "shop", pods=2)
    world.objects["/api/v1/namespaces/mendix/pods/shop-1"]["status"]["conditions"] = []
    restart(world, tmp_path)
    assert world.done == ["evict shop-1", "evict shop-0"]


def test_a_rollout_is_started_once(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "Deployment", "shop", pods=3)
    assert restart(world, tmp_path) == [3]
    assert world.done == ["restart shop"]
    stored = world.objects["/apis/apps/v1/namespaces/mendix/deployments/shop"]
    annotations = stored["spec"]["template"]["metadata"]["annotations"]
    assert list(annotations) == ["kubectl.kubernetes.io/restartedAt"]
    # The rest of the template does not change.
    assert stored["spec"]["template"]["metadata"]["labels"] == {"app": "shop"}


def test_an_eviction_waits_for_its_budget(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "ReplicaSet", "shop")
    world.held = 3
    restart(world, tmp_path)
    assert (world.held, world.done) == (0, ["evict shop-0"])


@pytest.mark.parametrize("include_bare", [False, True])
def test_a_budget_that_never_allows_it_ends_in_its_own_words(
    world: RollingWorld, tmp_path: Path, include_bare: bool
) -> None:
    if include_bare:
        world.pod("mendix", "mendix-backup-restore", unmeshed())
    else:
        world.workload("mendix", "ReplicaSet", "shop")
    world.held = 10**9
    with pytest.raises(RestartError, match="Cannot evict pod"):
        restart(world, tmp_path, include_bare=include_bare, timeout=0.1)
    assert world.done == []


def test_pods_in_the_mesh_with_an_outdated_policy_are_replaced(
    world: RollingWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = "config.linkerd.io/default-inbound-policy"
    world.namespace("mendix", "linkerd", annotations={policy: "all-authenticated"})

    def young() -> Json:
        pod = meshed()
        pod["metadata"]["annotations"][policy] = "all-authenticated"
        return pod

    old = meshed()
    del old["metadata"]["annotations"][policy]
    world.created_as = young
    world.workload("mendix", "ReplicaSet", "shop", pods=2, pod=old, spec={"replicas": 3})
    world.member("mendix", "ReplicaSet", "shop", "young", young())
    slow(monkeypatch, world, "ReplicaSet", young(), "new-1", "new-2")
    assert restart(world, tmp_path, timeout=10)[-1] == 2
    assert world.done == ["evict shop-0", "evict shop-1"]


def test_a_rollout_has_the_timeout_for_each_pod(
    world: RollingWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.workload("mendix", "StatefulSet", "shop", pods=3, pod=meshed())
    world.member("mendix", "StatefulSet", "shop", "shop-0", unmeshed())
    monkeypatch.setattr(world, "_rolled", world.done.append)
    slow(monkeypatch, world, "StatefulSet", meshed(), "shop-2", "shop-1", "shop-0")
    assert restart(world, tmp_path, timeout=10)[-1] == 1


@pytest.mark.parametrize("outside", [1, 2])
def test_a_controller_of_another_kind_must_replace_a_pod_before_the_next(
    world: RollingWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: int
) -> None:
    for number in range(3):
        pod = unmeshed() if number < outside else meshed()
        world.member("mendix", "Rollout", "shop", f"shop-{number}", pod)
    slow(monkeypatch, world, "Rollout", meshed())
    with pytest.raises(RestartError, match=rf"\({3 - outside} of 3 did\)"):
        restart(world, tmp_path, timeout=5)
    assert world.done == ["evict shop-0"]


def test_a_bare_pod_is_evicted_and_not_waited_for(world: RollingWorld, tmp_path: Path) -> None:
    world.pod("mendix", "mendix-backup-restore", unmeshed())
    assert restart(world, tmp_path, include_bare=True) == [1]
    assert world.done == ["evict mendix-backup-restore"]


def test_a_pod_that_is_outside_again_ends_it_at_once(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "ReplicaSet", "shop", pods=3)
    tried = iter([meshed()])
    world.created_as = lambda: next(tried, unmeshed())
    with pytest.raises(RestartError, match=r"outside the mesh again: proxy-missing: .*runs"):
        restart(world, tmp_path)
    assert world.done == ["evict shop-0"]


def test_a_pod_that_never_becomes_ready_ends_it_with_its_name(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.workload("mendix", "ReplicaSet", "shop", pods=2)
    world.created_as = lambda: {**meshed(), "status": {"phase": "Pending"}}
    with pytest.raises(RestartError) as progress:
        restart(world, tmp_path, timeout=0.1)
    assert "(0 of 2 did); pod shop-new-1 (Pending) is not ready; for the reason see" in str(
        progress.value
    )
    assert world.done == ["evict shop-0"]


def test_the_controllers_own_words_come_first(world: RollingWorld, tmp_path: Path) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded\nquota"}
    world.workload("mendix", "Deployment", "shop", status={"conditions": [failure]})
    world.created_as = lambda: {**meshed(), "status": {"phase": "Pending"}}
    with pytest.raises(RestartError, match=r"exceeded quota$"):
        restart(world, tmp_path, timeout=0.1)


def test_a_rollout_that_its_controller_has_not_seen_is_not_done(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.workload("mendix", "Deployment", "shop", status={"observedGeneration": 0})
    with pytest.raises(RestartError, match=r"\(1 of 1 did\); the restart is not finished"):
        restart(world, tmp_path, timeout=0.1)


def test_a_right_that_is_missing_is_reported(world: RollingWorld, tmp_path: Path) -> None:
    world.workload("mendix", "ReplicaSet", "shop")
    world.forbidden = ["/api/v1/namespaces/mendix/pods/shop-0/eviction"]
    with pytest.raises(RestartError, match=r"cannot post .*/eviction"):
        restart(world, tmp_path)
